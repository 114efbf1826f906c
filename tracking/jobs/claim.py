"""Taking a job for one attempt, and saying no to messages that may not start one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, text

from tracking.admission.rule import BY_ADMISSION, is_broken, is_paused, is_unlooked, leaves_place, met_again
from tracking.batches import ask, in_turns
from tracking.db import Statement
from tracking.models import Attempt, Claim, Fence, Owner, Refusal
from tracking.sql import array, each_locked, for_driver, listed, logged, move
from tracking.states import FINISHED, WAITING, Event, Status


def claim(connection: Connection, claims: Sequence[Claim], *, waits: bool = True) -> list[Attempt | Refusal]:
    """Take queued jobs for one attempt each, in one transaction; an answer for each claim, in their order.

    A refused claim is written to the job's history when there is such a job. `waits`: for jobs that somebody else is
    changing; their answer is LOCKED otherwise, and nothing of them is written.
    """
    answers: dict[int, Attempt | Refusal] = {}
    for turn in in_turns([wish.fence for wish in claims]):
        ids = {place: claims[place].fence.job_id for place in turn}
        rows = ask(connection, ids, lambda places: [(CLAIM, _wishes(claims, places))], waits=waits)
        for place in turn:
            answers[place] = _answer(connection, claims[place], rows.get(place, Refusal.UNKNOWN))
        refused = {place: row for place, row in rows.items() if isinstance(answers[place], Refusal)}
        answers |= _refuse(connection, claims, refused, answers, waits=waits)
    return [answers[place] for place in range(len(claims))]


def refuse(connection: Connection, fence: Fence, held: Fence, *, worker: str) -> Refusal:
    """Write into its job's history that a message was not run, as its worker has the message of `held` already."""
    refusal = Refusal.REPEATED if fence == held else Refusal.STALE
    ask(connection, {0: fence.job_id}, lambda _: [_log([(0, fence, worker, refusal)])], waits=True)
    return refusal


def _wishes(claims: Sequence[Claim], places: Sequence[int]) -> dict[str, Any]:
    wishes = [claims[place] for place in places]
    return {
        **_by_id(places, [wish.fence for wish in wishes]),
        "claim_id": array(wish.claim_id for wish in wishes),
        "worker": array(wish.worker for wish in wishes),
        "lease": array(wish.lease for wish in wishes),
        "job_type": array(wish.job_type for wish in wishes),
    }


def _answer(connection: Connection, wish: Claim, row: Any) -> Attempt | Refusal:
    if isinstance(row, Refusal):
        return row
    if row.attempt is not None:
        return _attempt(wish.fence, row)
    is_current = row.from_dispatch == wish.fence.dispatch
    if is_current and row.had_claim == wish.claim_id and row.from_status == Status.RUNNING:
        known = connection.execute(KNOWN, {"id": wish.fence.job_id, "claim_id": wish.claim_id}).first()
        return _attempt(wish.fence, known) if known else Refusal.FINISHED  # granted before; the reply was lost
    if wish.job_type not in (None, row.of_type):
        return Refusal.OTHER_TYPE
    return _refusal(row) if is_current else Refusal.STALE


def _refuse(
    connection: Connection,
    claims: Sequence[Claim],
    rows: Mapping[int, Any],
    answers: Mapping[int, Any],
    *,
    waits: bool,
) -> dict[int, Refusal]:
    """Hold back what has met a gate, write down the other refusals; returns LOCKED for those that cannot be now."""

    def statements(places: Sequence[int]) -> Iterator[Statement]:
        gated = [place for place in places if answers[place] is Refusal.HELD and rows[place].held is None]
        if gated:
            yield HOLD_BACK, _by_id(gated, [claims[place].fence for place in gated])
        others = [(place, claims[place]) for place in places if place not in gated]
        if others:
            yield _log([(place, wish.fence, wish.worker, answers[place]) for place, wish in others])

    ids = {place: claims[place].fence.job_id for place, row in rows.items() if row is not Refusal.LOCKED}
    written = ask(connection, ids, statements, waits=waits) if ids else {}
    return {place: answer for place, answer in written.items() if answer is Refusal.LOCKED}


def _log(refused: Sequence[tuple[int, Fence, str, Refusal]]) -> Statement:
    places, fences, workers, reasons = map(list, zip(*refused, strict=True))
    return LOG_REFUSAL, {**_by_id(places, fences), "actor": array(workers), "reason": array(reasons)}


