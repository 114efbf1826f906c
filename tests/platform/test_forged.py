"""Messages that name a job of somebody else's and say something else than its row: what runs is what the row says."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import pytest

from tasks.broker.messages import DISPATCH_HEADER
from tests.live import LivePlatform, eventually
from tests.messages import Forged, send, task_headers
from tracking import jobs
from tracking.admission.rule import UNLIMITED
from tracking.models import NewJob, Owner

ELSEWHERE = "elsewhere"  # a queue that no worker takes jobs from: only the forged message of a job arrives
VICTIM = Owner("victim", "v1")
LINK: dict[str, Any] = {
    "task": "remember",
    "args": [],
    "kwargs": {},
    "options": {"organization": "victim", "user": "intruder"},
    "subtask_type": None,
    "immutable": False,
}


def _job(running: LivePlatform, **changes: Any) -> UUID:
    """A job that adds 1 and 2."""
    payload = {"args": [1, 2], "kwargs": {}}
    asked = {"id": uuid4(), "owner": VICTIM, "job_type": "add", "queue": ELSEWHERE, "payload": payload, **changes}
    job = NewJob(**asked)
    with running.database.autocommit() as connection:
        jobs.submit(connection, job, UNLIMITED)
    return job.id


def _forge(running: LivePlatform, job_id: UUID, task: str = "add", body: Any = None, **headers: Any) -> None:
    content = json.dumps([[100, 200], {}, {}] if body is None else body).encode()
    send(running.broker_url, Forged(task_headers(task, str(job_id), **{DISPATCH_HEADER: 1, **headers}), content))


def _refusals(running: LivePlatform, job_id: UUID) -> list[str]:
    return [each.detail["reason"] for each in running.history(job_id) if each.event == "duplicate_refused"]


@pytest.mark.parametrize("task", ["noop", "fail"])
def test_a_message_of_another_type_is_refused_and_counted(running: LivePlatform, task: str) -> None:
    """A message of another type than its job's is refused, and the job's own message runs it."""
    job_id = _job(running)
    _forge(running, job_id, task)
    eventually(lambda: _refusals(running, job_id) == ["other type"], what="the refusal")
    assert (running.job(job_id).status, running.job(job_id).attempt) == ("queued", 0)


def test_a_message_of_a_task_that_nobody_knows_fails_no_job_of_another_type(running: LivePlatform) -> None:
    """A message of an unknown type is a dead letter, and fails no job of another type."""
    job_id = _job(running)
    _forge(running, job_id, "nobody")
    _forge(running, job_id, "noop")
    eventually(lambda: _refusals(running, job_id), what="the refusal of a later message")
    assert running.job(job_id).status == "queued"


def test_another_payload_is_not_run(running: LivePlatform) -> None:
    """A message with another payload starts the job with the payload of its row."""
    job_id = _job(running)
    _forge(running, job_id)
    assert running.wait_for(job_id).result == 3


@pytest.mark.parametrize("embedded", [{"callbacks": [LINK]}, {"errbacks": [LINK]}, {"chain": [LINK]}, {"chord": LINK}])
@pytest.mark.parametrize("arguments", [[1, 2], ["x", None]])
def test_nothing_follows_that_only_the_message_says(
    running: LivePlatform, embedded: dict[str, Any], arguments: list[Any]
) -> None:
    """Links and errbacks that stand in a message alone are not called."""
    job_id = _job(running, payload={"args": arguments, "kwargs": {}}, max_retries=0)
    _forge(running, job_id, body=[[1, 2], {}, embedded], group="g", organization="acme", user="intruder")
    running.wait_for(job_id)
    assert running.wait_for(running.submit("noop")).status == "succeeded"
    assert [job for job in running.jobs() if job.user_id == "intruder" or job.job_type == "remember"] == []


def test_a_message_cannot_let_a_job_expire(running: LivePlatform) -> None:
    """A forged expired message does not end the job, which its own message runs."""
    job_id = _job(running)
    _forge(running, job_id, expires="2020-01-01T00:00:00+00:00")
    _forge(running, job_id, "noop")
    eventually(lambda: _refusals(running, job_id), what="the refusal of a later message")
    assert running.job(job_id).status == "queued"


def test_a_body_sees_nothing_of_the_message_but_its_own_row(running: LivePlatform) -> None:
    """The retries, group and headers that a body sees are those of its row."""
    job_id = _job(running, job_type="context_of", payload={}, delivery={"passing": "named", "headers": {"mine": 1}})
    forged = {"retries": 7, "group": "g", "root_id": "r", "parent_id": "p", "mine": 2, "other": 3}
    _forge(running, job_id, "context_of", [[], {}, {}], **forged)
    told = running.wait_for(job_id).result
    assert told == {
        "retries": 0,
        "group": None,
        "root_id": str(job_id),
        "parent_id": None,
        "headers": {"mine": 1, "dispatch": 1},
        "other": None,
    }
