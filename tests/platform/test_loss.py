"""What becomes of a job whose process dies, runs out of time, or is asked to stop."""

from __future__ import annotations

from pathlib import Path

import psutil

from tests.live import LivePlatform


def test_a_job_whose_process_is_killed_runs_again(running: LivePlatform, tmp_path: Path) -> None:
    """An attempt whose process is killed is recorded as lost at once, and the job runs again."""
    witness = tmp_path / "starts"
    job = running.wait_for(running.submit("die", payload={"witness": str(witness)}))
    assert (job.status, job.attempt, job.losses, job.result) == ("succeeded", 2, 1, 2)
    assert running.events(job.id) == ["created", "started", "released", "started", "completed"]
    assert witness.read_text().split() == [str(job.id)] * 2


def test_a_job_that_kills_its_worker_each_time_is_failed(running: LivePlatform, tmp_path: Path) -> None:
    """A job that kills its process each time is failed after three losses."""
    witness = tmp_path / "starts"
    job = running.wait_for(running.submit("die", payload={"witness": str(witness), "times": 9}), within=30)
    assert (job.status, job.attempt, job.error_type) == ("failed", 3, "WorkerLost")
    assert job.error_message == "the job took down 3 workers"


def test_a_hard_time_limit_fails_the_job_once(running: LivePlatform) -> None:
    """A hard time limit, which Celery announces twice, fails the job once."""
    job = running.wait_for(running.submit("limited", payload={"seconds": 30}))
    assert (job.status, job.error_type) == ("failed", "TimeLimitExceeded")
    assert running.events(job.id) == ["created", "started", "failed"]


def test_a_soft_time_limit_fails_the_job(running: LivePlatform) -> None:
    """A job's own soft time limit fails it."""
    job = running.wait_for(running.submit("soft_limited", payload={"seconds": 30}))
    assert (job.status, job.error_type) == ("failed", "SoftTimeLimitExceeded")


def test_an_expired_job_is_cancelled_with_that_reason(running: LivePlatform) -> None:
    """A job that has expired is cancelled with that reason."""
    job = running.wait_for(running.submit("noop", expires=-1.0))
    assert job.status == "cancelled"
    assert running.history(job.id)[-1].detail["reason"] == "expired"


def test_the_main_process_survived_all_of_this(running: LivePlatform) -> None:
    """After all losses the worker's main process has the pid that it started with."""
    assert psutil.Process(running.worker_pid).is_running()
    assert running.wait_for(running.submit("noop")).status == "succeeded"
