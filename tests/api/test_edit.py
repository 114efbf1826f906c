"""Changing a waiting job over HTTP: its payload as its handler wants it, its priority and its time."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.calling import EVERYTHING, Caller, problem
from tests.api.handlers import PERMISSION


def test_a_waiting_job_is_changed(caller: Caller) -> None:
    """Payload, priority and time of a waiting job are changed, and the answer shows it with its ETag."""
    path = f"/v1/jobs/{caller.create('guarded', payload={'kind': 'small'}).json()['jobId']}"
    changed = caller.patch(path, {"payload": {"kind": "large"}, "priority": 9, "scheduledAt": "2998-01-01T00:00:00Z"})
    job = changed.json()["job"]
    assert (job["payload"], job["priority"], job["hold"]) == (
        {"kind": "large", "count": 1, "since": None},
        9,
        "schedule",
    )
    assert job["scheduledAt"] == "2998-01-01T00:00:00.000Z"
    assert changed.headers["ETag"] == caller.get(f"{path}/status").headers["ETag"]
    history = caller.get(path, include="history").json()["history"]
    assert (history[-1]["event"], history[-1]["actor"]) == ("edited", caller.user)
    assert caller.get("/v1/audit").json()["entries"][0]["action"] == "job.change"


def test_a_time_that_is_null_is_taken_away(caller: Caller) -> None:
    """A job that is to begin later begins at once when its time is null, which beside a report says nothing."""
    later = caller.create("guarded", payload={"kind": "small"}, scheduledAt="2998-01-01T00:00:00Z").json()["jobId"]
    job = caller.patch(f"/v1/jobs/{later}", {"scheduledAt": None}).json()["job"]
    assert job["scheduledAt"] is None
    assert job["hold"] != "schedule"
    tracked = caller.create("generic").json()["jobId"]
    assert caller.patch(f"/v1/jobs/{tracked}", {"progress": 5, "scheduledAt": None}).json()["progress"] == 5
    problem(caller.patch(f"/v1/jobs/{tracked}", {"scheduledAt": None}), 409, "illegal_move")


@pytest.mark.parametrize("state", ["running", "succeeded", "failed", "cancelled"])
def test_no_other_job_is_changed(caller: Caller, state: str) -> None:
    """A change of a job that does not wait is 409, and changes nothing."""
    job = caller.job(state)
    problem(caller.patch(f"/v1/jobs/{job.id}", {"priority": 9}), 409, "illegal_move")
    assert caller.find(job.id) == job


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"payload": {"kind": "huge"}}, "payload.kind"),
        ({"payload": {"kind": "small", "x": 1}}, "payload.x"),
        ({"priority": 10}, "priority"),
        ({"priority": 5, "progress": 5}, ""),
        ({"payload": {"kind": "small"}, "status": "failed"}, ""),
        ({"scheduledAt": "soon"}, "scheduledAt"),
    ],
    ids=str,
)
def test_a_change_that_makes_no_sense_is_refused(caller: Caller, body: dict[str, Any], field: str) -> None:
    """A payload that the handler does not take, a wrong value, and a report beside a change are 422."""
    job = caller.job(job_type="guarded", payload={"kind": "small"})
    answer = problem(caller.patch(f"/v1/jobs/{job.id}", body), 422, "invalid_request")
    assert field in {each["field"] for each in answer["errors"]}
    assert caller.find(job.id) == job


def test_who_may_create_such_a_job_may_change_it(caller: Caller) -> None:
    """A change takes jobs.create_jobs and the handler's permission; another user's job is 404."""
    job = caller.job(job_type="guarded", payload={"kind": "small"})
    path = f"/v1/jobs/{job.id}"
    limited = caller.but(permissions=tuple(name for name in EVERYTHING if name != PERMISSION))
    problem(limited.patch(path, {"priority": 9}), 403, "permission_missing")
    problem(
        caller.but(permissions=("jobs.track_jobs", PERMISSION)).patch(path, {"priority": 9}), 403, "permission_missing"
    )
    problem(caller.but(user="u2").patch(path, {"priority": 9}), 404, "job_not_found")
    assert caller.find(job.id) == job
    chief = caller.but(user="u2", permissions=(*EVERYTHING, "jobs.view_all"))
    assert chief.patch(path, {"priority": 9}).status_code == 200
