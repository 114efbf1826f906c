"""The schedules that somebody sees, with what became of their last due times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from tracking.errors import ScheduleNotFound
from tracking.models import Scope
from tracking.reads.places import place_of
from tracking.schedules import outcomes
from tracking.schedules.rows import SCHEDULE, schedule_of
from tracking.schedules.values import Outcome, Schedule
from tracking.sql import SCOPE, WITHIN_SCOPE

SHOWN = 5  # outcomes beside a schedule


def get(connection: Connection, schedule_id: UUID, scope: Scope) -> Schedule:
    """One schedule. Raises ScheduleNotFound, also for one outside the scope."""
    row = connection.execute(GET, {"id": schedule_id, **scope.parameters}).first()
    if row is None:
        raise ScheduleNotFound
    return _with_outcomes(connection, [schedule_of(row)])[0]


def page(connection: Connection, scope: Scope, *, after: str | None, size: int) -> Sequence[Schedule]:
    """Schedules by name, that come after this name (None: the first ones)."""
    rows = connection.execute(PAGE, {"after": after, "size": size, **scope.parameters})
    return _with_outcomes(connection, [schedule_of(row) for row in rows])


def everywhere(connection: Connection, *, after: str | None, size: int) -> Sequence[Schedule]:
    """Schedules of all organizations, by these and by name, behind a cursor of places.py. Raises InvalidValue."""
    organization_id, name = place_of(after)
    rows = connection.execute(EVERYWHERE, {"organization_id": organization_id, "after": name, "size": size})
    return _with_outcomes(connection, [schedule_of(row) for row in rows])


def of_all(connection: Connection, organization_id: str | None) -> Sequence[Schedule]:
    """All schedules of an organization, or of all of them (None), for an operator: by organization and name."""
    rows = connection.execute(ALL, {"organization_id": organization_id})
    return _with_outcomes(connection, [schedule_of(row) for row in rows])


def outcomes_of(
    connection: Connection, schedule_id: UUID, scope: Scope, *, before: datetime | None, size: int
) -> Sequence[Outcome]:
    """What became of the due times of a schedule, as outcomes.page. Raises ScheduleNotFound."""
    if connection.execute(GET, {"id": schedule_id, **scope.parameters}).first() is None:
        raise ScheduleNotFound
    return outcomes.page(connection, schedule_id, before=before, size=size)


def _with_outcomes(connection: Connection, found: Sequence[Schedule]) -> Sequence[Schedule]:
    last = outcomes.latest(connection, [each.id for each in found], SHOWN)
    return [replace(each, last=last.get(each.id, ())) for each in found]


GET = text(f"SELECT {SCHEDULE} FROM schedules WHERE id = :id AND {WITHIN_SCOPE}")

PAGE = text(
    f"""
    SELECT {SCHEDULE} FROM schedules
    WHERE {SCOPE} AND (CAST(:after AS text) IS NULL OR name > CAST(:after AS text))
    ORDER BY name LIMIT :size"""
)

EVERYWHERE = text(
    f"""
    SELECT {SCHEDULE} FROM schedules
    WHERE (organization_id, name) > (CAST(:organization_id AS text), CAST(:after AS text))
    ORDER BY organization_id, name LIMIT :size"""
)

ALL = text(
    f"""
    SELECT {SCHEDULE} FROM schedules
    WHERE CAST(:organization_id AS text) IS NULL OR organization_id = :organization_id
    ORDER BY organization_id, name"""
)
