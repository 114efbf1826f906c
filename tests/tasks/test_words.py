"""When a schedule is due, in words that say what cron does."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tasks.words import in_words
from tracking.schedules.times import Cron, next_times
from tracking.schedules.values import Plan

FROM = datetime(2026, 12, 1, tzinfo=UTC)
DAYS = 12


def words(cron: str) -> str:
    return in_words(Plan("name", "type", cron=cron, timezone="UTC")).removesuffix(", UTC")


@pytest.mark.parametrize(
    ("cron", "told"),
    [
        ("0 6 13 * 5", "At 06:00, on day 13 of the month, or on Friday"),
        ("0 6 13 * 1-5", "At 06:00, on day 13 of the month, or Monday through Friday"),
        (
            "0 6 8-14 3 0#2",
            "At 06:00, between day 8 and 14 of the month, or on the second Sunday of the month, only in March",
        ),
        ("0 6 1 * 5L", "At 06:00, on day 1 of the month, or on the last Friday of the month"),
        ("0 6 */2 * 1", "At 06:00, every 2 days, but only on Monday"),
        ("0 6 1 * */2", "At 06:00, on day 1 of the month, but only every 2 days of the week"),
        ("0 6 * * 1", "At 06:00, only on Monday"),
        ("0 6 1 * *", "At 06:00, on day 1 of the month"),
    ],
)
def test_the_words_say_whether_day_and_weekday_are_both_needed(cron: str, told: str) -> None:
    """Of day and weekday either is enough, or both when one begins with *: the words say which, whatever the form."""
    assert words(cron) == told


@pytest.mark.parametrize("cron", ["0 6 13 * 1-5", "0 6 8-14 * 0#2", "0 6 */2 * 1", "0 6 1 * */2", "0 6 * * 1"])
def test_the_words_are_what_happens(cron: str) -> None:
    """A cron of which the words say "or" is due on days that fit one of both fields; with "but only" none is."""
    day, weekday = cron.split()[2], cron.split()[4]
    by_day, by_weekday = (
        set(next_times(Cron(f"0 6 {at}", "UTC"), FROM, 400)) for at in (f"{day} * *", f"* * {weekday}")
    )
    due = next_times(Cron(cron, "UTC"), FROM, DAYS)
    fits_one = [at for at in due if (at in by_day) != (at in by_weekday)]
    assert bool(fits_one) == (", or " in words(cron))
