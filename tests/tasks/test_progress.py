"""What a running body says of itself: at most four writes a second, and never without its last word."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.progress import MOST_MILESTONES, MOST_PENDING, JobCancelled, Reporter
from tests.live import eventually
from tests.properties import UNHURRIED
from tracking.models import Attempt, Fence, Owner, Progress

ATTEMPT = Attempt(Fence(uuid4(), 1), 1, Owner("acme", "u1"), None, "count_words", 0, 3, None, None)


class Time:
    """A clock whose timers go off while it is moved on; a late one goes off when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[_Timer] = []

    def __call__(self) -> float:
        return self.now

    def timer(self, interval: float, function: Callable[[], None]) -> _Timer:
        self.timers.append(_Timer(self.now + interval, function))
        return self.timers[-1]

    def pass_by(self, seconds: float, *, lateness: float = 0.0) -> None:
        """Move on; timers go off `lateness` seconds after their time."""
        end = self.now + seconds
        while due := [timer for timer in self.timers if timer.runs and timer.at + lateness <= end]:
            timer = min(due, key=lambda timer: timer.at)
            timer.runs = False
            self.now = max(self.now, timer.at + lateness)
            timer.function()
        self.now = end


class _Timer:
    daemon = False

    def __init__(self, at: float, function: Callable[[], None]) -> None:
        self.at = at
        self.function = function
        self.runs = False

    def start(self) -> None:
        self.runs = True

    def cancel(self) -> None:
        """Do not let it go off."""
        self.runs = False


class Row:
    """What was written, and when; `expected` is what each write answers."""

    def __init__(self, time: Time) -> None:
        self.time = time
        self.writes: list[tuple[float, Progress]] = []
        self.expected = True

    def write(self, news: Progress) -> bool:
        self.writes.append((self.time.now, news))
        return self.expected

    @property
    def percents(self) -> list[int | None]:
        """The percentages that were written."""
        return [news.percent for _, news in self.writes]


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    """The clock of reporters, and of their timers."""
    time = Time()
    monkeypatch.setattr("tasks.progress.threading.Timer", time.timer)
    return time


@pytest.fixture
def row(time: Time) -> Row:
    return Row(time)


@pytest.fixture
def reporter(row: Row) -> Reporter:
    """A reporter on the fake clock."""
    return Reporter(ATTEMPT, row.write, row.time)


def test_the_first_report_is_written_at_once(reporter: Reporter, row: Row) -> None:
    """The first report of an attempt is written at once."""
    reporter.report(percent=1, message="Begin")
    assert row.writes == [(0.0, Progress(ATTEMPT.fence, ATTEMPT.attempt, 1, "Begin"))]


def test_reports_in_quick_succession_become_one_write(reporter: Reporter, row: Row) -> None:
    """Reports in quick succession become one write of the newest news of each kind."""
    reporter.report(percent=1)
    reporter.report(percent=2, message="Query")
    reporter.report(percent=3, detail={"rows": 1})
    row.time.pass_by(0.25)
    assert row.writes[1:] == [(0.25, Progress(ATTEMPT.fence, ATTEMPT.attempt, 3, "Query", {"rows": 1}))]


def told(row: Row) -> list[tuple[float, int, str | None]]:
    """When each entry of the history happened, its percentage and message."""
    entries = []
    for at, news in row.writes:
        entries += [(at - each.ago.total_seconds(), each.percent, each.message) for each in news.milestones]
        if news.moved_on:
            entries.append((at, news.percent or 0, news.message))
    return entries


def test_what_is_said_again_is_a_sign_of_life_and_no_news(reporter: Reporter, row: Row) -> None:
    """A body that waits and says the same each time is written each time, and told once; so is what falls back."""
    reporter.report(milestone=True, message="Query", current_step=2)
    row.time.pass_by(1)
    for percent, message, detail in [
        *[(5.0, "Query", None)] * 3,
        (4.0, "Query", None),
        (5.0, "Query", {"rows": 1}),
        (5.0, "Query", {"rows": 1}),
        (5.0, "Wait", {"rows": 1}),
        (6.0, "Wait", {"rows": 1}),
    ]:
        reporter.report(percent=percent, message=message, detail=detail)
        row.time.pass_by(1)
    assert len(row.writes) == 9
    assert told(row) == [(0.0, 0, "Query"), (1.0, 5, "Query"), (5.0, 5, "Query"), (7.0, 5, "Wait"), (8.0, 6, "Wait")]


def test_milestones_are_told_one_by_one_with_their_times(reporter: Reporter, row: Row) -> None:
    """One write has each milestone with its time, and no report between them."""
    reporter.report(milestone=True, message="Look")
    row.time.pass_by(0.05)
    reporter.report(milestone=True, percent=20)
    reporter.report(percent=25, message="between")
    row.time.pass_by(0.05)
    reporter.report(milestone=True, message="Do")
    reporter.report(milestone=True, percent=40)
    row.time.pass_by(1)
    assert [at for at, _ in row.writes] == [0.0, 0.25]
    expected = [(0.0, 0, "Look"), (0.05, 20, "Look"), (0.1, 25, "Do"), (0.1, 40, "Do")]
    assert [(round(at, 6), percent, message) for at, percent, message in told(row)] == expected


