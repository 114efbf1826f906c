"""A worker that is stopped, and one that is killed."""

from __future__ import annotations

import os
import signal

import psutil

from tests.live import Platform, eventually


def test_a_stopped_worker_finishes_its_job_and_leaves(platform: Platform) -> None:
    """SIGTERM: nothing new is claimed, exit 0, no row of the worker stays."""
    worker = platform.start_worker(concurrency=1)
    job_id = platform.submit("nap", payload={"seconds": 2})
    platform.wait_for(job_id, "running")
    next_id = platform.submit("noop")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    assert platform.job(job_id).status == "succeeded"
    assert platform.job(next_id).status == "queued"
    assert platform.workers() == 0


def test_the_jobs_of_a_killed_worker_run_again_elsewhere(platform: Platform) -> None:
    """By kill -9, of the main process and its children: the lease runs out, whatever the broker thinks."""
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


def test_a_job_accepted_while_the_broker_was_away_is_sent_by_upkeep(platform: Platform) -> None:
    """Its producer is gone; the row is not."""
    port_of_nobody = "redis://127.0.0.1:9/0"
    absent = Platform(platform.environment["DATABASE_URL"], port_of_nobody, platform.directory)
    with absent:
        job_id = absent.submit("noop")
    assert platform.job(job_id).dispatched_at is None
    platform.start_worker(concurrency=1)
    eventually(lambda: platform.job(job_id).status == "succeeded", what="the job")
