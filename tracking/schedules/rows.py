"""A row of `schedules` as a value."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from tracking.columns import columns_of
from tracking.models import Owner
from tracking.schedule_tables import schedules
from tracking.schedules.values import CatchUp, Overlap, Plan, Schedule

SCHEDULE = columns_of(schedules)  # what it wants to know


def schedule_of(row: Any) -> Schedule:
    """The row, with or without further columns, as a value."""
    said = {name: getattr(row, name) for name in _SAID}
    said |= {"catch_up": CatchUp(row.catch_up), "overlap": Overlap(row.overlap)}
    kept = {name: getattr(row, name) for name in _KEPT}
    return Schedule(owner=Owner(row.organization_id, row.user_id), plan=Plan(**said), **kept)


_SAID = [each.name for each in fields(Plan)]
_KEPT = [each.name for each in fields(Schedule) if each.name not in ("owner", "plan", "last")]
