"""When schedules are due, held to an oracle that looks at every minute."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.cron_oracle import due_times
from tests.properties import UNHURRIED
from tracking.errors import InvalidValue
from tracking.schedules.times import (
    SHORTHANDS,
    Cron,
    Every,
    Rule,
    check_cron,
    check_zone,
    first_after,
    next_times,
    zones,
)

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)

# The days on which the clocks change: an hour of Berlin and New York, half of one of Lord Howe; in Cairo and Havana
# it is midnight that is left out or comes twice, so that a day begins at one, or its first hour is two.
CHANGES = {
    "Europe/Berlin": (datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)),
    "America/New_York": (datetime(2026, 3, 8, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)),
    "Australia/Lord_Howe": (datetime(2026, 10, 3, 12, tzinfo=UTC), datetime(2026, 4, 4, 12, tzinfo=UTC)),
    "Africa/Cairo": (datetime(2026, 4, 23, 12, tzinfo=UTC), datetime(2026, 10, 29, 12, tzinfo=UTC)),
    "America/Havana": (datetime(2026, 3, 8, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)),
}
DAYS = [(zone, day) for zone, days in CHANGES.items() for day in days]
EXPRESSIONS = (
    *("*/15 * * * *", "10 * * * *", "*/20 1-3 * * *", "* 2 * * *", "30 */2 * * *"),
    *(
        "30 2 * * *",
        "0 2,3 * * *",
        "15,45 1,2 * * *",
        "0 0 * * *",
        "30 0 * * *",
        "5 2 29 * 0",
        "59 1-2 1,25,29 3,10 *",
        "0 0 * * 1-5",
    ),
)


def all_due(rule: Rule, after: datetime, until: datetime) -> list[datetime]:
    """The due times after a moment, up to and with another one."""
    return list(takewhile(lambda each: each <= until, rule.after(after)))


@pytest.mark.parametrize("expression", EXPRESSIONS)
@pytest.mark.parametrize(("zone", "day"), DAYS)
def test_cron_is_right_when_the_clocks_change(zone: str, day: datetime, expression: str) -> None:
    """Around each change of the clocks cron is due exactly when an oracle says that looks at every minute."""
    start, end = day - DAY, day + 2 * DAY
    assert all_due(Cron(expression, zone), start, end) == due_times(expression, zone, start, end)


def test_a_fixed_time_comes_once_in_the_repeated_hour_and_after_the_missing_one() -> None:
    """In Berlin 02:30 comes once in October, at its first time, and in March as soon as the clock goes on."""
    berlin = Cron("30 2 * * *", "Europe/Berlin")
    autumn, spring = CHANGES["Europe/Berlin"][1], CHANGES["Europe/Berlin"][0]
    assert all_due(berlin, autumn, autumn + DAY) == [datetime(2026, 10, 25, 0, 30, tzinfo=UTC)]
    assert all_due(berlin, spring, spring + DAY) == [datetime(2026, 3, 29, 1, 0, tzinfo=UTC)]


def fields(low: int, high: int) -> st.SearchStrategy[str]:
    """Fields of cron whose numbers lie in a range."""
    number = st.integers(low, high)
    spans = st.lists(number, min_size=2, max_size=2, unique=True).map(lambda pair: f"{min(pair)}-{max(pair)}")
    stepped = st.tuples(st.just("*") | spans, st.integers(1, high)).map(_stepped)
    return (
        st.just("*")
        | number.map(str)
        | st.lists(number.map(str) | spans, min_size=1, max_size=3).map(",".join)
        | stepped
    )


def _stepped(parts: tuple[str, int]) -> str:
    return f"{parts[0]}/{parts[1]}"


expressions = st.tuples(fields(0, 59), fields(0, 23), fields(1, 31), fields(1, 12), fields(0, 6)).map(" ".join)
moments = st.sampled_from(DAYS).flatmap(
    lambda each: st.tuples(
        st.just(each[0]),
        st.integers(-36 * 3600, 36 * 3600).map(lambda seconds: each[1] + timedelta(seconds=seconds, microseconds=7)),
    )
)


@settings(UNHURRIED, max_examples=60, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(expression=expressions, place=moments)
def test_any_cron_from_any_moment_is_due_when_the_oracle_says(expression: str, place: tuple[str, datetime]) -> None:
    """Whatever the expression and wherever one begins, cron is due exactly when the oracle says."""
    (zone, start), rule = place, Cron(expression, place[0])
    end = start + timedelta(hours=40)
    try:
        check_cron(expression, zone, NOW)
    except InvalidValue:  # such as 30 February
        return
    assert all_due(rule, start, end) == due_times(expression, zone, start, end)


@UNHURRIED
@given(place=moments, expression=expressions, later=st.integers(0, 40 * 3600))
def test_where_one_begins_changes_nothing_of_what_follows(
    expression: str, place: tuple[str, datetime], later: int
) -> None:
    """The due times after a moment are those after an earlier one, without those that were before."""
    (zone, start), rule = place, Cron(expression, place[0])
    middle, end = start + timedelta(seconds=later), start + timedelta(hours=60)
    try:
        check_cron(expression, zone, NOW)
    except InvalidValue:
        return
    assert all_due(rule, middle, end) == [each for each in all_due(rule, start, end) if each > middle]


@UNHURRIED
@given(seconds=st.integers(1, 10**6), ago=st.integers(-(10**6), 10**7), microseconds=st.integers(0, 10**6 - 1))
def test_an_interval_is_counted_from_its_anchor(seconds: int, ago: int, microseconds: int) -> None:
    """An interval is due each so many seconds after its anchor, and never at it or before."""
    start = NOW + timedelta(seconds=ago, microseconds=microseconds)
    found = list(islice(Every(seconds, NOW).after(start), 5))
    assert all((each - NOW) % timedelta(seconds=seconds) == timedelta(0) for each in found)
    assert found[0] > NOW
    assert start < found[0] <= max(start, NOW) + timedelta(seconds=seconds)
    assert {later - sooner for sooner, later in pairwise(found)} == {timedelta(seconds=seconds)}


@pytest.mark.parametrize(
    ("expression", "zone", "reason"),
    [
        ("* * * *", "UTC", "5 fields"),
        ("0 * * * * *", "UTC", "5 fields"),
        ("", "UTC", "5 fields"),
        ("@reboot", "UTC", "5 fields"),
        ("60 * * * *", "UTC", "minute"),
        ("* * * * x", "UTC", "day-of-week"),
        ("*/90 * * * *", "UTC", "steps of 90 in the minute, which ends at 59"),
        ("0 1,0-9/24 * * *", "UTC", "steps of 24 in the hour"),
        ("0 0 */40 * *", "UTC", "steps of 40 in the day"),
        ("0 0 * */13 *", "UTC", "steps of 13 in the month"),
        ("0 0 * * */8", "UTC", "steps of 8 in the weekday"),
        ("0 0 30 2 *", "UTC", "day-of-month"),
        ("0 0 31 4,6 *", "UTC", "day-of-month"),
        ("0 0 * * *", "Europe/Atlantis", "no time zone"),
        ("0 0 * * *", "../../etc/passwd", "no time zone"),
        ("0 0 * * *", "Europe", "no time zone"),
        ("0 0 * * *", "localtime", "no time zone"),
    ],
)
def test_what_can_never_be_due_is_refused(expression: str, zone: str, reason: str) -> None:
    """An expression without five fields, with a wrong one, too long a step or no day is refused; so is no zone."""
    with pytest.raises(InvalidValue, match=reason):
        check_cron(expression, zone, NOW)


@pytest.mark.parametrize(
    ("expression", "years"), [("0 0 29 2 *", [2028, 2032, 2036]), ("0 0 29 2 */7", [2032, 2060, 2088])]
)
def test_what_is_due_seldom_is_due(expression: str, years: list[int]) -> None:
    """A leap day, and one that has to be a Sunday as well, are due in the years that have it."""
    found = next_times(check_cron(expression, "Europe/Berlin", datetime(2026, 11, 29, tzinfo=UTC)), NOW, 40)
    assert [each.astimezone(ZoneInfo("Europe/Berlin")).date() for each in found if each.year >= 2027][:3] == [
        date(year, 2, 29) for year in years
    ]


@pytest.mark.parametrize("word", SHORTHANDS)
def test_the_short_words_of_cron_are_due(word: str) -> None:
    """Each short word of cron is due at midnight, or each hour, of its zone."""
    rule = check_cron(word, "Europe/Berlin", NOW)
    assert all(each.astimezone(UTC).minute == 0 for each in next_times(rule, NOW, 5))
    assert first_after(rule, NOW) == first_after(Cron(SHORTHANDS[word], "Europe/Berlin"), NOW)


def test_every_zone_of_iana_can_be_used() -> None:
    """All zones that there are can be used, those that slim images lack as well."""
    assert {"UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/New_York"} <= zones()
    assert len(zones()) > 400
    for zone in zones():
        assert check_zone(zone) == zone
        assert first_after(Cron("0 0 * * *", zone), NOW) is not None
