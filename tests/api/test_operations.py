"""Bulk operations over HTTP: made at once, read while they are worked off, aborted. The tests are the leader."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from tests.api.calling import EVERYTHING, Caller, problem
from tests.api.handlers import PERMISSION
from tracking.admission.rule import UNLIMITED
from tracking.operated import State
from tracking.operations import work
from tracking.operations.values import Operation

ALL = (*EVERYTHING, "jobs.delete_jobs")
SOME = "019aa0f3-7c1e-7d5a-9f57-3a1f6a0c9d11"
FIELDS = {"id", "organizationId", "userId", "action", "state", "reason", "filter", "ids", "priority", "force", "canary"}


def begun(caller: Caller, action: str, **body: Any) -> dict[str, Any]:
    """An operation that was accepted."""
    wanted = body if {"ids", "filter"} & body.keys() else {"filter": {}, **body}
    everything = caller.but(permissions=(*ALL, *caller.permissions))
    answer = everything.post("/v1/bulk", {"action": action, **wanted})
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == f"/v1/bulk/{answer.json()['id']}"
    found: dict[str, Any] = answer.json()
    return found


def worked(caller: Caller, operation: dict[str, Any]) -> dict[str, Any]:
    """The same after the leader has worked it off."""
    for _ in range(20):
        with caller.api.database.begin() as connection:
            found = text("SELECT * FROM operations WHERE id = :id AND completed_at IS NULL FOR UPDATE")
            row = connection.execute(found, {"id": operation["id"]}).first()
            if row is None:
                break
            work.work(connection, Operation.of(row), UNLIMITED, 100, timedelta(hours=1))
    shown: dict[str, Any] = caller.get(f"/v1/bulk/{operation['id']}").json()
    return shown


def test_what_matches_a_filter_is_done(caller: Caller) -> None:
    """An operation does its verb to what its filter matches, and shows counts, progress and what became of each job."""
    failed = [str(caller.job("failed").id) for _ in range(3)]
    caller.job("succeeded")
    operation = begun(caller, "retry", filter={"status": ["error"], "jobType": "open"})
    assert operation.keys() >= FIELDS
    assert (operation["state"], operation["counts"]["matched"], operation["progress"]) == ("running", 3, 0)
    assert operation["filter"] == {"status": ["failed"], "jobType": "open"}
    path = f"/v1/bulk/{operation['id']}"
    assert caller.get(path).headers["Retry-After"] == "1"
    done = worked(caller, operation)
    assert (done["state"], done["progress"], done["completedAt"] is not None) == ("completed", 100, True)
    assert done["counts"] == {"matched": 3, "done": 3, "succeeded": 3, "refused": 0, "failed": 0}
    assert "Retry-After" not in caller.get(path).headers
    jobs = caller.get(f"{path}/jobs", outcome="succeeded,failed").json()["jobs"]
    assert [each["jobId"] for each in jobs] == sorted(failed)
    assert caller.get("/v1/bulk", state="completed").json()["operations"] == [done]
    history = caller.get(f"/v1/jobs/{failed[0]}", include="history").json()["history"]
    assert history[-1]["detail"]["operation"] == operation["id"]


def test_a_job_that_refuses_says_why(caller: Caller) -> None:
    """A job that the verb does not suit is refused with the code and the words of the single verb."""
    job = caller.job("succeeded")
    operation = worked(caller, begun(caller, "cancel", ids=[str(job.id)]))
    assert (operation["ids"], operation["counts"]["matched"], operation["counts"]["refused"]) == (1, 1, 1)
    (result,) = caller.get(f"/v1/bulk/{operation['id']}/jobs").json()["jobs"]
    single = problem(caller.post(f"/v1/jobs/{job.id}/cancel"), 409, "illegal_move")
    assert (result["code"], result["detail"]) == ("illegal_move", single["detail"])


def test_each_job_that_is_named_has_an_outcome(caller: Caller) -> None:
    """An id of no job, or of another organization's, is refused as not found; it does not vanish from the counts."""
    mine, theirs, none = caller.job("failed"), caller.api.caller().job("failed"), uuid4()
    ids = [str(each) for each in (mine.id, theirs.id, none, mine.id)]
    operation = begun(caller, "retry", ids=ids)
    assert (operation["ids"], operation["counts"]["matched"]) == (4, 3)
    done = worked(caller, operation)
    assert done["counts"] == {"matched": 3, "done": 3, "succeeded": 1, "refused": 2, "failed": 0}
    refused = caller.get(f"/v1/bulk/{operation['id']}/jobs", outcome="refused").json()["jobs"]
    assert {(each["jobId"], each["code"]) for each in refused} == {
        (str(each), "job_not_found") for each in (theirs.id, none)
    }
    assert caller.find(theirs.id).status == "failed"


