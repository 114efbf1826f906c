"""How a verb treats many jobs at once: like each by itself, one after the other, but in one round trip."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from tracking.db import Statement, run
from tracking.models import Fence, Refusal
from tracking.sql import array, for_driver


def in_turns(fences: Sequence[Fence]) -> Iterator[list[int]]:
    """The places of a batch, in their order and in as many turns as a job is in it at most.

    A statement changes each job once.
    """
    places = list(range(len(fences)))
    while places:
        turn = {fences[place].job_id: place for place in reversed(places)}
        yield sorted(turn.values())
        places = [place for place in places if turn[fences[place].job_id] != place]


def ask(
    connection: Connection,
    ids: Mapping[int, UUID],
    statements: Callable[[Sequence[int]], Iterable[Statement]],
    *,
    waits: bool,
) -> dict[int, Any]:
    """The row that a verb answers with for each of the jobs, by their places; none for a job that does not exist.

    `statements`: the verb, for some of the places. It skips what somebody else has locked: `waits` for that, and then
    repeats it; otherwise its answer is Refusal.LOCKED.
    """
    places = list(ids)
    answers = {row.place: row for rows in run(connection, *statements(places)) for row in rows}
    skipped = [place for place in places if place not in answers]
    if not skipped:
        return answers
    wanted = {"id": array(ids[place] for place in skipped)}
    if waits:
        _, *found = run(connection, (WAIT_FOR, wanted), *statements(skipped))
        return answers | {row.place: row for rows in found for row in rows}
    [existing] = run(connection, (EXISTING, wanted))
    locked = {row.id for row in existing}
    return answers | {place: Refusal.LOCKED for place in skipped if ids[place] in locked}


WAIT_FOR = for_driver("SELECT id FROM jobs WHERE id = ANY(CAST(:id AS uuid[])) ORDER BY id FOR UPDATE")

EXISTING = for_driver("SELECT id FROM jobs WHERE id = ANY(CAST(:id AS uuid[]))")
