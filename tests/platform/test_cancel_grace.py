"""Cancelled bodies that will not end, and what the end of one must not do to others."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import psutil

from tests.live import LivePlatform, eventually
from tests.platform.test_cancel import CANCEL, cancel_row, receipt, start_deaf, start_nap

GRACE = 2.0


def test_a_body_that_will_not_end_is_killed_after_the_grace_period(platform: LivePlatform) -> None:
    """A cancelled body that does not end is killed after the grace period; its neighbour's job goes on."""
    platform.start_worker(CELERIAC_CANCEL_GRACE=str(GRACE))
    neighbour = platform.submit("nap", payload={"seconds": 8})
    job_id = start_deaf(platform, seconds=60)
    platform.wait_for(neighbour, "running")
    platform.run(CANCEL, str(job_id))
    assert receipt(platform, job_id) == "killed"
    seen, stopped = platform.history(job_id)[-2:]
    assert stopped.at - seen.at >= timedelta(seconds=GRACE)
    assert platform.wait_for(neighbour).attempt == 1
    assert platform.job(job_id).losses == 0


def test_a_body_of_which_only_the_row_says_that_it_is_cancelled_is_killed_as_well(platform: LivePlatform) -> None:
    """A body whose cancel stands in the row alone is killed after the grace period as well."""
    platform.start_worker(concurrency=1, CELERIAC_CANCEL_GRACE=str(GRACE))
    job_id = start_deaf(platform, seconds=60)
    cancel_row(platform, job_id)
    assert receipt(platform, job_id) == "killed"
    assert platform.wait_for(platform.submit("noop")).status == "succeeded"


def test_a_process_that_was_interrupted_once_can_be_lost_like_any_other(platform: LivePlatform, tmp_path: Path) -> None:
    """A crash of a process that was interrupted before is recorded as lost, not as revoked."""
    platform.start_worker(concurrency=1)
    cancelled = start_nap(platform)
    [child] = psutil.Process(platform.worker_pid).children()
    platform.run(CANCEL, str(cancelled))
    assert receipt(platform, cancelled) == "interrupted"
    job = platform.wait_for(platform.submit("die", payload={"witness": str(tmp_path / "starts")}))
    assert (job.status, job.attempt, job.losses) == ("succeeded", 2, 1)
    eventually(lambda: not child.is_running(), what="the death of the child")