def test_a_dry_run_changes_nothing(caller: Caller) -> None:
    """A dry run says how many jobs match and shows some, and neither makes an operation nor touches a job."""
    found = [caller.job("failed") for _ in range(12)]
    answer = caller.post("/v1/bulk", {"action": "retry", "filter": {"status": ["failed"]}, "dryRun": True})
    assert (answer.status_code, answer.json()["matched"], len(answer.json()["sample"])) == (200, 12, 10)
    assert answer.json()["sample"][0]["id"] == str(found[-1].id)
    assert caller.get("/v1/bulk").json() == {"operations": [], "nextCursor": None}
    assert [caller.find(job.id) for job in found] == found


@pytest.mark.parametrize(
    "filters",
    [
        {"status": ["failed", "cancelled"]},
        {"q": 'error:"broken"'},
        {"jobType": "guarded"},
        {"projectId": "p1"},
        {"createdFrom": "2998-01-01T00:00:00Z"},
        {},
    ],
    ids=str,
)
def test_its_filter_is_that_of_the_list(caller: Caller, filters: dict[str, Any]) -> None:
    """The filter of an operation matches what the list shows for the same filter."""
    for state in ("queued", "running", "failed", "cancelled", "succeeded"):
        caller.job(state, project_id="p1" if state == "failed" else None)
        caller.job(state, job_type="guarded")
    listed = {name: ",".join(value) for name, value in filters.items() if isinstance(value, list)}
    query: dict[str, Any] = {**filters, **listed}
    shown = {each["id"] for each in caller.get("/v1/jobs", **query).json()["jobs"]}
    operation = begun(caller, "cancel", filter=filters)
    jobs = caller.get(f"/v1/bulk/{operation['id']}/jobs").json()["jobs"]
    assert {each["jobId"] for each in jobs} == shown


