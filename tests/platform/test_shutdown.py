"""A worker that is stopped, and one that is killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from uuid import UUID

import psutil

from tests.commands import python
from tests.live import LivePlatform, eventually
from tests.platform.test_cancel import cancel_row, receipt, start_nap

INTERRUPTED = """
import os, signal
from uuid import uuid4
from celery import signals
from types import SimpleNamespace
from tasks import app
from tasks.worker.shutdown import HandingBack
HandingBack(SimpleNamespace(app=app), uuid4())
signal.signal(signal.SIGTERM, lambda *_: signals.worker_shutting_down.send(sender="worker"))
with signals.worker_shutting_down.lock:
    os.kill(os.getpid(), signal.SIGTERM)
print("it went on")
"""


def test_a_stopped_worker_finishes_its_job_and_leaves(platform: LivePlatform, tmp_path: Path) -> None:
    """After SIGTERM a worker finishes its job, claims nothing, exits 0 and leaves no row of its own."""
    worker, gate = platform.start_worker(concurrency=1), tmp_path / "gate"
    job_id = platform.submit("until", str(gate))
    platform.wait_for(job_id, "running")
    next_id = platform.submit("noop")
    worker.send_signal(signal.SIGTERM)
    eventually(lambda: "Warm shutdown" in platform.log(), what="the request")
    gate.touch()
    assert worker.wait(20) == 0
    assert platform.job(job_id).status == "succeeded"
    assert platform.job(next_id).status == "queued"
    assert platform.workers() == 0


def test_the_jobs_of_a_killed_worker_run_again_elsewhere(platform: LivePlatform) -> None:
    """After kill -9 of a worker its jobs run elsewhere when its lease has run out."""
    first = platform.start_worker(concurrency=1, CELERIAC_LEASE_TIMEOUT="3", CELERIAC_HEARTBEAT="0.5")
    job_id = platform.submit("nap", payload={"seconds": 5})
    platform.wait_for(job_id, "running")
    for process in (psutil.Process(first.pid), *psutil.Process(first.pid).children(recursive=True)):
        os.kill(process.pid, signal.SIGKILL)
    platform.start_worker(concurrency=1, CELERIAC_LEASE_TIMEOUT="3", CELERIAC_HEARTBEAT="0.5")
    job = platform.wait_for(job_id, within=30)
    assert (job.status, job.attempt, job.losses) == ("succeeded", 2, 1)
    reasons = [entry.detail.get("reason") for entry in platform.history(job_id) if entry.event == "released"]
    assert reasons == ["lost"]


def test_a_job_accepted_while_the_broker_was_away_is_sent_by_upkeep(platform: LivePlatform) -> None:
    """A job that was accepted without a broker is sent by upkeep after its producer has gone."""
    port_of_nobody = "redis://127.0.0.1:9/0"
    absent = LivePlatform(platform.environment["DATABASE_URL"], port_of_nobody, platform.directory)
    with absent:
        job_id = absent.submit("noop")
    assert platform.job(job_id).dispatched_at is None
    platform.start_worker(concurrency=1)
    eventually(lambda: platform.job(job_id).status == "succeeded", what="the job")


def test_a_job_that_outlives_the_grace_period_is_handed_back(platform: LivePlatform) -> None:
    """A job that outlives the grace period is handed back and runs on another worker."""
    first = platform.start_worker(concurrency=2, CELERIAC_SHUTDOWN_GRACE="1")
    children = psutil.Process(first.pid).children(recursive=True)
    job_id = platform.submit("linger", payload={"seconds": 60})
    platform.wait_for(job_id, "running")
    platform.start_worker(concurrency=1)
    first.send_signal(signal.SIGTERM)
    assert first.wait(20) == 0
    assert not [child for child in children if child.is_running()]
    _was_handed_back(platform, job_id)
    logged = platform.directory.joinpath("worker1.log").read_text()
    assert "worker.handing_back" in logged
    assert not {"Traceback", "[error"} & set(logged.split()), "it did what it was told"


def test_a_second_sigterm_ends_the_grace_period(platform: LivePlatform) -> None:
    """A second SIGTERM ends the grace period."""
    worker = platform.start_worker(concurrency=1)
    job_id = platform.submit("nap", payload={"seconds": 30})
    platform.wait_for(job_id, "running")
    worker.send_signal(signal.SIGTERM)
    eventually(lambda: "Warm shutdown" in platform.log(), what="the first request")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(15) == 0
    assert (platform.job(job_id).status, platform.job(job_id).losses) == ("queued", 0)


def test_a_second_signal_may_interrupt_the_first_one_anywhere() -> None:
    """A second signal may interrupt the handler of the first one anywhere without a deadlock."""
    assert python("-c", INTERRUPTED, within=20).out == "it went on\n"


def test_a_cold_shutdown_hands_back_too(platform: LivePlatform) -> None:
    """SIGQUIT, or a second Ctrl-C, hands the worker's jobs back."""
    first = platform.start_worker(concurrency=1)
    job_id = platform.submit("linger", payload={"seconds": 60})
    platform.wait_for(job_id, "running")
    platform.start_worker(concurrency=1)
    first.send_signal(signal.SIGQUIT)
    first.wait(20)
    _was_handed_back(platform, job_id)


def test_a_body_that_is_cancelled_while_the_worker_stops_is_ended(platform: LivePlatform) -> None:
    """A body that is cancelled while its worker stops is ended."""
    worker = platform.start_worker(concurrency=1)
    job_id = start_nap(platform)
    worker.send_signal(signal.SIGTERM)
    eventually(lambda: "Warm shutdown" in platform.log(), what="the stop")
    cancel_row(platform, job_id)
    assert receipt(platform, job_id) == "interrupted"
    assert worker.wait(15) == 0


def _was_handed_back(platform: LivePlatform, job_id: UUID) -> None:
    job = platform.wait_for(job_id, "succeeded", within=30)
    assert (job.attempt, job.losses, job.retry_count) == (2, 0, 0)
    events = [event for event in platform.events(job_id) if event != "duplicate_refused"]  # the broker may repeat it
    assert events == ["created", "started", "released", "started", "completed"]
    released = next(entry for entry in platform.history(job_id) if entry.event == "released")
    assert released.detail["reason"] == "worker shut down"
