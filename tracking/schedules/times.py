"""When a schedule is due: the times of cron in a zone, or one after the other at the same distance. All are in UTC."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from tracking.errors import InvalidValue

LONGEST_INTERVAL = 400 * 24 * 3600  # seconds
LAST = {"minute": 59, "hour": 23, "day": 31, "month": 12, "weekday": 7}
SHORTHANDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
SOON = timedelta(hours=12)  # longer than what any clock repeats, shorter than from one change to the next
NO_PLACES = ("Factory", "localtime", "posixrules")  # what zone databases hold besides zones


@dataclass(frozen=True, slots=True)
class Cron:
    """The five fields of cron, or one of SHORTHANDS, by the clock of an IANA zone.

    As Debian's cron has it, a fixed time comes once in the hour that autumn repeats, and at the next minute that exists
    when spring leaves it out; with `*` as the minute or the hour it comes as often as that does.
    """

    expression: str
    zone: str

    def after(self, moment: datetime) -> Iterator[datetime]:
        """The due times after a moment, which are as good as endless; none may be left in fifty years."""
        minute, hour, *_ = self.fields.split()
        is_fixed = not minute.startswith("*") and not hour.startswith("*")
        return self._fixed(moment) if is_fixed else self._each(moment)

    @property
    def fields(self) -> str:
        """The expression with all its fields."""
        return SHORTHANDS.get(self.expression.strip().lower(), self.expression)

    def _fixed(self, moment: datetime) -> Iterator[datetime]:
        """Each time of the clock once: the first of two, or the next one that there is."""
        zone, last = ZoneInfo(self.zone), moment
        for wall in CronSim(self.fields, moment.astimezone(zone).replace(tzinfo=None)):
            there = wall
            while _of_clock(there, zone).astimezone(zone).replace(tzinfo=None) != there:
                there += MINUTE
            due = _of_clock(there, zone)
            if due > last:  # not the first of two, when the second hour has begun; nor two that spring moves to one
                yield due
                last = due

    def _each(self, moment: datetime) -> Iterator[datetime]:
        """Every time of the clock that matches, in one stretch after the other in which the clock is not changed.

        The steps of an hour that cronsim takes with a zone jump over the half hour that Lord Howe repeats.
        """
        zone, last = ZoneInfo(self.zone), moment
        start: datetime | None = moment
        while start is not None:
            offset = _offset(last, zone)
            walls = CronSim(self.fields, (start + offset).replace(tzinfo=None))
            start = None
            for wall in walls:
                due = wall.replace(tzinfo=UTC) - offset
                beyond = next((each for each in (min(due, last + SOON), due) if _offset(each, zone) != offset), None)
                if beyond is not None:
                    last = _changed(last, beyond, zone)
                    start = last - SECOND  # that minute is looked at as well
                    break
                yield due
                last = due


@dataclass(frozen=True, slots=True)
class Every:
    """So many seconds after `anchor`, and so on."""

    seconds: int
    anchor: datetime

    def after(self, moment: datetime) -> Iterator[datetime]:
        """The due times after a moment, up to the end of time."""
        step = timedelta(seconds=self.seconds)
        due = self.anchor + step * max(1, (moment - self.anchor) // step + 1)
        try:
            while True:
                yield due
                due += step
        except OverflowError:
            return


Rule = Cron | Every


def _of_clock(wall: datetime, zone: ZoneInfo) -> datetime:
    """When a clock shows that, the first time."""
    return wall.replace(tzinfo=zone).astimezone(UTC)


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta(0)


def _changed(before: datetime, beyond: datetime, zone: ZoneInfo) -> datetime:
    """The second at which the clock is changed, between these two."""
    offset = _offset(before, zone)
    start = before.replace(microsecond=0)
    low, high = 0, int((beyond - start).total_seconds())
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _offset(start + middle * SECOND, zone) == offset else (low, middle)
    return start + high * SECOND


def check_cron(expression: str, zone: str, now: datetime) -> Cron:
    """The rule of a cron expression, which may be due as seldom as on a 29 February. Raises InvalidValue."""
    rule = Cron(expression, check_zone(zone))
    fields = rule.fields.split()
    if len(fields) != len(LAST):
        raise InvalidValue(f"cron has {len(LAST)} fields ({', '.join(LAST)}), not {len(fields)}")
    try:
        CronSim(rule.fields, now)
    except CronSimError as error:
        raise InvalidValue(f"cron cannot be read: {str(error).lower()}") from None
    for (name, last), field in zip(LAST.items(), fields, strict=True):
        _check_steps(name, last, field)
    if first_after(rule, now) is None:
        raise InvalidValue("cron is never due")
    return rule


def _check_steps(name: str, last: int, field: str) -> None:
    """Raises InvalidValue for `*/90` of minutes, which cron takes for each full hour, and people for 90 minutes."""
    for part in field.split(","):
        _, _, step = part.partition("/")
        if step and int(step) > last:
            raise InvalidValue(
                f"cron cannot have steps of {step} in the {name}, which ends at {last}: use everySeconds"
            )


def check_zone(zone: str) -> str:
    """The zone unchanged when it is one of IANA's. Raises InvalidValue."""
    if zone not in zones():
        raise InvalidValue(f"there is no time zone {zone[:100]!r}: it is named like Europe/Berlin, or UTC")
    return zone


@cache
def zones() -> frozenset[str]:
    """The names of all zones that this process knows."""
    return frozenset(available_timezones()) - {*NO_PLACES}


def first_after(rule: Rule, moment: datetime) -> datetime | None:
    """The next due time; None: there is none any more."""
    return next(rule.after(moment), None)


def next_times(rule: Rule, moment: datetime, number: int) -> list[datetime]:
    """The next due times, so many at most."""
    return list(islice(rule.after(moment), number))
