"""Cancel and retry with a real worker on each broker."""

from __future__ import annotations

import signal
from pathlib import Path
from uuid import UUID, uuid4

import psutil
import pytest

from tests.bare import letter_of
from tests.live import LivePlatform, eventually
from tracking import jobs
from tracking.models import JobRecord, Scope

VERBS = "from uuid import UUID; from tasks import app, verbs; from tracking.models import Scope\n"
CANCEL = VERBS + "verbs.cancel(app.platform, UUID(stdin), Scope('default', None), actor='u1')"
RETRY = VERBS + "verbs.retry(app.platform, UUID(stdin), Scope('default', None), actor='u1')"
REVOKE = "from tasks import app; app.control.revoke(stdin, terminate=True, signal='{signal}')"


def cancel_row(platform: LivePlatform, job_id: UUID) -> JobRecord:
    """Cancel in the row alone, as when the broker is away and nobody can be told."""
    with platform.database.autocommit() as connection:
        return jobs.cancel(connection, job_id, Scope("default", None), actor="u1").job


def start_nap(platform: LivePlatform) -> UUID:
    """A job that sleeps for half a minute; it has begun to."""
    job_id = platform.submit("nap", payload={"seconds": 30})
    eventually(lambda: platform.job(job_id).message == "nap 1", what="its first step")
    return job_id


def start_deaf(platform: LivePlatform, **payload: float) -> UUID:
    """A job that does not heed an interruption; its body has begun: one that has not would not begin."""
    job_id = platform.submit("deaf", payload=payload)
    eventually(lambda: platform.job(job_id).message == "deaf", what="its first word")
    return job_id


def receipt(platform: LivePlatform, job_id: UUID) -> str:
    """How the body of a cancelled job ended: its history tells when that was asked for, heard and done."""
    eventually(lambda: not platform.job(job_id).stopping, within=20, what="the stop of the body")
    requested, seen, stopped = platform.history(job_id)[-3:]
    assert [entry.event for entry in (requested, seen, stopped)] == ["cancelled", "seen", "stopped"]
    assert seen.detail["after"] <= stopped.detail["after"]
    return str(stopped.detail["how"])


def test_a_running_job_is_interrupted_within_two_seconds(running: LivePlatform) -> None:
    """A cancel interrupts a running body within two seconds, and history says when."""
    job_id = start_nap(running)
    running.run(CANCEL, str(job_id))
    cancelled = running.job(job_id)
    assert (cancelled.status, cancelled.cancel_requested_at is not None) == ("cancelled", True)
    assert receipt(running, job_id) == "interrupted"
    assert running.history(job_id)[-1].detail["after"] < 2000


def test_a_running_job_that_ignores_the_interruption_stops_at_its_next_step(running: LivePlatform) -> None:
    """A body that ignores the interruption ends at its next report of progress."""
    job_id = start_deaf(running, seconds=20, steps=2)
    running.run(CANCEL, str(job_id))
    assert receipt(running, job_id) == "at a step"


def test_a_body_that_returns_all_the_same_has_finished_first(running: LivePlatform) -> None:
    """The result of a cancelled body that returns is refused, and history says "finished first"."""
    job_id = start_deaf(running, seconds=3)
    running.run(CANCEL, str(job_id))
    assert receipt(running, job_id) == "finished first"
    assert running.job(job_id).result is None


def test_a_cancel_of_which_nobody_tells_the_worker_interrupts_the_body_too(running: LivePlatform) -> None:
    """A worker that was not told of a cancel finds it in the row and interrupts the body."""
    job_id = start_nap(running)
    with LivePlatform(running.environment["DATABASE_URL"], "redis://127.0.0.1:9/0", running.directory) as absent:
        absent.run(CANCEL, str(job_id))
        assert receipt(running, job_id) == "interrupted"


@pytest.mark.parametrize(("by", "how"), [("SIGUSR1", "interrupted"), ("SIGTERM", "killed")])
def test_a_job_revoked_by_remote_control_is_recorded_as_cancelled(running: LivePlatform, by: str, how: str) -> None:
    """A job that is revoked with terminate, by SIGTERM as well, is cancelled in its row."""
    job_id = start_nap(running)
    running.run(REVOKE.format(signal=by), str(job_id))
    running.wait_for(job_id, "cancelled", within=20)
    assert receipt(running, job_id) == how
    assert "remote control" in running.history(job_id)[-3].actor


def test_an_interruption_that_meets_another_job_does_not_harm_it(running: LivePlatform, tmp_path: Path) -> None:
    """A job that is interrupted in another one's place runs again."""
    witness = tmp_path / "started"
    job_id = running.submit("linger", payload={"seconds": 30, "witness": str(witness)})
    eventually(witness.exists, what="the start of the body")
    for child in psutil.Process(running.worker_pid).children():
        child.send_signal(signal.SIGUSR1)
    job = running.wait_for(job_id)
    assert (job.status, job.attempt, job.retry_count) == ("succeeded", 2, 0)
    assert running.events(job_id) == ["created", "started", "released", "started", "completed"]


def test_a_retried_job_runs_although_the_worker_remembers_its_revocation(running: LivePlatform) -> None:
    """A job that was revoked and then retried runs on the same worker."""
    job_id = running.submit("nap", payload={"seconds": 3})
    running.wait_for(job_id, "running")
    running.run(CANCEL, str(job_id))
    eventually(lambda: not running.job(job_id).stopping, within=20, what="the stop of the body")
    running.run(RETRY, str(job_id))
    done = running.wait_for(job_id)
    assert (done.status, done.attempt, done.retry_count) == ("succeeded", 2, 1)
    assert done.dispatch == 2


def test_an_interrupted_child_takes_the_next_job(running: LivePlatform) -> None:
    """A worker process whose body was interrupted runs the next job."""
    assert running.wait_for(running.submit("count_words", payload={"words": ["a"]})).status == "succeeded"


def test_a_message_whose_job_nobody_knows_is_not_run(running: LivePlatform) -> None:
    """A message whose job has no row is not run."""
    running.run(
        "from celery import Celery; from tasks import app\n"
        "Celery.send_task(app, 'add', (1, 2), task_id=stdin, queue='default', headers={'dispatch': 1})",
        str(forged := uuid4()),
    )
    assert letter_of(running, str(forged)).task_name == "add"
    eventually(lambda: "reason=unknown" in running.log(), what="its line in the log")  # written after the letter
