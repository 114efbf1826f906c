"""The conditions of a list, of whatever order, divided into what indexes answer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, literal, select

from tracking.models import Scope
from tracking.reads import search
from tracking.reads.answers import Filters
from tracking.reads.everywhere import IS_THEIRS, of_each
from tracking.schedule_tables import outcomes
from tracking.schema import jobs
from tracking.states import ACTIVE, FINISHED, Status

MOST_WAYS = 8  # types that a search looks up one by one
IS_OVER = jobs.c.completed_at.is_not(None)

Way = Sequence[ColumnElement[bool]]


def matches(connection: Connection, scope: Scope, filters: Filters) -> list[ColumnElement[bool]]:
    """The conditions of a query for the jobs of a scope that match."""
    conditions = _plainly(scope, filters)
    return [*conditions, *search.conditions(connection, scope, filters.search)] if filters.search else conditions


def ways_to(
    connection: Connection, scope: Scope, filters: Filters, *only: ColumnElement[bool]
) -> list[list[ColumnElement[bool]]]:
    """The same conditions, divided so that an index answers each way; what matches does so in one of them, or more.

    `only`: instead of both the jobs that are over and those that are not.
    """
    conditions, wanted = _plainly(scope, filters), set(filters.statuses or Status)
    types: Sequence[str] = [filters.job_type] if filters.job_type else []
    places: list[ColumnElement[bool]] = []
    if filters.search:
        found = search.divided(connection, scope, filters.search)
        conditions, places = conditions + found.qualified, found.places
        types = found.types if found.has_words else types or found.types
        wanted &= set(found.statuses)
    if len(types) > MOST_WAYS:  # as many are not rare: they are met on the way through the list
        return [[*conditions, way] for way in (jobs.c.job_type.in_(types), *places)]
    states = [[condition] for condition in only] or _states(wanted)
    ways = [[jobs.c.job_type == name, *state] for name in types for state in states] + [[place] for place in places]
    return [[*conditions, *way] for way in ways] or [conditions]


def is_spread(scope: Scope, filters: Filters) -> bool:
    """Whether each organization is asked in turn: what names single jobs has indexes for all of them."""
    return scope.is_everywhere and not filters.ids and filters.schedule_id is None


def chosen(
    connection: Connection, scope: Scope, filters: Filters, columns: Sequence[ColumnElement[Any]], most: int
) -> Select[Any]:
    """These columns of the jobs that match, in no order, of at most `most`."""
    found = select(*columns).where(*matches(connection, scope, filters)).limit(most)
    return of_each(found).limit(most) if is_spread(scope, filters) else found


def _states(wanted: set[Status]) -> list[list[ColumnElement[bool]]]:
    """Of the jobs of a type, which may be in these statuses, the parts that have an index each."""
    if wanted <= {Status.FAILED, Status.CANCELLED}:
        return [[]]  # theirs has the type, and needs no more
    states = ((FINISHED, IS_OVER), (ACTIVE, status_in(ACTIVE)))
    return [[condition] for statuses, condition in states if wanted & set(statuses)]


def _plainly(scope: Scope, filters: Filters) -> list[ColumnElement[bool]]:
    conditions = [*visible_to(scope), IS_THEIRS] if is_spread(scope, filters) else visible_to(scope)
    equal = {jobs.c.job_type: filters.job_type, jobs.c.project_id: filters.project_id, jobs.c.user_id: filters.user_id}
    conditions += [column == value for column, value in equal.items() if value is not None]
    if filters.statuses:
        conditions.append(status_in(filters.statuses))
    conditions += _between(jobs.c.created_at, filters.created_from, filters.created_to)
    conditions += _between(jobs.c.completed_at, filters.completed_from, filters.completed_to)
    if filters.completed_to is not None:  # follows from a CHECK: a list is in the order of creation
        conditions.append(jobs.c.created_at < filters.completed_to)
    if filters.ids:
        conditions.append(jobs.c.id.in_(filters.ids))
    if filters.schedule_id is not None:
        made = select(outcomes.c.job_id).where(outcomes.c.schedule_id == filters.schedule_id)
        conditions.append(jobs.c.id.in_(made.where(outcomes.c.job_id.is_not(None))))
    return conditions


def status_in(statuses: Sequence[Status]) -> ColumnElement[bool]:
    """Whether a job has one of these statuses: as literals, for which the planner can use the partial indexes."""
    return jobs.c.status.in_([literal(str(status), literal_execute=True) for status in statuses])


def _between(
    column: ColumnElement[datetime | None] | ColumnElement[datetime], start: datetime | None, end: datetime | None
) -> list[ColumnElement[bool]]:
    lower = [column >= start] if start is not None else []
    return [*lower, column < end] if end is not None else lower


def visible_to(scope: Scope) -> list[ColumnElement[bool]]:
    """Whether a job is in the scope."""
    mine = [] if scope.is_everywhere else [jobs.c.organization_id == scope.organization_id]
    return mine if scope.user_id is None else [*mine, jobs.c.user_id == scope.user_id]