def _by_id(places: Sequence[int], fences: Sequence[Fence]) -> dict[str, Any]:
    return {
        "id": array(fence.job_id for fence in fences),
        "place": array(places),
        "dispatch": array(fence.dispatch for fence in fences),
    }


def _refusal(known: Any) -> Refusal:
    status = Status(known.from_status)
    if status is Status.CANCELLED:
        return Refusal.CANCELLED
    if status is Status.RUNNING:
        return Refusal.RUNNING
    return Refusal.FINISHED if status in FINISHED else Refusal.HELD


def _attempt(fence: Fence, row: Any) -> Attempt:
    return Attempt(
        fence=fence,
        attempt=row.attempt,
        owner=Owner(row.organization_id, row.user_id),
        project_id=row.project_id,
        job_type=row.job_type,
        retry_count=row.retry_count,
        max_retries=row.max_retries,
        root_id=row.root_id,
        group_id=row.group_id,
        group_index=row.group_index,
        parent_id=row.parent_id,
        payload=row.payload,
        delivery=row.delivery,
        leaves_place=getattr(row, "leaves_place", False),
    )


_ATTEMPT = """attempt, organization_id, user_id, project_id, job_type, retry_count, max_retries, root_id,
           group_id, group_index, parent_id, payload, delivery"""

# FULL: what moved is looked up in a hash, however few the planner expects.
CLAIM = for_driver(
    move(
        Event.STARTED,
        """attempt = attempt + 1, worker = given_worker, lease = given_lease, claim_id = given_claim_id, due_at = NULL,
            started_at = clock_timestamp(), progress = 0, progress_detail = NULL, current_step = 0,
            dispatched_at = coalesce(dispatched_at, clock_timestamp())""",
        "jsonb_build_object('priority', priority, 'worker', worker)",
        locked=each_locked(
            {
                "place": "int",
                "dispatch": "int",
                "claim_id": "uuid",
                "worker": "text",
                "lease": "uuid",
                "job_type": "text",
            },
            "hold AS held, dispatch AS from_dispatch, claim_id AS had_claim, job_type AS of_type",
        ),
        to=Status.RUNNING,
        guard=f"""from_dispatch = given_dispatch AND job_type = coalesce(given_job_type, job_type)
          AND held IS NULL AND NOT {is_paused("jobs")} AND NOT {is_broken("jobs")} AND NOT {is_unlooked("jobs")}""",
        by="worker",
        returning=f"jobs.id, given_place, dispatch, {_ATTEMPT}, status, priority, worker, from_status, queue",
        answer=f"""SELECT given_place AS place, locked.from_status, from_dispatch, held, had_claim, of_type,
           {_ATTEMPT}, {leaves_place("moved")} AS leaves_place
    FROM locked FULL JOIN moved USING (given_place)""",
    )
)

KNOWN = text(f"SELECT {_ATTEMPT} FROM jobs WHERE id = :id AND claim_id = :claim_id AND status = '{Status.RUNNING}'")

# What was already sent when its type or organization was paused or limited, or its circuit opened. If that is over by
# now, the job is to be sent again.
HOLD_BACK = for_driver(
    move(
        Event.HELD,
        f"hold = {met_again('jobs')}, limit_key = NULL, dispatched_at = NULL",
        "jsonb_build_object('hold', hold)",
        locked=each_locked({"place": "int", "dispatch": "int"}, "dispatch AS from_dispatch, hold AS held"),
        guard=f"from_dispatch = given_dispatch AND held IS NULL AND from_status IN ({listed(WAITING)})",
        by=BY_ADMISSION,
        logs="moved WHERE hold IS NOT NULL",
        answer="SELECT given_place AS place FROM locked",
    )
)

LOG_REFUSAL = for_driver(
    f"""
    WITH refused AS (
        {
        each_locked(
            {"place": "int", "dispatch": "int", "actor": "text", "reason": "text"},
            "status, organization_id, user_id, job_type, attempt, dispatch",
        )
    }
    ), logged AS ({
        logged(
            "refused",
            Event.DUPLICATE_REFUSED,
            "jsonb_build_object('reason', given_reason, 'dispatch', given_dispatch)",
            by="given_actor",
        )
    })
    SELECT given_place AS place FROM refused"""
)
