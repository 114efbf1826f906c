"""When a schedule is due, in words."""

from __future__ import annotations

from functools import lru_cache

from cron_descriptor import CasingTypeEnum, ExpressionDescriptor, FormatError, Options  # type: ignore[import-untyped]

from tracking.schedules.times import Cron
from tracking.schedules.values import Plan

UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def in_words(plan: Plan) -> str:
    """Such as "At 06:30, Monday through Friday, Europe/Berlin", or "Every 5 minutes"."""
    if plan.cron is not None and plan.timezone is not None:
        return f"{_of_cron(Cron(plan.cron, plan.timezone).fields)}, {plan.timezone}"
    return _of_interval(plan.every_seconds or 0)


def _of_interval(seconds: int) -> str:
    size, unit = next((size, unit) for size, unit in UNITS if seconds % size == 0)
    return f"Every {unit}" if seconds == size else f"Every {seconds // size:,} {unit}s"


@lru_cache(1024)
def _of_cron(fields: str) -> str:
    options = Options(casing_type=CasingTypeEnum.Sentence, use_24hour_time_format=True, locale_code="en_US")
    try:
        return str(ExpressionDescriptor(fields, options).get_full_description())
    except (FormatError, ValueError, KeyError, IndexError):  # what cron takes and that library does not
        return fields
