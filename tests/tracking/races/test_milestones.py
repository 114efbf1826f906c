"""A milestone that is told later, against what else is written of its job."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from tests.live import eventually
from tests.tracked import Tracked, wish
from tracking import jobs
from tracking.db import Database
from tracking.models import Milestone, Progress


def test_a_milestone_that_has_waited_for_its_row_comes_after_what_was_written_meanwhile(
    pool: Database, tracked: Tracked
) -> None:
    """A late milestone has no earlier time than a message that was refused while it waited: its id is not earlier."""
    job = tracked.start(tracked.submit())
    milestone = Milestone(ago=timedelta(minutes=1), percent=50)
    told = Progress(job.fence, job.attempt, percent=50, milestones=[milestone], moved_on=False)

    def report() -> bool:
        with pool.autocommit() as connection:
            return jobs.report(connection, told)

    with ThreadPoolExecutor(1) as threads:
        with pool.begin() as connection:
            jobs.claim(connection, [wish(job.fence)])
            reporting = threads.submit(report)
            eventually(tracked.waits_for_lock, what="a report that waits")
        assert reporting.result(10)
    history = tracked.history(job)
    assert [entry.event for entry in history] == ["created", "started", "duplicate_refused", "progress"]
    assert [entry.at for entry in history] == sorted(entry.at for entry in history)
