"""Which of the due times that have come make a job, and which are skipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice, takewhile

from tracking.schedules.times import Rule, first_after
from tracking.schedules.values import CatchUp

IN_TIME = timedelta(minutes=1)  # a due time older than that was missed: no leader has looked
MOST_CAUGHT_UP = 100  # missed due times that make a job after all
MOST_AT_ONCE = 10_000  # due times that are looked at in one transaction: a week of minutes


@dataclass(frozen=True, slots=True)
class Dealt:
    """The due times that make a job, and those before them that are skipped, each oldest first.

    With that everything until `until` is dealt with, and the next due time is `next_at`; None: there is none. `more`:
    that has come already.
    """

    made: Sequence[datetime]
    skipped: Sequence[datetime]
    until: datetime
    next_at: datetime | None
    more: bool = False


def deal(rule: Rule, since: datetime, now: datetime, catch_up: CatchUp) -> Dealt:
    """What to do with the due times after `since`, up to `now`.

    Of very many, as after a long outage, the oldest are skipped first, and the others are left for the next time.
    """
    due = list(islice(takewhile(lambda each: each <= now, rule.after(since)), MOST_AT_ONCE))
    if len(due) == MOST_AT_ONCE:
        missed = due[:-MOST_CAUGHT_UP]
        return Dealt((), missed, missed[-1], due[-MOST_CAUGHT_UP], more=True)
    late = [each for each in due if each < now - IN_TIME]
    in_time = due[len(late) :]
    kept = _caught_up(late, catch_up, is_due_now=bool(in_time))
    return Dealt([*kept, *in_time], late[: len(late) - len(kept)], now, first_after(rule, now))


def _caught_up(late: Sequence[datetime], catch_up: CatchUp, *, is_due_now: bool) -> Sequence[datetime]:
    if catch_up is CatchUp.ALL:
        return late[-MOST_CAUGHT_UP:]
    return late[-1:] if catch_up is CatchUp.ONCE and not is_due_now else ()
