"""Reads over all organizations, for operators: of each what its own indexes answer, put together.

No index begins with a time for all of them: each job would pay for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select, true

from tracking.schema import jobs
from tracking.webhooks import DELIVERING

Order = Sequence[ColumnElement[Any]]


def _organizations() -> Any:
    """All organizations that have a job, by one probe of an index for each; the last row is null."""
    begin = select(func.min(jobs.c.organization_id).label("id")).cte("whose", recursive=True)
    after = select(func.min(jobs.c.organization_id)).where(jobs.c.organization_id > begin.c.id)
    return begin.union_all(select(after.scalar_subquery()).where(begin.c.id.is_not(None)))


WHOSE = _organizations()
IS_THEIRS = jobs.c.organization_id == WHOSE.c.id  # a job of the organization whose turn it is
IS_WORK = ~WHOSE.c.id.startswith(DELIVERING, autoescape=True)  # and no delivery of its webhooks: these have their own


def of_each(found: Select[Any]) -> Select[Any]:
    """What a query with IS_THEIRS finds, of each organization in turn."""
    theirs = found.lateral("theirs")
    return select(*theirs.c).select_from(WHOSE.join(theirs, true()))


def first(conditions: Sequence[ColumnElement[bool]], order: Order, limit: int) -> Select[Any]:
    """The ids of the first jobs in this order; IS_THEIRS is among the conditions."""
    keys: list[Any] = [getattr(each, "element", each) for each in order]  # of a descending one, the column
    columns = {column.key: column for column in (jobs.c.id, *keys)}
    mine = of_each(select(*columns.values()).where(*conditions).order_by(*order).limit(limit)).subquery()
    found = [mine.c[key.key] for key in keys]
    ordered = [column if each is key else column.desc() for each, key, column in zip(order, keys, found, strict=True)]
    return select(mine.c.id).order_by(*ordered).limit(limit)
