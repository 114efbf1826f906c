"""What the SQL of the verbs is put together from. Parameters are written `:name`, with a CAST where a type is open."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import ColumnElement, Row

from tracking.columns import columns_of
from tracking.models import JobRecord
from tracking.schema import jobs
from tracking.states import Event, Hold, Status, sources


def own(column: str = "organization_id", asking: str = ":organization_id") -> str:
    """SQL: that a row is of the organization that asks. Every read for a request has it from here, or from `owned`.

    The database sees to the same by itself (row_security.py): without this a query is slow, and shows nothing more.
    """
    return f"{column} = {asking}"


def owned(column: ColumnElement[Any], organization_id: str) -> ColumnElement[bool]:
    """The same as an expression."""
    return column == organization_id


# Of a list: an index answers it.
SCOPE = f"{own()} AND (CAST(:user_id AS text) IS NULL OR user_id = :user_id)"

# Of rows that are found by their ids: also in EVERYWHERE, as operators ask.
WITHIN_SCOPE = (
    f"(CAST(:organization_id AS text) = '' OR {own()}) AND (CAST(:user_id AS text) IS NULL OR user_id = :user_id)"
)

# Of rows that are found by their lease: that a job is running. Said so that only the index of leases has it; else the
# planner may read all that is active as well, for each worker. What stops is not running any more.
RUNS_THERE = f"(status = '{Status.RUNNING}' OR stopping) AND NOT stopping"

ACTOR = "CAST(:actor AS text)"

ORIGIN = "CAST(:origin AS jsonb)"

JOB = columns_of(jobs)

PARAMETER = re.compile(r"(?<![:\w]):([a-z_]+)")  # not a cast, `::`, nor a time of day


def move(
    event: Event | str,
    change: str,
    detail: str,
    *,
    find: str = "",
    read: str = "",
    wait: str = "FOR UPDATE",
    locked: str = "",
    given: str = "",
    to: Status | None = None,
    out_of: Sequence[Status] = (),
    beside: str = "",
    guard: str = "",
    returning: str = f"{JOB}, locked.from_status",
    logs: str = "moved",
    answer: str = "SELECT * FROM moved",
    **columns: str,
) -> str:
    """SQL: lock rows, change those that are as expected, write a history row for each of them, and answer.

    locked: a SELECT of `id` and `from_status` that locks; or `find`, the condition for it, `read`, more columns of the
        locked rows, as they were before, and `wait`, how it locks. `given`: common table expressions that it uses.
    to: the new status. The guard is that the state machine has this move, as this event, from the status of the locked
        row; `out_of`: from these statuses only. Without it the status stays. `guard`: what else must be so of that row.
    beside: what else the change reads, an item of a FROM.
    event: an Event, or SQL for one. `logs`: the rows to write history of, when they are not simply those that moved.
        columns: further arguments of `logged`.
    """
    if to is not None:
        legal = sources(Event(event), to)
        assert set(out_of) <= set(legal), (event, to, out_of)  # noqa: S101 - of this program, when it is imported
        change = f"status = '{to}', {change}"
        guard = f"from_status IN ({listed(out_of or legal)})" + (guard and f" AND {guard}")
    locked = locked or f"SELECT id, status AS from_status{read and f', {read}'} FROM jobs WHERE {find} {wait}"
    return f"""
    WITH {given and f"RECURSIVE {given}, "}locked AS (
        {locked}
    ), moved AS (
        UPDATE jobs
        SET {change}, updated_at = clock_timestamp()
        FROM locked{beside and f", {beside}"}
        WHERE jobs.id = locked.id{guard and f" AND {guard}"}
        RETURNING {returning}
    ), logged AS ({logged(logs, event, detail, **columns)}
    )
    {answer}"""


UNLESS_LOCKED = "FOR UPDATE SKIP LOCKED"


def each_locked(arrays: Mapping[str, str], read: str, among: str = "true") -> str:
    """SQL: the rows of `jobs` with the ids `:id`, locked in their order, beside what is given with each id.

    `arrays`: further parameters with the types of their elements; of each an id has one, as the column `given_...`.
    `read`: more columns of the locked rows. `among`: which rows of `jobs` it may lock. What somebody else has locked is
    left out.

    Each row is looked up by itself, by its primary key. The LIMIT is all of them; but the planner takes a limit that it
    does not know for a tenth, and of one row it looks up the update by the key as well. For more, a plan that is made
    while the table is small reads all of it, and goes on to when the table has grown.
    """
    unnested = ", ".join(f"CAST(:{name} AS {of}[])" for name, of in {"id": "uuid", **arrays}.items())
    names = ", ".join(["id", *(f"given_{name}" for name in arrays)])
    return f"""SELECT given.*, found.*
        FROM (SELECT * FROM unnest({unnested}) AS given ({names})
              ORDER BY id LIMIT cardinality(CAST(:id AS uuid[]))) AS given
        CROSS JOIN LATERAL (SELECT status AS from_status, {read} FROM jobs
                            WHERE jobs.id = given.id{"" if among == "true" else f" AND {among}"} {UNLESS_LOCKED}
                           ) AS found"""


def logged(
    changed: str,
    event: Event | str,
    detail: str,
    *,
    by: str = ACTOR,
    dispatch: str = "dispatch",
    kept: str = "'{}'",
    circuit_key: str = "NULL",
    origin: str = "NULL",
    at: str = "clock_timestamp()",
) -> str:
    """SQL: the INSERT of one history row for each row of `changed`: the job's columns and `from_status`.

    `by`: SQL for who did it. What is null in `detail` is left out at every depth; `kept` is added as it is.
    `circuit_key`: of the circuit in which the event counts. `origin`: SQL for from where somebody has asked for it.
    """
    return f"""
        INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                             attempt, dispatch, actor, detail, circuit_key, origin, at)
        SELECT id, organization_id, user_id, job_type, {f"'{event}'" if isinstance(event, Event) else event},
               from_status, status, attempt, {dispatch}, {by},
               jsonb_strip_nulls({detail}) || {kept}, {circuit_key}, {origin}, {at}
        FROM {changed}"""


def in_life(job: str) -> str:
    """SQL: whether a row of the history may be of this job, by its time, so that the partitions before it are left out.

    An hour is for a clock that was set back. Rows that are older are of a job that had the same id and was removed.
    """
    return f"at >= {job}.created_at - interval '1 hour'"


def listed(words: Sequence[str]) -> str:
    """SQL: the words of a vocabulary, such as statuses, as literals."""
    return ", ".join(f"'{word}'" for word in words)


def chosen(value: str, outcomes: Mapping[Any, Any]) -> str:
    """SQL: what `outcomes` has for a value."""
    cases = " ".join(f"WHEN '{key}' THEN '{outcome}'" for key, outcome in outcomes.items())
    return f"CASE {value} {cases} END"


def jsonb(value: Any) -> Jsonb | None:
    """A parameter: JSON, or a null of SQL for None."""
    return None if value is None else Jsonb(value)


def array(values: Iterable[str | int | UUID | None]) -> str:
    """A parameter: an array as PostgreSQL writes it. The driver takes 30 times as long for the same."""
    return "{" + ",".join(map(element, values)) + "}"


def element(value: str | int | UUID | None) -> str:
    """One element of such an array."""
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return value.hex if isinstance(value, UUID) else str(value)


class DriverSql(str):
    """SQL for db.run, which goes to psycopg as it is."""

    __slots__ = ()


def for_driver(sql: str) -> DriverSql:
    """The same SQL with its parameters written as psycopg wants them: `:name` becomes `%(name)s`."""
    return DriverSql(PARAMETER.sub(r"%(\1)s", sql))


def record(row: Row[Any] | Any, **known: Any) -> JobRecord:
    """A row of `jobs`, SQLAlchemy's or the driver's, with or without further columns, as a value.

    `known`: the columns that the row lacks.
    """
    values = [known[name] if name in known else getattr(row, name) for name in _NAMES] if known else [*_values(row)]
    values[_STATUS] = Status(values[_STATUS])
    if values[_HOLD] is not None:
        values[_HOLD] = Hold(values[_HOLD])
    return JobRecord(*values)


_NAMES = JobRecord._fields
_values = attrgetter(*_NAMES)  # of a row, in a third of the time that a dict of its names takes
_STATUS, _HOLD = _NAMES.index("status"), _NAMES.index("hold")
