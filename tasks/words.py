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
    minute, hour, day, month, weekday = fields.split()
    try:
        if "*" in (day, weekday):
            return _described(fields)
        # Either is enough, unless one begins with *: that library says so of some days of the week only.
        is_either = not day.startswith("*") and not weekday.startswith("*")
        at, days = _described(f"{minute} {hour} * * *"), _of_field(f"* * {day} * *")
        weekdays = _of_field(f"* * * * {weekday}").removeprefix("only ")
        only_in = _of_field(f"* * * {month} *")
    except (FormatError, ValueError, KeyError, IndexError):  # what cron takes and that library does not
        return fields
    return ", ".join(filter(None, (at, days, f"{'or' if is_either else 'but only'} {weekdays}", only_in)))


def _of_field(fields: str) -> str:
    """What is said of the one field that is not *; empty: it is *, too."""
    _, _, said = _described(fields).partition(", ")
    return said


def _described(fields: str) -> str:
    options = Options(casing_type=CasingTypeEnum.Sentence, use_24hour_time_format=True, locale_code="en_US")
    return str(ExpressionDescriptor(fields, options).get_full_description())
