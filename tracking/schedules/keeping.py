"""What people do with schedules: create, change, pause, resume, skip, remove."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from tracking import audit
from tracking.audit import Deed
from tracking.audited import Action
from tracking.clock import at_present
from tracking.errors import ScheduleChanged, ScheduleExists, ScheduleNotFound, TooManySchedules
from tracking.models import Owner, Scope
from tracking.origins import By
from tracking.schedules.outcomes import foretold, note
from tracking.schedules.rows import SCHEDULE, schedule_of
from tracking.schedules.times import Rule, first_after
from tracking.schedules.values import Became, Plan, Schedule, Why
from tracking.sql import WITHIN_SCOPE, own
from tracking.values import in_milliseconds

MOST = 1000  # of an organization: each is a row that the leader looks at when it is due


@dataclass(frozen=True, slots=True)
class NewSchedule:
    """A schedule to create. `granted` and `granted_template`: as Schedule has them."""

    id: UUID
    owner: Owner
    plan: Plan
    granted: str | None
    paused: bool = False
    granted_template: str | None = None


def create(connection: Connection, new: NewSchedule, by: By) -> Schedule:
    """Keep a schedule; it is due from now on. Raises ScheduleExists or TooManySchedules. Wants a transaction."""
    connection.execute(ONE_AT_A_TIME, {"organization_id": new.owner.organization_id})
    now = at_present(connection)
    parameters = {
        "id": new.id,
        "organization_id": new.owner.organization_id,
        "user_id": new.owner.user_id,
        "granted": new.granted,
        "granted_template": new.granted_template,
        "now": now,
        "next_at": first_after(new.plan.rule(now), now),
        "paused_by": by.actor if new.paused else None,
        "actor": by.actor,
        **_said(new.plan),
    }
    row = connection.execute(CREATE, parameters).first()
    if row is None:
        raise _exists(new.plan)
    if connection.execute(COUNT, {"organization_id": new.owner.organization_id}).scalar_one() > MOST:
        raise TooManySchedules(f"an organization has {MOST} schedules at most")
    created = schedule_of(row)
    _tell(connection, Action.CREATE_SCHEDULE, created, by)
    return created


def change(
    connection: Connection,
    schedule_id: UUID,
    scope: Scope,
    plan: Plan,
    *,
    granted: str | None,
    version: int,
    by: By,
    granted_template: str | None = None,
) -> Schedule:
    """Let a schedule be what `plan` says, if it is still of that version; the same plan changes nothing.

    With other times it is due from now on. Raises ScheduleNotFound, ScheduleChanged or ScheduleExists.
    """
    known = locked(connection, schedule_id, scope)
    if known.version != version:
        raise ScheduleChanged(f"the schedule {known.plan.name!r} has changed since it was read")
    if (known.plan, known.granted, known.granted_template) == (plan, granted, granted_template):
        return known
    now = at_present(connection)
    is_as_due = known.plan.is_due_as(plan)
    anchor, since, next_at = known.anchor, known.since, known.next_at
    if not is_as_due:
        anchor = now
        since, next_at = _first_open(connection, schedule_id, plan.rule(anchor), now)
    parameters = {
        "id": schedule_id,
        "granted": granted,
        "granted_template": granted_template,
        "anchor": anchor,
        "since": since,
        "next_at": next_at,
        "actor": by.actor,
        **_said(plan),
    }
    try:
        changed = schedule_of(connection.execute(CHANGE, parameters).one())
    except IntegrityError:
        raise _exists(plan) from None
    different = [each.name for each in fields(Plan) if getattr(known.plan, each.name) != getattr(plan, each.name)]
    _tell(connection, Action.CHANGE_SCHEDULE, changed, by, changed=different)
    return changed


def pause(connection: Connection, schedule_id: UUID, scope: Scope, by: By) -> Schedule:
    """From now on it is not due; what is paused already stays so, as it was. Raises ScheduleNotFound."""
    known = locked(connection, schedule_id, scope)
    if known.paused:
        return known
    paused = schedule_of(connection.execute(PAUSE, {"id": schedule_id, "actor": by.actor}).one())
    _tell(connection, Action.PAUSE_SCHEDULE, paused, by)
    return paused


def resume(connection: Connection, schedule_id: UUID, scope: Scope, by: By) -> Schedule:
    """Let it be due again from now on: what would have been due meanwhile was not. Raises ScheduleNotFound.

    What is to be skipped stays so.
    """
    known = locked(connection, schedule_id, scope)
    if not known.paused:
        return known
    since, next_at = _first_open(connection, schedule_id, known.rule, at_present(connection))
    parameters = {"id": schedule_id, "actor": by.actor, "since": since, "next_at": next_at}
    resumed = schedule_of(connection.execute(RESUME, parameters).one())
    _tell(connection, Action.RESUME_SCHEDULE, resumed, by)
    return resumed


def skip_next(connection: Connection, schedule_id: UUID, scope: Scope, by: By) -> Schedule:
    """Let its next due time make no job; twice, the next two. Raises ScheduleNotFound."""
    known = locked(connection, schedule_id, scope)
    if known.next_at is None or known.paused:
        return known
    note(connection, schedule_id, [known.next_at], Became.SKIPPED, reason=Why.ASKED, actor=by.actor)
    following = {"id": schedule_id, "since": known.next_at, "next_at": first_after(known.rule, known.next_at)}
    skipped = schedule_of(connection.execute(MOVE, following).one())
    _tell(connection, Action.SKIP_NEXT, skipped, by, dueAt=in_milliseconds(known.next_at))
    return skipped


def remove(connection: Connection, schedule_id: UUID, scope: Scope, by: By) -> Schedule:
    """Forget a schedule; its jobs stay. What it was. Raises ScheduleNotFound."""
    row = connection.execute(REMOVE, {"id": schedule_id, **scope.parameters}).first()
    if row is None:
        raise ScheduleNotFound
    removed = schedule_of(row)
    _tell(connection, Action.REMOVE_SCHEDULE, removed, by)
    return removed


def named(connection: Connection, organization_id: str, name: str) -> Schedule | None:
    """The schedule of this name; None: there is none."""
    row = connection.execute(NAMED, {"organization_id": organization_id, "name": name}).first()
    return schedule_of(row) if row is not None else None


def locked(connection: Connection, schedule_id: UUID, scope: Scope) -> Schedule:
    """A schedule that nobody else changes before the end of the transaction. Raises ScheduleNotFound."""
    row = connection.execute(LOCK, {"id": schedule_id, **scope.parameters}).first()
    if row is None:
        raise ScheduleNotFound
    return schedule_of(row)


def tell_run(connection: Connection, schedule: Schedule, job_id: UUID, by: By) -> None:
    """Write into the audit that somebody has had a job of it made."""
    _tell(connection, Action.RUN_SCHEDULE, schedule, by, jobId=str(job_id))


def _first_open(
    connection: Connection, schedule_id: UUID, rule: Rule, now: datetime
) -> tuple[datetime, datetime | None]:
    """Since when it is due, and the first due time: after those of which somebody has said that they are skipped."""
    skipped = foretold(connection, schedule_id, now)
    since, due_at = now, first_after(rule, now)
    while due_at in skipped:
        since, due_at = due_at, first_after(rule, due_at)
    return since, due_at


def _tell(connection: Connection, action: Action, schedule: Schedule, by: By, **detail: Any) -> None:
    said: Mapping[str, Any] = {"name": schedule.plan.name, **detail}
    deed = Deed(action, by.actor, schedule.owner.organization_id, str(schedule.id), detail=said)
    audit.write(connection, by.origin, deed)


def _exists(plan: Plan) -> ScheduleExists:
    return ScheduleExists(f"there is a schedule {plan.name!r} already")


def _said(plan: Plan) -> dict[str, Any]:
    said = {each.name: getattr(plan, each.name) for each in fields(Plan)}
    return {**said, "payload": Jsonb(dict(plan.payload)), "metadata": Jsonb(dict(plan.metadata))}


_NAMES = [each.name for each in fields(Plan)]

LOCK = text(f"SELECT {SCHEDULE} FROM schedules WHERE id = :id AND {WITHIN_SCOPE} FOR UPDATE")

ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtextextended('schedules of ' || :organization_id, 0))")

COUNT = text(f"SELECT count(*) FROM schedules WHERE {own()}")

NAMED = text(f"SELECT {SCHEDULE} FROM schedules WHERE {own()} AND name = :name")

CREATE = text(
    f"""
    INSERT INTO schedules (id, organization_id, user_id, {", ".join(_NAMES)}, granted,
                           granted_template, anchor, since, next_at,
                           paused, paused_by, paused_at, changed_by)
    VALUES (:id, :organization_id, :user_id, {", ".join(f":{name}" for name in _NAMES)}, :granted,
            :granted_template, :now, :now, :next_at,
            CAST(:paused_by AS text) IS NOT NULL, :paused_by,
            CASE WHEN CAST(:paused_by AS text) IS NOT NULL THEN CAST(:now AS timestamptz) END, :actor)
    ON CONFLICT (organization_id, name) DO NOTHING
    RETURNING {SCHEDULE}"""
)

CHANGE = text(
    f"""
    UPDATE schedules
    SET {", ".join(f"{name} = :{name}" for name in _NAMES)}, granted = :granted,
        granted_template = :granted_template, anchor = :anchor,
        since = :since, next_at = :next_at, version = version + 1, changed_by = :actor, updated_at = clock_timestamp()
    WHERE id = :id
    RETURNING {SCHEDULE}"""
)

PAUSE = text(
    f"""
    UPDATE schedules
    SET paused = true, paused_by = :actor, paused_at = clock_timestamp(), version = version + 1, changed_by = :actor,
        updated_at = clock_timestamp()
    WHERE id = :id
    RETURNING {SCHEDULE}"""
)

RESUME = text(
    f"""
    UPDATE schedules
    SET paused = false, paused_by = NULL, paused_at = NULL, since = :since, next_at = :next_at, version = version + 1,
        changed_by = :actor, updated_at = clock_timestamp()
    WHERE id = :id
    RETURNING {SCHEDULE}"""
)

MOVE = text(
    f"""
    UPDATE schedules SET since = :since, next_at = :next_at, updated_at = clock_timestamp()
    WHERE id = :id
    RETURNING {SCHEDULE}"""
)

REMOVE = text(f"DELETE FROM schedules WHERE id = :id AND {WITHIN_SCOPE} RETURNING {SCHEDULE}")