def test_milestones_are_told_before_the_end(reporter: Reporter, row: Row) -> None:
    """Pending milestones are written at the end; the news after them go with the outcome."""
    reporter.report(milestone=True, message="Look")
    reporter.report(milestone=True, percent=20)
    reporter.report(percent=30)
    last = reporter.close()
    assert (last and last.percent, told(row)[-1]) == (30, (0.0, 20, "Look"))
    assert len(row.writes) == 2


def test_a_body_that_ends_with_a_milestone_has_no_last_news(reporter: Reporter, row: Row) -> None:
    """A body that ends with a milestone has no news for its outcome."""
    reporter.report(percent=1)
    reporter.report(milestone=True, percent=20)
    assert reporter.close() is None
    assert [percent for _, percent, _ in told(row)] == [1, 20]


def test_there_are_only_so_many_milestones(reporter: Reporter, row: Row) -> None:
    """A write has at most twenty milestones, and an attempt five hundred."""
    for number in range(1000):
        reporter.report(milestone=True, current_step=number)
    row.time.pass_by(0.25)
    assert len(row.writes[-1][1].milestones) == MOST_PENDING
    assert (row.writes[-1][1].current_step, row.writes[-1][1].moved_on) == (999, True)
    for number in range(1000, 2000):
        reporter.report(milestone=True, current_step=number)
        row.time.pass_by(0.05)
    assert sum(len(news.milestones) for _, news in row.writes) == MOST_MILESTONES
    row.time.pass_by(1)
    assert row.writes[-1][1].current_step == 1999


def test_the_last_word_is_written_without_another_report(reporter: Reporter, row: Row) -> None:
    """The last report of a body that goes silent is written."""
    reporter.report(percent=1)
    reporter.report(percent=2)
    row.time.pass_by(10)
    assert row.percents == [1, 2]


def test_a_pause_is_followed_by_a_write_at_once(reporter: Reporter, row: Row) -> None:
    """A report after a pause is written at once."""
    reporter.report(percent=1)
    row.time.pass_by(5)
    reporter.report(percent=2)
    assert row.writes[-1][0] == 5.0


def test_nothing_new_is_not_written(reporter: Reporter, row: Row) -> None:
    """A report without news is not written."""
    reporter.report(percent=None, message=None)
    reporter.flush()
    assert row.writes == []


PAUSES = st.lists(st.floats(0, 0.6), max_size=30)


@UNHURRIED
@given(pauses=PAUSES, lateness=st.sampled_from([0.0, 0.001, 0.1, 0.3]))
def test_there_are_at_most_four_writes_a_second(pauses: list[float], lateness: float) -> None:
    """Progress is written at most four times a second, and its last report last."""
    with pytest.MonkeyPatch.context() as patch:
        time = Time()
        patch.setattr("tasks.progress.threading.Timer", time.timer)
        row = Row(time)
        reporter = Reporter(ATTEMPT, row.write, time)
        for number, pause in enumerate(pauses):
            reporter.report(percent=number)
            time.pass_by(pause, lateness=lateness)
        time.pass_by(1, lateness=lateness)
    written = [at for at, _ in row.writes]
    assert all(later - earlier >= 0.25 - 1e-9 for earlier, later in pairwise(written))
    assert row.percents[-1:] == [len(pauses) - 1] if pauses else row.writes == []


def test_closing_hands_out_what_was_not_written(reporter: Reporter, row: Row) -> None:
    """Closing a reporter returns the news that were not written, and writes no more."""
    reporter.report(percent=1)
    reporter.report(percent=2, message="Close")
    assert reporter.close() == Progress(ATTEMPT.fence, ATTEMPT.attempt, 2, "Close")
    row.time.pass_by(10)
    assert row.percents == [1]


def test_closing_hands_out_nothing_when_all_is_written(reporter: Reporter) -> None:
    """Closing a reporter without pending news returns nothing."""
    reporter.report(percent=1)
    assert reporter.close() is None


def test_a_report_that_nobody_expects_stops_the_body(reporter: Reporter, row: Row) -> None:
    """A report of an attempt that is over raises JobCancelled."""
    row.expected = False
    with pytest.raises(JobCancelled):
        reporter.report(percent=1)


def test_the_body_is_stopped_at_its_next_report_after_a_late_write(reporter: Reporter, row: Row) -> None:
    """A late write that was refused raises at the body's next report."""
    reporter.report(percent=1)
    row.expected = False
    reporter.report(percent=2)
    row.time.pass_by(0.25)
    with pytest.raises(JobCancelled):
        reporter.report(percent=3)


def test_a_stopped_body_is_stopped_at_every_report(reporter: Reporter, row: Row) -> None:
    """A stopped body that caught the exception is stopped at every further report."""
    row.expected = False
    for percent in range(3):
        with pytest.raises(JobCancelled):
            reporter.report(percent=percent)
        row.time.pass_by(1)


def test_many_threads_may_report() -> None:
    """Reports of many threads become few writes that end with the last ones of each."""
    written: list[Progress] = []

    def write(news: Progress) -> bool:
        written.append(news)
        return True

    reporter = Reporter(ATTEMPT, write)

    def speak(field: str) -> None:
        for number in range(1, 200):
            news: dict[str, Any] = {field: number}
            reporter.report(**news)

    fields = ("percent", "current_step", "total_steps")
    threads = [threading.Thread(target=speak, args=(field,)) for field in fields]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    def last(field: str) -> Any:
        return [value for news in written if (value := getattr(news, field)) is not None][-1:]

    eventually(lambda: all(last(field) == [199] for field in fields), within=5)
    assert len(written) <= 4
