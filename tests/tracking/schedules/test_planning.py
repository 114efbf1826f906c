"""Which due times make a job after an outage, held to an oracle that counts them one by one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cron_oracle import due_times
from tests.properties import UNHURRIED
from tracking.schedules.planning import MOST_AT_ONCE, MOST_CAUGHT_UP, deal
from tracking.schedules.times import Cron, Every, Rule
from tracking.schedules.values import CatchUp

NOON = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
RULES: dict[str, Rule] = {
    "each second": Every(1, NOON),
    "each 7 seconds": Every(7, NOON),
    "each minute": Every(60, NOON),
    "each hour": Cron("0 * * * *", "Europe/Berlin"),
    "at noon": Cron("0 12 * * *", "UTC"),
}


def due(rule: Rule, since: datetime, now: datetime) -> list[datetime]:
    """All due times in between: of cron by the oracle, of an interval by counting."""
    if isinstance(rule, Cron):
        return due_times(rule.expression, rule.zone, since, now)
    counted = (rule.anchor + timedelta(seconds=rule.seconds * number) for number in range(1, 10**7))
    return [each for each in takewhile(lambda each: each <= now, counted) if each > since]


@settings(UNHURRIED, max_examples=50)
@given(
    rule=st.sampled_from(list(RULES)),
    catch_up=st.sampled_from(CatchUp),
    away=st.integers(0, 8000),
    begun=st.integers(0, 5000),
)
def test_each_due_time_is_made_or_skipped_and_none_is_both(rule: str, catch_up: CatchUp, away: int, begun: int) -> None:
    """After any outage each due time is made or skipped once, in order, and those of the last minute are made."""
    since = NOON + timedelta(seconds=begun)
    now = since + timedelta(seconds=away)
    dealt, expected = deal(RULES[rule], since, now, catch_up), due(RULES[rule], since, now)
    assert [*dealt.skipped, *dealt.made] == expected
    late = [each for each in expected if each < now - MINUTE]
    kept = {
        CatchUp.SKIP: [],
        CatchUp.ONCE: late[-1:] if len(late) == len(expected) else [],
        CatchUp.ALL: late[-MOST_CAUGHT_UP:],
    }[catch_up]
    assert dealt.made == [*kept, *expected[len(late) :]]
    assert (dealt.until, dealt.more) == (now, False)
    assert dealt.next_at == due(RULES[rule], now, now + timedelta(days=2))[0]


@pytest.mark.parametrize("catch_up", CatchUp)
def test_a_very_long_outage_is_dealt_with_in_parts(catch_up: CatchUp) -> None:
    """After very many due times the oldest are skipped first, until those are left of which some are made."""
    since, now, found = NOON, NOON + timedelta(seconds=25_000), []
    made: list[datetime] = []
    while True:
        dealt = deal(RULES["each second"], since, now, catch_up)
        found += [*dealt.skipped, *dealt.made]
        made += dealt.made
        assert len(dealt.skipped) <= MOST_AT_ONCE
        since = dealt.until
        if not dealt.more:
            break
        assert dealt.next_at is not None
        assert dealt.next_at <= now
        assert not dealt.made
    assert found == due(RULES["each second"], NOON, now)
    in_time = 61
    assert len(made) == in_time + (MOST_CAUGHT_UP if catch_up is CatchUp.ALL else 0)
