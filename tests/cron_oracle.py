"""When cron is due, by looking at every minute: slow, and without a line of what it judges.

What it knows: five fields, an hour that is left out in spring and one that comes twice in autumn. A fixed time, one
with neither minute nor hour beginning with `*`, comes once on each day that matches: at the first of two such minutes,
and at the next minute that there is when its own is left out. Every other expression is due at each that matches.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)
RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def due_times(expression: str, zone: str, after: datetime, until: datetime) -> list[datetime]:
    """All due times after a moment, up to and with another one."""
    fields = expression.split()
    is_fixed = not fields[0].startswith("*") and not fields[1].startswith("*")
    found = _once_a_day(fields, zone, after, until) if is_fixed else _each(fields, zone, after, until)
    return sorted(each for each in found if after < each <= until)


def _each(fields: list[str], zone: str, after: datetime, until: datetime) -> set[datetime]:
    return {minute for minute, local in _minutes(zone, after, until) if _matches(fields, local)}


def _once_a_day(fields: list[str], zone: str, after: datetime, until: datetime) -> set[datetime]:
    """Wall times are looked up among the minutes that there are, of a day more at each end."""
    day = timedelta(days=1)
    first: dict[datetime, datetime] = {}
    for minute, local in _minutes(zone, after - day, until + day):
        first.setdefault(local.replace(tzinfo=None, fold=0), minute)
    found = set()
    wall, last = min(first), max(first)
    while wall <= last:
        if _matches(fields, wall):
            there = wall
            while there not in first and there <= last:
                there += MINUTE
            if there in first:
                found.add(first[there])
        wall += MINUTE
    return found


def _minutes(zone: str, after: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    minute, place = after.replace(second=0, microsecond=0), ZoneInfo(zone)
    while minute <= until:
        yield minute, minute.astimezone(place)
        minute += MINUTE


def _matches(fields: list[str], at: datetime) -> bool:
    minutes, hours, days, months, weekdays = (
        _numbers(field, *span) for field, span in zip(fields, RANGES, strict=True)
    )
    by_day, by_weekday = at.day in days, not {at.isoweekday(), at.isoweekday() % 7}.isdisjoint(weekdays)
    is_either = not fields[2].startswith("*") and not fields[4].startswith("*")
    is_its_day = by_day or by_weekday if is_either else by_day and by_weekday
    return at.minute in minutes and at.hour in hours and at.month in months and is_its_day


def _numbers(field: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        if span == "*":
            start, end = low, high
        else:
            start = int(first)
            end = int(last) if last else high if step else start
        found |= set(range(start, end + 1, int(step or 1)))
    return found
