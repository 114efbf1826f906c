"""The conditions of a list, of whatever order, divided into what indexes answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Select, literal, select, tuple_, union

from tracking.models import Scope
from tracking.reads import search
from tracking.reads.answers import Filters
from tracking.reads.everywhere import IS_THEIRS, IS_WORK, of_each
from tracking.reads.past import ways_to_have_been
from tracking.schedule_tables import outcomes
from tracking.schema import jobs
from tracking.sql import owned
from tracking.states import ACTIVE, FINISHED, Status

MOST_WAYS = 8  # types that a search looks up one by one
LOOKED_AT = 10_000  # jobs in which one look searches for what no index has
LOOKED_AT_OF_EACH = 500  # the same of each organization, where those of all are asked for
IS_OVER = jobs.c.completed_at.is_not(None)

Way = Sequence[ColumnElement[bool]]
Place = tuple[datetime, UUID]  # of a job in the order of creation


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
    ways, unindexed = _ways(connection, scope, filters, only)
    return [[*way, *unindexed] for way in ways]


def bounded(
    connection: Connection, scope: Scope, filters: Filters, *follows: ColumnElement[bool]
) -> tuple[list[list[ColumnElement[bool]]], Place | None]:
    """The ways of a list that is in the order of creation, newest first, and where the look through it ends.

    What no index answers is looked for in the newest jobs that match all else, so many of each way. The place is the
    oldest of these: with it as a cursor the next look goes on. None: that were all.
    """
    ways, unindexed = _ways(connection, scope, filters, ())
    ways = [[*way, *follows] for way in ways]
    if not unindexed:
        return ways, None
    end = _end(connection, ways, spread=is_spread(scope, filters))
    within = [] if end is None else [tuple_(jobs.c.created_at, jobs.c.id) >= tuple_(*map(literal, end))]
    return [[*way, *within, *unindexed] for way in ways], end


def _end(connection: Connection, ways: Sequence[Way], *, spread: bool) -> Place | None:
    most = LOOKED_AT_OF_EACH if spread else LOOKED_AT

    def last(way: Way) -> Select[Any]:
        newest = select(jobs.c.created_at, jobs.c.id).where(*way)
        return newest.order_by(jobs.c.created_at.desc(), jobs.c.id.desc()).offset(most - 1).limit(1)

    ends = of_all(ways, last, spread=spread).subquery()
    row = connection.execute(select(ends).order_by(ends.c.created_at.desc(), ends.c.id.desc()).limit(1)).first()
    return None if row is None else (row.created_at, row.id)


def _ways(
    connection: Connection, scope: Scope, filters: Filters, only: Sequence[ColumnElement[bool]]
) -> tuple[list[list[ColumnElement[bool]]], list[ColumnElement[bool]]]:
    """The ways, and what each job has to fulfil besides, which no index answers."""
    conditions, wanted = _plainly(scope, filters), set(filters.statuses or Status)
    wanted = wanted if filters.error is None else wanted & {Status.FAILED}
    wanted = set(Status) if filters.as_of is not None else wanted
    types: Sequence[str] = [filters.job_type] if filters.job_type else []
    places: list[ColumnElement[bool]] = []
    unindexed: list[ColumnElement[bool]] = []
    if filters.search:
        found = search.divided(connection, scope, filters.search)
        conditions, places, unindexed = conditions + found.qualified, found.places, found.unindexed
        types = found.types if found.has_words else types or found.types
        wanted &= set(found.statuses)
    return _then(_divided(conditions, wanted, types, places, only), filters), unindexed


def _then(ways: list[list[ColumnElement[bool]]], filters: Filters) -> list[list[ColumnElement[bool]]]:
    """The same ways, of jobs that had one of the statuses at the time of the filters."""
    if filters.as_of is None or not filters.statuses:
        return ways
    return [[*way, *then] for way in ways for then in ways_to_have_been(filters.statuses, filters.as_of)]


def _divided(
    conditions: list[ColumnElement[bool]],
    wanted: set[Status],
    types: Sequence[str],
    places: Sequence[ColumnElement[bool]],
    only: Sequence[ColumnElement[bool]],
) -> list[list[ColumnElement[bool]]]:
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
    """These columns, with the id, of the jobs that match, in no order, of at most `most`."""
    ways, spread = ways_to(connection, scope, filters), is_spread(scope, filters)
    found = of_all(ways, lambda way: select(*columns).where(*way).limit(most), spread=spread).subquery()
    return select(*found.c).limit(most)


def of_all(ways: Sequence[Way], query: Callable[[Way], Select[Any]], *, spread: bool) -> Any:
    """What a query finds in any of the ways, each job once."""
    found = [of_each(query(way)) if spread else query(way) for way in ways]
    return found[0] if len(found) == 1 else union(*(select(each.subquery()) for each in found))


def _states(wanted: set[Status]) -> list[list[ColumnElement[bool]]]:
    """Of the jobs of a type, which may be in these statuses, the parts that have an index each."""
    if wanted <= {Status.FAILED, Status.CANCELLED}:
        return [[]]  # theirs has the type, and needs no more
    states = ((FINISHED, IS_OVER), (ACTIVE, status_in(ACTIVE)))
    return [[condition] for statuses, condition in states if wanted & set(statuses)]


def _plainly(scope: Scope, filters: Filters) -> list[ColumnElement[bool]]:
    conditions = visible_to(scope)
    if is_spread(scope, filters):
        conditions += [IS_THEIRS] if filters.deliveries else [IS_THEIRS, IS_WORK]
    equal = {jobs.c.job_type: filters.job_type, jobs.c.project_id: filters.project_id, jobs.c.user_id: filters.user_id}
    conditions += [column == value for column, value in equal.items() if value is not None]
    if filters.as_of is not None:
        conditions.append(jobs.c.created_at <= filters.as_of)
    elif filters.statuses:
        conditions.append(status_in(filters.statuses))
    conditions += _between(jobs.c.created_at, filters.created_from, filters.created_to)
    conditions += _between(jobs.c.completed_at, filters.completed_from, filters.completed_to)
    if filters.completed_to is not None:  # follows from a CHECK: a list is in the order of creation
        conditions.append(jobs.c.created_at < filters.completed_to)
    if filters.error is not None:
        conditions += [jobs.c.fingerprint == filters.error, status_in([Status.FAILED])]
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
    mine = [] if scope.is_everywhere else [owned(jobs.c.organization_id, scope.organization_id)]
    return mine if scope.user_id is None else [*mine, jobs.c.user_id == scope.user_id]
