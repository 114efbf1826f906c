"""Flower, the real one, beside a worker on each broker."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest

from tests.flowering import answers, sees_a_job
from tests.live import LivePlatform, eventually

AUTHENTICATION = ("operator", "a-password-for-this-test")


@pytest.fixture(scope="module")
def flower(running: LivePlatform) -> Iterator[httpx2.Client]:
    """A client of a Flower that watches the worker, once it has switched the worker's events on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    running.start(
        *("celery", "-A", "tasks", "flower", "--address=127.0.0.1", f"--port={port}"),
        log="flower.log",
        FLOWER_BASIC_AUTH=":".join(AUTHENTICATION),
    )
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", auth=AUTHENTICATION, timeout=5) as client:
        eventually(lambda: answers(client), within=30, what="the start of Flower")
        eventually(lambda: sees_a_job(client, running), within=30, what="a worker's event in Flower")
        yield client


def test_flower_sees_the_jobs_and_its_revocation_is_recorded(
    running: LivePlatform, flower: httpx2.Client, tmp_path: Path
) -> None:
    """Flower lists a job under its id without the payload, and its terminate cancels the row."""
    job_id = running.submit("nap", payload={"seconds": 30, "witness": str(tmp_path / "canary-of-this-payload")})
    eventually(lambda: _task(flower, str(job_id)).get("state") == "STARTED", what="the job in Flower")
    task = _task(flower, str(job_id))
    assert task["name"] == "nap"
    assert "canary-of-this-payload" not in flower.get(f"/api/task/info/{job_id}").text
    flower.post(f"/api/task/revoke/{job_id}", params={"terminate": "true", "signal": "SIGUSR1"}).raise_for_status()
    assert running.wait_for(job_id, "cancelled").cancel_requested_at is not None
    assert (_cancel(running, job_id).actor, _cancel(running, job_id).detail["reason"]) == ("flower", "terminated")
    eventually(lambda: not running.job(job_id).stopping, what="the stop of the body")


def test_what_flower_revokes_before_it_runs_is_recorded(running: LivePlatform, flower: httpx2.Client) -> None:
    """Flower's revoke of a job that waits, even of one that no worker knows yet, cancels its row in Flower's name."""
    waiting = running.submit("noop", countdown=3600)
    flower.post(f"/api/task/revoke/{waiting}").raise_for_status()
    running.wait_for(waiting, "cancelled")
    assert (_cancel(running, waiting).actor, _cancel(running, waiting).detail["reason"]) == ("flower", "revoked")


def test_flower_shows_one_task_for_a_job_that_was_retried(
    running: LivePlatform, flower: httpx2.Client, tmp_path: Path
) -> None:
    """Flower shows one task, under the job's id, for all attempts of a job."""
    job = running.wait_for(running.submit("identified", str(tmp_path / "ids"), 2))
    eventually(lambda: _task(flower, str(job.id)).get("state") == "SUCCESS", what="the end of the job in Flower")
    listed = flower.get("/api/tasks", params={"taskname": "identified"}).json()
    assert list(listed) == [str(job.id)]


def test_flower_counts_the_messages_of_every_priority(running: LivePlatform, flower: httpx2.Client) -> None:
    """Flower counts the messages of all ten priorities on Redis."""
    if running.broker_url.startswith("amqp"):
        pytest.skip("needs RabbitMQ's management API")
    busy = running.submit_all([("nap", [], {"payload": {"seconds": 30}}, {}) for _ in range(2)])
    for job_id in busy:
        running.wait_for(job_id, "running")
    options = [{"priority": priority, "organization": f"org-{priority}"} for priority in (0, 4, 9)]  # a slot for each
    waiting = running.submit_all([("noop", [], {}, option) for option in options])
    eventually(lambda: _length(flower) == len(waiting), what="the length of the queue in Flower")
    for job_id in busy:
        flower.post(f"/api/task/revoke/{job_id}", params={"terminate": "true", "signal": "SIGUSR1"}).raise_for_status()
        running.wait_for(job_id, "cancelled")


def _cancel(running: LivePlatform, job_id: UUID) -> Any:
    return next(entry for entry in running.history(job_id) if entry.event == "cancelled")


def _task(client: httpx2.Client, task_id: str) -> dict[str, str]:
    answer = client.get(f"/api/task/info/{task_id}")
    return dict(answer.json()) if answer.is_success else {}


def _length(client: httpx2.Client) -> int:
    queues = client.get("/api/queues/length").json()["active_queues"]
    return int(next(queue["messages"] for queue in queues if queue["name"] == "default"))
