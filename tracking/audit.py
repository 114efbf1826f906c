"""The audit: who did what, from where, with what outcome. Each entry is of the transaction of what it tells.

A verb of a job's is told by its row of history, which names its actor anyway: that costs no row beside it. It
becomes an entry of its own when the job is removed. Everything else has a row of its own from the beginning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Select, func, literal_column, select, text, union

from tracking.audited import Action, Outcome
from tracking.origins import Origin, origin_parameter
from tracking.schema import audit, history
from tracking.sql import chosen, jsonb, owned
from tracking.states import Event


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of `audit`. `organization_id` None: it concerns all of them.

    `target`: the id of a job, or the name of a type or an organization. `actor_organization_id` None: an operator at a
    terminal, or somebody who reaches the broker. `code`: why it was refused.
    """

    id: int
    at: datetime
    organization_id: str | None
    actor: str
    actor_organization_id: str | None
    action: str
    target: str | None
    source: str
    address: str | None
    request_id: str | None
    outcome: str
    code: str | None
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Deed:
    """What an entry tells of, as in Entry."""

    action: Action
    actor: str
    organization_id: str | None
    target: str | None = None
    outcome: Outcome = Outcome.DONE
    code: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sought:
    """Which entries: those of one organization (None: of all, and those that concern all), and narrowed by the rest.

    `strangers`: by their names those of other organizations are found, too.
    """

    organization_id: str | None
    actor: str | None = None
    strangers: bool = True
    actions: Sequence[str] = ()
    target: str | None = None
    source: str | None = None
    outcome: str | None = None
    after: datetime | None = None
    before: datetime | None = None


def write(connection: Connection, origin: Origin | None, deed: Deed) -> None:
    """Write an entry, in the caller's transaction; without an origin none is written."""
    if origin is not None:
        told = {each.name: getattr(deed, each.name) for each in fields(deed)}
        connection.execute(WRITE, {**told, "detail": jsonb(deed.detail), **origin_parameter(origin)})


def find(connection: Connection, sought: Sought, *, before_id: int | None, size: int) -> Sequence[Entry]:
    """The entries that match, newest first, that were written before the one of that id; at most `size`."""
    told = [_told(sought, before_id, size), _kept(sought, before_id, size)]
    # One whose job is being removed may be told and kept at the same time.
    found = union(*(each for each in told if each is not None)).subquery()
    rows = connection.execute(select(found).order_by(found.c.id.desc()).limit(size))
    return [Entry(**row._mapping) for row in rows]  # noqa: SLF001 - a public name


def _kept(sought: Sought, before_id: int | None, size: int) -> Select[Any]:
    """Those that have a row of their own."""
    columns = {name: audit.c[name] for name in NAMES}
    return _matching(columns, sought, before_id, size, [])


def _told(sought: Sought, before_id: int | None, size: int) -> Select[Any] | None:
    """Those that a job's history tells; None: none of them matches."""
    if sought.outcome not in (None, Outcome.DONE):
        return None
    conditions: list[Any] = [history.c.origin.is_not(None)]
    if sought.target is not None:
        try:
            conditions.append(history.c.job_id == UUID(sought.target))
        except ValueError:
            return None
    columns = {"id": history.c.id, **{name: literal_column(sql, audit.c[name].type) for name, sql in AS_ENTRY.items()}}
    columns |= {name: history.c[name] for name in ("at", "organization_id")}
    return _matching(columns, replace(sought, target=None, outcome=None), before_id, size, conditions).select_from(
        history
    )


def _matching(
    columns: Mapping[str, Any], sought: Sought, before_id: int | None, size: int, conditions: Sequence[Any]
) -> Select[Any]:
    equal = ("actor", "target", "source", "outcome")
    where = [columns[name] == getattr(sought, name) for name in equal if getattr(sought, name) is not None]
    if sought.organization_id is not None:
        where.append(owned(columns["organization_id"], sought.organization_id))
    if sought.actor is not None and not sought.strangers:
        whose = columns["organization_id"]
        where.append(func.coalesce(columns["actor_organization_id"], whose) == whose)
    if sought.actions:
        where.append(columns["action"].in_(sought.actions))
    if sought.after is not None:
        where.append(columns["at"] >= sought.after)
    if sought.before is not None:
        where.append(columns["at"] < sought.before)
    if before_id is not None:
        where.append(columns["id"] < before_id)
    labelled = [columns[name].label(name) for name in NAMES]
    return select(*labelled).where(*where, *conditions).order_by(columns["id"].desc()).limit(size)


def forget(connection: Connection, older_than: timedelta, limit: int) -> int:
    """Delete entries that are older, the oldest first, at most `limit`; returns how many."""
    oldest = select(audit.c.id, audit.c.at).order_by(audit.c.id).limit(limit).subquery()
    old = select(oldest.c.id).where(oldest.c.at < func.clock_timestamp() - older_than)
    return connection.execute(audit.delete().where(audit.c.id.in_(old))).rowcount


# What the columns of `audit` are of a row of `history`.
_ACTIONS = {
    Event.CREATED: Action.CREATE_JOB,
    Event.CANCELLED: Action.CANCEL_JOB,
    Event.RETRIED: Action.RETRY_JOB,
    Event.RETRIED_ANEW: Action.RETRY_JOB,
}
AS_ENTRY = {
    "at": "at",
    "organization_id": "organization_id",
    "actor": "coalesce(origin ->> 'actor', actor)",
    "actor_organization_id": "origin ->> 'organization'",
    "action": f"coalesce({chosen('event', _ACTIONS)}, '{Action.CHANGE_JOB}')",
    "target": "CAST(job_id AS text)",
    "source": "origin ->> 'source'",
    "address": "origin ->> 'address'",
    "request_id": "origin ->> 'request'",
    "outcome": f"'{Outcome.DONE}'",
    "code": "CAST(NULL AS text)",
    "detail": "jsonb_strip_nulls(jsonb_build_object('jobType', job_type, 'from', from_status, 'to', to_status))",
}
NAMES = ("id", *AS_ENTRY)

WRITE = text(
    """
    INSERT INTO audit (id, organization_id, actor, actor_organization_id, action, target, source, address, request_id,
                       outcome, code, detail)
    SELECT nextval('history_id_seq'), :organization_id, coalesce(origin ->> 'actor', :actor),
           origin ->> 'organization', :action, :target,
           origin ->> 'source', origin ->> 'address', origin ->> 'request', :outcome, :code, CAST(:detail AS jsonb)
    FROM (SELECT CAST(:origin AS jsonb) AS origin) AS came"""
)