@pytest.mark.parametrize(
    "body",
    [
        {"action": "cancel"},
        {"action": "cancel", "filter": {}, "ids": [SOME]},
        {"action": "cancel", "ids": []},
        {"action": "cancel", "filter": {}, "priority": 3},
        {"action": "cancel", "filter": {}, "canary": 3},
        {"action": "delete", "filter": {}, "force": True},
        {"action": "reprioritize", "filter": {}},
        {"action": "reprioritize", "filter": {}, "priority": 10},
        {"action": "retry", "filter": {}, "continueIf": "all_succeeded"},
        {"action": "retry", "filter": {}, "canary": 0},
        {"action": "retry", "filter": {}, "canary": 5, "continueIf": "some_succeeded"},
        {"action": "retry", "filter": {"page": 1}},
        {"action": "retry", "filter": {"status": "failed"}},
        {"action": "retry", "filter": {"status": [7]}},
        {"action": "cancel", "filter": {"status": []}},
        {"action": "delete", "filter": {"ids": []}, "dryRun": True},
        {"action": "explode", "filter": {}},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(caller: Caller, body: dict[str, Any]) -> None:
    """A request that names no jobs or two ways to find them, or what its action does not have, is 422."""
    problem(caller.but(permissions=ALL).post("/v1/bulk", body), 422, "invalid_request")
    assert caller.get("/v1/bulk").json()["operations"] == []


@pytest.mark.parametrize(
    ("action", "permission"),
    [
        ("cancel", "jobs.cancel_jobs"),
        ("retry", "jobs.retry_jobs"),
        ("reprioritize", "jobs.create_jobs"),
        ("delete", "jobs.delete_jobs"),
    ],
)
def test_each_action_takes_its_permission(caller: Caller, action: str, permission: str) -> None:
    """An action without its permission is 403 and in the audit, and so is the abort of one."""
    body: dict[str, Any] = {"action": action, "filter": {}, **({"priority": 1} if action == "reprioritize" else {})}
    limited = caller.but(permissions=tuple(name for name in ALL if name != permission))
    told_alone = problem(limited.post("/v1/bulk", body), 403, "permission_missing")
    assert told_alone["detail"] == f"The permission {permission} is needed."
    operation = begun(caller, **body)
    problem(limited.post(f"/v1/bulk/{operation['id']}/abort"), 403, "permission_missing")
    entries = caller.get("/v1/audit").json()["entries"]
    told = [(entry["action"], entry["outcome"], entry["target"]) for entry in entries]
    made = operation["id"]
    assert told == [("bulk.abort", "denied", made), ("bulk.create", "done", made), ("bulk.create", "denied", None)]


def test_whoever_may_do_nothing_of_it_is_told_all_that_would_do(caller: Caller) -> None:
    """Where one of several permissions is enough, the refusal of a caller without any of them names them all."""
    answer = problem(
        caller.but(permissions=()).post("/v1/bulk", {"action": "retry", "filter": {}}), 403, "permission_missing"
    )
    assert all(name in answer["detail"] for name in ("jobs.cancel_jobs", "jobs.retry_jobs", "jobs.delete_jobs"))


def test_a_retry_takes_the_handlers_permission(caller: Caller) -> None:
    """Jobs whose handler wants a permission that the caller lacks are refused, the others are retried."""
    guarded, free = caller.job("failed", job_type="guarded"), caller.job("failed")
    gone, outside = caller.job("failed", job_type="gone"), caller.job("cancelled", job_type="generic", external=True)
    limited = caller.but(permissions=tuple(name for name in EVERYTHING if name != PERMISSION))
    answer = limited.post("/v1/bulk", {"action": "retry", "filter": {}})
    worked(caller, answer.json())
    jobs = caller.get(f"/v1/bulk/{answer.json()['id']}/jobs").json()["jobs"]
    assert {each["jobId"]: (each["outcome"], each["code"]) for each in jobs} == {
        str(guarded.id): ("refused", "permission_missing"),
        str(free.id): ("succeeded", None),
        str(gone.id): ("refused", "unknown_job_type"),
        str(outside.id): ("succeeded", None),
    }
    denied = caller.get("/v1/audit", outcome="denied").json()["entries"]
    assert {entry["detail"]["jobType"] for entry in denied} == {"guarded", "gone"}


def test_nobody_sees_the_operations_of_others(caller: Caller) -> None:
    """An operation touches its creator's jobs and is shown to them; jobs.view_all widens both to the organization."""
    mine, theirs = caller.job(), caller.but(user="u2").job()
    operation = begun(caller, "cancel")
    assert operation["counts"]["matched"] == 1
    path = f"/v1/bulk/{operation['id']}"
    for stranger in (caller.but(user="u2"), caller.but(organization=f"{caller.organization}-other")):
        assert stranger.get("/v1/bulk").json()["operations"] == []
        for response in (stranger.get(path), stranger.get(f"{path}/jobs"), stranger.post(f"{path}/abort")):
            problem(response, 404, "operation_not_found")
    chief = caller.but(user="u3", permissions=(*ALL, "jobs.view_all"))
    assert chief.get(path).json() == operation
    both = worked(chief, begun(chief, "cancel", ids=[str(mine.id), str(theirs.id)]))
    assert both["counts"]["matched"] == 2
    assert chief.post(f"{path}/abort").json()["reason"] == "aborted by u3"


def test_an_abort_ends_it(caller: Caller) -> None:
    """An abort leaves what was not done; a second one, or one of an operation that has ended, is 409."""
    caller.job()
    path = f"/v1/bulk/{begun(caller, 'cancel')['id']}"
    assert caller.post(f"{path}/abort").json()["state"] == "aborted"
    problem(caller.post(f"{path}/abort"), 409, "operation_ended")
    (job,) = caller.get(f"{path}/jobs", outcome="pending").json()["jobs"]
    assert caller.find(job["jobId"]).status == "queued"


def test_one_too_many_is_told_to_wait(caller: Caller) -> None:
    """The fourth operation at once is 429 with Retry-After; one with the key of an earlier one is that one."""
    body, key = {"action": "cancel", "filter": {}}, {"Idempotency-Key": "k1"}
    first = caller.post("/v1/bulk", body, headers=key)
    for _ in range(2):
        begun(caller, "cancel")
    refused = caller.post("/v1/bulk", body)
    problem(refused, 429, "too_many_operations")
    assert int(refused.headers["Retry-After"]) > 0
    again = caller.post("/v1/bulk", body, headers=key)
    assert (again.json(), again.headers["Idempotency-Replayed"]) == (first.json(), "true")
    problem(caller.post("/v1/bulk", {**body, "ids": None, "action": "retry"}, headers=key), 422, "idempotency_conflict")


def test_a_canary_shows_its_state(caller: Caller) -> None:
    """A canary retry shows which jobs are tried first, until when, and why it has stopped."""
    for _ in range(3):
        caller.job("failed")
    operation = worked(caller, begun(caller, "retry", filter={}, canary=2, continueIf="all_succeeded"))
    assert (operation["state"], operation["counts"]["done"]) == ("canary", 2)
    assert operation["canaryUntil"] > operation["createdAt"]
    tried = [each for each in caller.get(f"/v1/bulk/{operation['id']}/jobs").json()["jobs"] if each["isCanary"]]
    caller.post(f"/v1/jobs/{tried[0]['jobId']}/cancel")
    stopped = worked(caller, operation)
    assert (stopped["state"], stopped["reason"]) == (State.STOPPED, f"the job {tried[0]['jobId']} is cancelled")


def test_finished_jobs_are_deleted(caller: Caller) -> None:
    """A deleted job is 404, and what people did to it stays in the audit."""
    job_id = caller.create().json()["jobId"]
    caller.post(f"/v1/jobs/{job_id}/cancel")
    worked(caller, begun(caller, "delete", filter={"status": ["cancelled"]}))
    problem(caller.get(f"/v1/jobs/{job_id}"), 404, "job_not_found")
    entries = caller.get("/v1/audit", target=job_id).json()["entries"]
    assert [entry["action"] for entry in entries] == ["job.cancel", "job.create"]
