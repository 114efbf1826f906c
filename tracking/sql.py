"""What the SQL of the verbs is put together from."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import Row, TextClause, bindparam, text
from sqlalchemy.types import TypeEngine

from tracking.models import JobRecord
from tracking.schema import jobs
from tracking.states import Hold, Status


def listed(statuses: tuple[Status, ...]) -> str:
    """The statuses as SQL literals."""
    return ", ".join(f"'{status}'" for status in statuses)


def logged(
    changed: str,
    event: str,
    actor: str,
    detail: str,
    *,
    dispatch: str = "dispatch",
    kept: str = "'{}'",
    circuit_key: str = "NULL",
    at: str = "clock_timestamp()",
) -> str:
    """The INSERT of one history row for each row of `changed`: the job's columns and `from_status`.

    What is null in `detail` is left out at every depth; `kept` is added as it is. `circuit_key`: of the circuit in
    which the event counts.
    """
    return f"""
        INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                             attempt, dispatch, actor, detail, circuit_key, at)
        SELECT id, organization_id, user_id, job_type, {event}, from_status, status,
               attempt, {dispatch}, {actor}, jsonb_strip_nulls({detail}) || {kept}, {circuit_key}, {at}
        FROM {changed}"""


def statement(sql: str, **types: type[TypeEngine[Any]] | TypeEngine[Any]) -> TextClause:
    """A statement whose parameters have these types."""
    return text(sql).bindparams(*(bindparam(name, type_=kind) for name, kind in types.items()))


def for_driver(sql: str) -> str:
    """The same SQL with its parameters written as psycopg wants them: `:name` becomes `%(name)s`."""
    return re.sub(r"(?<![:\w]):([a-z_]+)", r"%(\1)s", sql)


def record(row: Row[Any] | Any, **known: Any) -> JobRecord:
    """A row of `jobs`, SQLAlchemy's or the driver's, with or without further columns, as a value.

    `known`: the columns that the row lacks.
    """
    values = {name: known[name] if name in known else getattr(row, name) for name in jobs.c.keys()}  # noqa: SIM118 - SQLAlchemy's public name
    values["status"] = Status(values["status"])
    values["hold"] = Hold(values["hold"]) if values["hold"] else None
    return JobRecord(**values)
