"""Jobs whose work is done elsewhere, over HTTP: made, reported on, ended, and seen like any other."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.api.calling import EVERYTHING, Api, Caller, problem
from tracking import external_types
from tracking.external_types import BUILT_IN, ExternalType


def made(caller: Caller, **fields: Any) -> str:
    """The path of a new job without a handler."""
    response = caller.post("/v1/jobs", fields)
    assert response.status_code == 202, response.text
    return f"/v1/jobs/{response.json()['jobId']}"


def test_an_empty_request_makes_a_generic_job(caller: Caller) -> None:
    """A create with an empty body makes a job of the type generic, which is queued and held as external."""
    job = caller.get(made(caller)).json()
    assert (job["jobType"], job["status"], job["hold"], job["payload"]) == ("generic", "queued", "external", {})


def test_what_is_said_of_a_new_one_is_kept(caller: Caller) -> None:
    """Type, message, metadata, payload, project and idempotency key of a job without a handler are kept."""
    said = {
        "jobType": "document_analysis", "message": "Reading", "metadata": {"file": "a.pdf"}, "payload": {"pages": 10},
        "projectId": "p1", "priority": 3,
    }  # fmt: skip
    first = caller.post("/v1/jobs", said, headers={"Idempotency-Key": "k"})
    again = caller.post("/v1/jobs", said, headers={"Idempotency-Key": "k"})
    assert (again.json(), again.headers["Idempotency-Replayed"]) == (first.json(), "true")
    job = caller.get(f"/v1/jobs/{first.json()['jobId']}").json()
    assert {name: job[name] for name in said} == said


@pytest.mark.parametrize("field", [{"scheduledAt": "2030-01-01T00:00:00Z"}, {"dependsOn": [str(UUID(int=1))]}], ids=str)
def test_it_waits_for_nothing(caller: Caller, field: dict[str, Any]) -> None:
    """A job whose work is done elsewhere is refused a time and dependencies, for nobody would start it."""
    body = problem(caller.post("/v1/jobs", {"jobType": "llm_agent", **field}), 422, "invalid_request")
    assert next(iter(field)) in body["detail"]


@pytest.mark.parametrize(
    ("named", "shown"), [("d-17", "d-17"), (17, "17"), (1.5, None), (True, None), (None, None), ({}, None)]
)
def test_a_document_is_named_by_a_text_or_a_number(caller: Caller, named: object, shown: str | None) -> None:
    """The documentId of a result is shown as text, also a whole number, as rows of databases have; all else is none."""
    ended = caller.patch(made(caller), {"status": "succeeded", "result": {"documentId": named}}).json()
    assert ended.get("documentId") == shown
    assert ended["job"]["result"] == {"documentId": named}


def test_it_is_reported_on_to_its_end(caller: Caller) -> None:
    """Reports move a job to its end, each is answered with the status, and a documentId is shown in it."""
    path = made(caller, jobType="file_processing")
    begun = caller.patch(path, {"progress": 40, "message": "Page 4", "detail": {"page": 4}}).json()
    assert (begun["job"]["status"], begun["progress"], begun["progressDetail"]["detail"]) == (
        "running",
        40,
        {"page": 4},
    )
    assert "documentId" not in begun
    ended = caller.patch(path, {"status": "completed", "result": {"documentId": "d-17", "pages": 10}})
    assert (ended.json()["job"]["status"], ended.json()["documentId"]) == ("succeeded", "d-17")
    status = caller.get(f"{path}/status")
    assert (status.json(), status.headers["ETag"]) == (ended.json(), ended.headers["ETag"])
    assert [entry.event for entry in caller.timeline(ended.json()["job"]["id"])] == [
        "created", "started", "progress", "completed",
    ]  # fmt: skip
    problem(caller.patch(path, {"progress": 50}), 409, "illegal_move")


def test_its_failure_says_why(caller: Caller) -> None:
    """A job that is said to have failed shows the error, counts as an attempt that has ended, and can be retried."""
    path = made(caller)
    caller.patch(path, {"status": "running"})
    failed = caller.patch(path, {"status": "error", "error": "no paper"}).json()
    assert (failed["job"]["status"], failed["job"]["errorMessage"], failed["canRetry"]) == ("failed", "no paper", True)
    (attempt,) = caller.get(path, include="attempts").json()["attempts"]
    assert (attempt["worker"], attempt["outcome"], attempt["errorMessage"]) == ("u1", "failed", "no paper")
    assert caller.post(f"{path}/retry").json()["status"] == "queued"
    assert caller.get(path).json()["hold"] == "external"


def test_a_cancel_ends_it_at_once(caller: Caller) -> None:
    """A cancelled job whose work is done elsewhere has ended, and whoever works learns it by a 409."""
    path = made(caller)
    caller.patch(path, {"progress": 10})
    assert caller.post(f"{path}/cancel").json()["status"] == "cancelled"
    problem(caller.patch(path, {"status": "succeeded"}), 409, "illegal_move")
    assert caller.get(path).json()["status"] == "cancelled"


def test_a_report_may_name_the_state_that_it_is_about(caller: Caller) -> None:
    """A report with If-Match is written when nothing has changed since, and is 412 otherwise."""
    path, other = made(caller), made(caller)
    tag, foreign = (caller.get(f"{each}/status").headers["ETag"] for each in (path, other))
    assert caller.patch(path, {"progress": 5}, headers={"If-Match": tag}).status_code == 200
    for stale in (tag, foreign, '"nonsense"', ""):
        problem(caller.patch(path, {"progress": 9}, headers={"If-Match": stale}), 412, "job_changed")
    assert caller.patch(path, {}, headers={"If-Match": "*"}).json()["progress"] == 5


def test_a_job_that_workers_run_is_none_to_report_on(caller: Caller) -> None:
    """A report on a job that workers run is 409 with a code of its own, in every state."""
    for state in ("queued", "running", "failed"):
        job = caller.job(state)
        problem(caller.patch(f"/v1/jobs/{job.id}", {"status": "succeeded"}), 409, "not_external")
        assert caller.find(job.id) == job


@pytest.mark.parametrize(
    "body",
    [
        {"status": "queued"},
        {"status": "retrying"},
        {"progress": 101},
        {"progress": -1},
        {"progress": "5"},
        {"result": {"documentId": "d"}},
        {"status": "running", "error": "no"},
        {"status": "failed", "result": {}},
        {"detail": [1]},
        {"attempt": 2},
        {"message": "\x00"},
    ],
    ids=str,
)
def test_a_report_that_makes_no_sense_is_refused(caller: Caller, body: dict[str, Any]) -> None:
    """A report with a status, a field or a value that it cannot have is 422, and changes nothing."""
    path = made(caller)
    before = caller.get(path).json()
    problem(caller.patch(path, body), 422, "invalid_request")
    assert caller.get(path).json() == before


def test_whoever_tracks_jobs_reports_on_those_of_others(caller: Caller) -> None:
    """A holder of jobs.track_jobs reports on the jobs of the organization, without jobs.create_jobs; others do not."""
    path = made(caller)
    tracker = caller.but(user="u2", permissions=("jobs.track_jobs",))
    assert tracker.patch(path, {"progress": 5}).status_code == 200
    assert caller.timeline(path.rpartition("/")[2])[-1].actor == "u2"
    chief = caller.but(user="u2", permissions=(*EVERYTHING, "jobs.view_all"))
    problem(chief.patch(path, {"progress": 6}), 403, "permission_missing")
    problem(caller.but(user="u2").patch(path, {"progress": 6}), 404, "job_not_found")
    stranger = tracker.but(organization=f"{caller.organization}-2")
    problem(stranger.patch(path, {"progress": 6}), 404, "job_not_found")
    assert caller.get(path).json()["progress"] == 5


def test_a_type_of_an_operators_asks_for_its_permission(caller: Caller, api: Api) -> None:
    """A type that an operator has named is listed with its permission, which a create and a retry ask for."""
    name = f"inspection-{uuid4().hex[:8]}"
    problem(caller.create(name), 422, "unknown_job_type")
    with api.database.autocommit() as connection:
        external_types.put(connection, ExternalType(name, "fleet.inspect"), actor="operator")
    try:
        problem(caller.create(name), 403, "permission_missing")
        inspector = caller.but(permissions=(*EVERYTHING, "fleet.inspect"))
        path = made(inspector, jobType=name)
        inspector.patch(path, {"status": "failed"})
        problem(caller.post(f"{path}/retry"), 403, "permission_missing")
        assert inspector.post(f"{path}/retry").status_code == 200
        listed = {each["jobType"]: each for each in caller.get("/v1/job-types").json()["jobTypes"]}
        assert (listed[name]["permission"], listed[name]["external"]) == ("fleet.inspect", True)
        assert {each for each in listed if listed[each]["external"]} >= {*BUILT_IN, name}
        assert listed["open"]["external"] is False
    finally:
        with api.database.autocommit() as connection:
            external_types.remove(connection, name, actor="admin")
