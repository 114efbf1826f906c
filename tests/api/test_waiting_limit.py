"""The bound of what an organization may have waiting: who creates beyond it is told to come back later."""

from __future__ import annotations

from uuid import UUID

import pytest

from tests.api.calling import Caller, problem
from tracking import jobs
from tracking.models import Scope


@pytest.fixture
def bounded(caller: Caller) -> Caller:
    """Somebody whose organization may have three jobs waiting."""
    answer = caller.put(f"/v1/organizations/{caller.organization}/waiting-limit", {"limit": 3})
    assert (answer.status_code, answer.json()["waitingLimit"]) == (200, 3)
    return caller


def test_one_more_than_may_wait_is_refused_for_now(bounded: Caller) -> None:
    """The job after the last that may wait is refused with 429 and Retry-After, and accepted when one has ended."""
    first, *_ = (bounded.create().json()["jobId"] for _ in range(3))
    refused = bounded.create()
    assert problem(refused, 429, "too_many_waiting")["detail"].startswith("3 jobs of the organization wait, and 3 may")
    assert refused.headers["Retry-After"] == "5"
    assert bounded.get("/v1/jobs").json()["total"] == 3
    (entry, *_) = bounded.get("/v1/audit").json()["entries"]
    assert (entry["action"], entry["outcome"], entry["code"]) == ("job.create", "refused", "too_many_waiting")
    with bounded.api.database.autocommit() as connection:
        jobs.cancel(connection, UUID(first), Scope(bounded.organization, None), actor="u1")
    assert bounded.create().status_code == 202


def test_whatever_waits_counts_and_nothing_else(bounded: Caller) -> None:
    """Jobs that wait count, whatever for; those that run, have ended, are done elsewhere or another's do not."""
    for state in ("running", "succeeded", "failed", "cancelled"):
        bounded.job(state)
    for _ in range(4):
        bounded.post("/v1/jobs", {})
        bounded.api.caller().job()
    bounded.job("retrying")
    bounded.job()
    assert bounded.create(scheduledAt="2100-01-01T00:00:00Z").status_code == 202
    problem(bounded.create(), 429, "too_many_waiting")
    problem(bounded.but(user="u2").create(), 429, "too_many_waiting")


def test_a_known_key_is_answered_as_before(bounded: Caller) -> None:
    """A create that is repeated with its key is answered with its job, however many wait."""
    first = bounded.create(key="k")
    for _ in range(2):
        bounded.create()
    again = bounded.create(key="k")
    assert (again.status_code, again.json()) == (202, first.json())
    problem(bounded.create(key="new"), 429, "too_many_waiting")


def test_many_jobs_are_accepted_together_or_not_at_all(bounded: Caller) -> None:
    """A request for more jobs than there is room for is refused whole; repeated ones need no room."""
    four = {"jobs": [{"jobType": "open", "idempotencyKey": f"k{number}"} for number in range(4)]}
    problem(bounded.post("/v1/jobs/bulk", four), 429, "too_many_waiting")
    assert bounded.get("/v1/jobs").json()["total"] == 0
    three = {"jobs": four["jobs"][:3]}
    assert bounded.post("/v1/jobs/bulk", three).json()["accepted"] == 3
    assert bounded.post("/v1/jobs/bulk", three).json()["accepted"] == 3
    template = bounded.post("/v1/templates", {"name": "t", "jobType": "open"})
    assert template.status_code == 201
    problem(bounded.post("/v1/templates/t/jobs", {}), 429, "too_many_waiting")


def test_the_bound_is_changed_and_taken_away_at_once(bounded: Caller) -> None:
    """A bound that is raised, set to any number or reset counts for the next request; what waits stays."""
    path = f"/v1/organizations/{bounded.organization}/waiting-limit"
    for _ in range(3):
        bounded.create()
    assert bounded.put(path, {"limit": 1}).json()["waitingLimit"] == 1
    problem(bounded.create(), 429, "too_many_waiting")
    for limit in (4, 0, None):
        assert bounded.put(path, {"limit": limit}).json()["waitingLimit"] == (limit or 0)
        assert bounded.create().status_code == 202
    assert bounded.get("/v1/jobs").json()["total"] == 6
    problem(bounded.but(permissions=("jobs.manage_jobs",)).put(path, {"limit": 9}), 403, "permission_missing")
    actions = [
        each["detail"] for each in bounded.get("/v1/audit", action="organization.waiting_limit").json()["entries"]
    ]
    assert [each.get("limit") for each in actions if each] == [None, 0, 4, 1, 3]
