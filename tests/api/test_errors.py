"""Groups of failures over HTTP, and what is done with them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.calling import OF_GUARDED, Caller, problem
from tests.live import eventually
from tracking.models import JobRecord


def errors(caller: Caller, **asked: Any) -> list[dict[str, Any]]:
    answer = caller.get("/v1/errors", **asked)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["errors"]
    return found


@pytest.fixture
def failures(caller: Caller) -> list[JobRecord]:
    """Two jobs that failed alike, and one of another type."""
    return [caller.job("failed", job_type="guarded") for _ in range(2)] + [caller.job("failed")]


def test_failures_are_grouped(caller: Caller, failures: list[JobRecord]) -> None:
    """A group has all that there is to know of it, and the answer says of which time it is."""
    answer = caller.get("/v1/errors").json()
    assert (answer["total"], answer["isCapped"], answer["sliceMs"]) == (2, False, 3_600_000)
    group = answer["errors"][0]
    first, last = failures[0].completed_at, failures[1].completed_at
    assert first is not None
    assert last is not None
    assert [(each["count"], sum(each["counts"])) for each in answer["errors"]] == [(2, 2), (1, 1)]
    assert {name: value for name, value in group.items() if name not in ("firstSeen", "lastSeen", "counts")} == {
        "fingerprint": OF_GUARDED, "jobType": "guarded", "errorType": "ValueError", "message": "broken", "count": 2,
        "users": 1, "organizationCount": 1, "organizations": [caller.organization],
        "sampleJobId": str(failures[1].id), "sampleMessage": "broken", "failed": 2, "failedIsCapped": False,
        "markedBy": None, "markedAt": None,
    }  # fmt: skip
    assert group["firstSeen"] <= group["lastSeen"]


def test_the_jobs_of_a_group_are_listed(caller: Caller, failures: list[JobRecord]) -> None:
    """The filter `error` of the lists keeps the jobs of a group, also of a project."""
    listed = caller.get("/v1/jobs", error=OF_GUARDED).json()
    assert [job["id"] for job in listed["jobs"]] == [str(failures[1].id), str(failures[0].id)]
    inside = caller.job("failed", job_type="guarded", project_id="p")
    of_project = caller.get("/v1/projects/p/jobs", error=OF_GUARDED).json()["jobs"]
    assert [job["id"] for job in of_project] == [str(inside.id)]
    problem(caller.get("/v1/jobs", error="ValueError"), 422, "invalid_request")


def test_a_group_is_retried_as_a_whole(caller: Caller, failures: list[JobRecord]) -> None:
    """A bulk operation takes the filter `error`, with a canary first; what is retried leaves its group."""
    asked = {"action": "retry", "filter": {"error": OF_GUARDED}}
    preview = caller.post("/v1/bulk", {**asked, "dryRun": True}).json()
    assert (preview["matched"], len(preview["sample"])) == (2, 2)
    operation = caller.post("/v1/bulk", {**asked, "canary": 1}).json()
    assert (operation["counts"]["matched"], operation["filter"]) == (2, {"error": OF_GUARDED})
    assert caller.post(f"/v1/jobs/{failures[0].id}/retry").status_code == 200
    [rest] = eventually(lambda: [group for group in errors(caller) if group["fingerprint"] == OF_GUARDED], what="it")
    assert (rest["count"], rest["failed"]) == (1, 1)


def test_a_group_is_marked(caller: Caller, failures: list[JobRecord]) -> None:
    """A group is resolved, ignored and opened; the answers say who did it, and the lists follow."""
    for state in ("resolved", "ignored"):
        mark = caller.put(f"/v1/errors/{OF_GUARDED}", {"state": state}).json()
        assert (mark["fingerprint"], mark["state"], mark["markedBy"]) == (OF_GUARDED, state, caller.user)
        assert [group["jobType"] for group in errors(caller)] == ["open"]
        [marked] = errors(caller, state=state)
        assert (marked["count"], marked["markedBy"], marked["markedAt"]) == (2, caller.user, mark["markedAt"])
    assert caller.put(f"/v1/errors/{OF_GUARDED}", {"state": "open"}).json()["state"] == "open"
    assert len(errors(caller)) == 2


def test_groups_are_narrowed_and_cut(caller: Caller, failures: list[JobRecord]) -> None:
    """`jobType`, `projectId`, `window` and `limit` narrow the groups; `total` counts those that are not shown."""
    assert [group["jobType"] for group in errors(caller, jobType="open")] == ["open"]
    assert errors(caller, projectId="none") == []
    assert len(errors(caller, window="PT1M")) == 2
    answer = caller.get("/v1/errors", limit=1).json()
    assert (len(answer["errors"]), answer["total"]) == (1, 2)


@pytest.mark.parametrize(
    "asked", [{"window": "P31D"}, {"window": "all"}, {"window": "PT0S"}, {"state": "closed"}, {"limit": 101}], ids=str
)
def test_what_cannot_be_asked_is_refused(caller: Caller, asked: dict[str, Any]) -> None:
    """A window beyond 30 days, and a state that there is none of, are refused."""
    problem(caller.get("/v1/errors", **asked), 422, "invalid_request")


def test_others_see_their_own_failures(caller: Caller, failures: list[JobRecord]) -> None:
    """A user sees groups of their own jobs, `jobs.view_all` those of the organization, an operator those of all."""
    other = caller.but(user="u2")
    assert errors(other) == []
    assert [group["count"] for group in errors(other.but(permissions=(*caller.permissions, "jobs.view_all")))] == [2, 1]
    stranger = caller.api.caller()
    assert errors(stranger) == []
    assert [group["users"] for group in errors(stranger, organization=caller.organization)] == [1, 1]
    everywhere = errors(stranger, organization="*", jobType="guarded")
    assert sum(group["count"] for group in everywhere if group["fingerprint"] == OF_GUARDED) >= 2
    problem(stranger.put("/v1/errors/0123456789abcdef", {"state": "resolved"}), 404, "error_not_found")
