"""Accepting many jobs at once: thousands of rows, with their history, in one statement."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Self
from uuid import UUID

from sqlalchemy import Connection

from tracking.admission.rule import Limits, is_behind, is_served, lines_joined, next_hold
from tracking.db import run
from tracking.errors import InvalidValue, TrackingError
from tracking.jobs.submit import (
    CREATED,
    INSERTED,
    columns,
    is_external,
    is_same,
    revoked_by,
    same,
    unknown_among,
    unless_revoked,
)
from tracking.models import JobRecord, NewJob, Scope, Submitted
from tracking.sql import ACTOR, JOB, array, element, for_driver, logged, own
from tracking.states import Event, Hold, Status

BATCH = 1000  # rows in one statement: none may take long
MOST_LOCKED = 250  # milliseconds to wait for another submit of the same key


def submit_all(
    connection: Connection, new: Sequence[NewJob], limits: Limits, *, scope: Callable[[NewJob], Scope]
) -> list[Submitted | TrackingError]:
    """Accept jobs as if each was submitted after the ones before it; an answer for each of them, in their order.

    One that is refused is answered with what `submit` raises, and the others are accepted. With one exception nothing
    else differs: a job that needs one of its organization's slots goes into the line, though there may be room. Whoever
    submits many has the lines looked at, once for each organization. Wants a transaction when all or none is to be
    written. `scope`: the jobs on which one may depend.
    """
    answers: list[Submitted | TrackingError] = []
    for part in _parts(new):
        waiting: list[NewJob] = []
        unknown = unknown_among(connection, [(job, scope(job)) for job in part])
        for place, job in enumerate(part):
            if job.id in job.depends_on or place in unknown:
                answers += _submit(connection, waiting, limits)
                answers.append(_existing(connection, job, unknown.get(place, ())))
                waiting = []
            else:
                waiting.append(job)
        answers += _submit(connection, waiting, limits)
    return answers


def submit_together(connection: Connection, new: Sequence[NewJob], limits: Limits) -> list[JobRecord]:
    """Accept jobs that are new, all of them, and may depend on one another: one statement for each BATCH.

    What each of them depends on is among them, or is known to be the caller's. A job that needs one of its
    organization's slots goes into the line, as by `submit_all`. Wants a transaction.
    """
    made: dict[UUID, JobRecord] = {}
    for start in range(0, len(new), BATCH):
        made |= _insert(connection, new[start : start + BATCH], limits)
    return [made[job.id] for job in new]


@dataclass(frozen=True, slots=True)
class NewRow:
    """A job as a statement for many takes it: its columns, and what is JSON of them as text."""

    given: Mapping[str, Any]
    documents: Mapping[str, str]

    @classmethod
    def of(cls, job: NewJob) -> Self:
        """The row of this job, with the trace that its thread is in."""
        given = columns(job)
        return cls(given, {name: json.dumps(given[name]) if given[name] else "{}" for name in _DOCUMENTS})

    @property
    def size(self) -> int:
        """How many characters its JSON has: all else of a job is short."""
        return sum(map(len, self.documents.values()))


def submit_most(connection: Connection, new: Sequence[NewRow], limits: Limits) -> list[Submitted | None]:
    """Accept jobs in one statement; None for each that `submit` has to judge.

    That are those that are there already, also because of one before it, and those that may pass by their
    organization's line. For jobs without dependencies and of no actor but their owners. Waits for no lock longer than
    MOST_LOCKED, so that one of them does not keep the others waiting: raises DBAPIError then, and nothing is written.
    Wants a connection that is in no transaction.
    """
    first = {row.given["id"]: row for row in reversed(new)}
    asked = list(first.values())
    patience = (LOCK_PATIENCE, {"milliseconds": str(MOST_LOCKED)})
    _, rows = run(connection, patience, (SUBMIT_MOST, {**_arrays(asked), "actor": None, **limits.parameters}))
    created = _created(connection, asked, rows)
    found = [(row, created.get(row.given["id"])) for row in new]
    return [Submitted(job, created=True) if job and first[job.id] is row else None for row, job in found]


def _parts(new: Sequence[NewJob]) -> Iterator[Sequence[NewJob]]:
    """What a statement may have: jobs of one actor that have nothing to do with each other."""
    start, seen = 0, set[object]()
    for place, job in enumerate(new):
        about = {job.id, *job.depends_on, job.idempotency_key and (job.owner, job.idempotency_key)} - {None}
        if job.actor != new[start].actor or not seen.isdisjoint(about) or place - start == BATCH:
            yield new[start:place]
            start, seen = place, set()
        seen |= about - {*job.depends_on}
    yield new[start:]


def _existing(connection: Connection, job: NewJob, unknown: Sequence[UUID] = ()) -> Submitted | TrackingError:
    if job.id in job.depends_on:
        return InvalidValue("a job cannot depend on itself")
    return _answer(job, _existing_among(connection, [job]).get(job.id), unknown)


def _submit(connection: Connection, new: Sequence[NewJob], limits: Limits) -> Iterator[Submitted | TrackingError]:
    created = _insert(connection, new, limits)
    there = _existing_among(connection, [job for job in new if job.id not in created])
    for job in new:
        accepted = created.get(job.id)
        yield Submitted(accepted, created=True) if accepted else _answer(job, there.get(job.id))


def _answer(job: NewJob, row: Any, unknown: Sequence[UUID] = ()) -> Submitted | TrackingError:
    try:
        return same(job, row, unknown)
    except TrackingError as refused:
        return refused


def _existing_among(connection: Connection, new: Sequence[NewJob]) -> dict[UUID, Any]:
    """The rows that are there instead of these jobs, by the ids of those: of thousands in one round trip."""
    if not new:
        return {}
    [rows] = run(connection, (EXISTING_ALL, _arrays([NewRow.of(job) for job in new])))
    return {row.asked_id: row for row in rows}


def _insert(connection: Connection, new: Sequence[NewJob], limits: Limits) -> dict[UUID, JobRecord]:
    """The rows that are new, by their ids."""
    if not new:
        return {}
    given = [NewRow.of(job) for job in new]
    [rows] = run(connection, (SUBMIT_ALL, {**_arrays(given), "actor": new[0].actor, **limits.parameters}))
    return _created(connection, given, rows)


def _created(connection: Connection, new: Sequence[NewRow], rows: Iterable[Any]) -> dict[UUID, JobRecord]:
    sent = {row.given["id"]: row.given for row in new}
    return {row.id: unless_revoked(connection, _record(row, sent[row.id]), row.revoked_by) for row in rows}


def _arrays(new: Sequence[NewRow]) -> dict[str, str]:
    """The parameters: an array of each column. Most jobs of a request share most of their values: written once."""
    columns_of = {name: [row.given[name] for row in new] for name in GIVEN if name not in _DOCUMENTS}
    columns_of |= {name: [row.documents[name] for row in new] for name in _DOCUMENTS}
    return {name: _array(columns_of[name], of) for name, of in GIVEN.items()}


def _array(values: Sequence[Any], of: str) -> str:
    first = values[0]
    if all(value is first for value in values):
        elements = [_element(first, of)] * len(values)
    else:
        elements = [_element(value, of) for value in values]
    return "{" + ",".join(elements) + "}"


def _element(value: Any, of: str) -> str:
    if of in ARRAYS and value is not None:
        return element(array(value))
    # What is no number, id or text is read by PostgreSQL as Python writes it.
    return element(value if value is None or isinstance(value, str | int | UUID) else str(value))


def _record(row: Any, given: Mapping[str, Any]) -> JobRecord:
    made = {name: getattr(row, name) for name in _MADE}
    hold = Hold(row.hold) if row.hold else None
    return JobRecord(*_values({**UNSAID, **given, **made, "hold": hold}))


ARRAYS = ("uuid[]", "text[]")

# What is given with each job.
GIVEN = {
    "id": "uuid",
    "organization_id": "text",
    "user_id": "text",
    "project_id": "text",
    "job_type": "text",
    "priority": "int",
    "queue": "text",
    "max_retries": "int",
    "payload": "jsonb",
    "metadata": "jsonb",
    "delivery": "jsonb",
    "message": "text",
    "parent_id": "uuid",
    "root_id": "uuid",
    "group_id": "text",
    "group_index": "int",
    "idempotency_key": "text",
    "request_hash": "text",
    "circuit_key": "text",
    "external": "bool",
    "origin": "jsonb",
    "depends_on": "uuid[]",
    "depends_when": "text[]",
    "unresolved": "bool",
    "scheduled_at": "timestamptz",
    "delay": "interval",
}
_DOCUMENTS = [name for name, of in GIVEN.items() if of == "jsonb"]

# What else a new job is: it has no result, no worker, nothing has happened to it.
UNSAID: dict[str, Any] = {
    **dict.fromkeys(JobRecord._fields),
    "dispatch": 1,
    "status": Status.QUEUED,
    "stopping": False,
    "external": False,
    **dict.fromkeys(("attempt", "retry_count", "losses", "progress", "current_step", "total_steps"), 0),
}
# And what the statement says of it.
_MADE = ("external", "scheduled_at", "due_at", "created_at", "updated_at")
_values = itemgetter(*UNSAID)

# As PostgreSQL gets them: it cannot take an array of arrays of any lengths apart, and reads JSON faster from text.
_ARRAYS = ", ".join(f"CAST(:{name} AS {'text' if of in {'jsonb', *ARRAYS} else of}[])" for name, of in GIVEN.items())
_PARSED = ", ".join(
    is_external("external", "given.job_type") if name == "external" else f"CAST({name} AS {of}) AS {name}"
    for name, of in GIVEN.items()
)
_TOLD = "(SELECT created.*, nullif(asked.origin, '{}') AS came FROM created JOIN asked USING (id)) AS told"


def _accepting(which: str) -> str:
    """SQL: the rows and the history of those of the given jobs that are so.

    The rule is asked before the INSERT, and of each organization and queue once whether jobs join a line.
    """
    return f"""
    WITH asked AS MATERIALIZED (
        SELECT *, CAST(NULL AS uuid) AS follows, CAST(NULL AS text) AS follows_group, '{Status.QUEUED}' AS status,
               0 AS attempt, coalesce(scheduled_at, clock_timestamp() + delay) AS due_at
        FROM (SELECT {_PARSED}, place
              FROM unnest({_ARRAYS}) WITH ORDINALITY AS given ({", ".join(GIVEN)}, place)) AS parsed
    ), {lines_joined("asked")}, judged AS MATERIALIZED (
        SELECT asked.*, {next_hold("asked", joins="lines.joins")} AS hold
        FROM asked JOIN lines USING (organization_id, queue)
    ), created AS (
        INSERT INTO jobs ({INSERTED}, hold)
        SELECT {INSERTED.replace("scheduled_at", "due_at AS scheduled_at")}, hold
        FROM judged
        WHERE {which}
        ORDER BY place
        ON CONFLICT DO NOTHING
        RETURNING {JOB}, CAST(NULL AS text) AS from_status
    ), logged AS ({logged(_TOLD, Event.CREATED, CREATED, by=f"coalesce({ACTOR}, user_id)", origin="came")}
    )
    SELECT id, hold, external, scheduled_at, due_at, created_at, updated_at, {revoked_by("created")} AS revoked_by
    FROM created"""


SUBMIT_ALL = for_driver(_accepting("true"))

# Without those that may pass by the line: for them its lock is taken, and rows are counted.
SUBMIT_MOST = for_driver(
    _accepting(f"hold IS DISTINCT FROM 'organization_limit' OR {is_behind('judged')} OR NOT {is_served('judged')}")
)

# Either half is found by its own index.
_IDENTITY = ("id", "organization_id", "user_id", "idempotency_key", "job_type", "payload", "delivery")
_FOUND = f"""SELECT {JOB}, {is_same("asked.job_type", "asked.payload", "asked.delivery")}
        FROM jobs WHERE {own("jobs.organization_id", "asked.organization_id")}"""
EXISTING_ALL = for_driver(
    f"""
    SELECT asked.id AS asked_id, found.*
    FROM (SELECT {", ".join(f"CAST({name} AS {GIVEN[name]}) AS {name}" for name in _IDENTITY)}
          FROM unnest({", ".join(f"CAST(:{name} AS text[])" for name in _IDENTITY)})
               AS given ({", ".join(_IDENTITY)})) AS asked
    CROSS JOIN LATERAL (
        {_FOUND} AND jobs.user_id = asked.user_id AND jobs.idempotency_key = asked.idempotency_key
        UNION ALL
        {_FOUND} AND asked.idempotency_key IS NULL AND jobs.id = asked.id
    ) AS found"""
)

LOCK_PATIENCE = for_driver("SELECT set_config('lock_timeout', :milliseconds, true)")
