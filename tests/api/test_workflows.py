"""Workflows over HTTP: what is accepted and refused, shown, cancelled and retried."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from api.schemas.answers import REPLAYED
from tests.api.calling import EVERYTHING, Caller, problem
from tests.live import eventually
from tests.tracked import Tracked
from tests.workflowing import Flow
from tracking.admission import line
from tracking.admission.rule import UNLIMITED

JOBS: dict[str, Any] = {
    "load": {"jobType": "open", "payload": {"from": "shop"}},
    "count": {
        "jobType": "guarded",
        "payload": {"kind": "small", "count": {"$from": "load", "path": "/result/rows"}},
        "after": [{"key": "load"}],
        "priority": 7,
        "metadata": {"team": "a"},
    },
    "alarm": {"jobType": "open", "payload": {}, "after": [{"key": "load", "when": "failed"}]},
}

ELSEWHERE: dict[str, Any] = {
    "load": {"jobType": "generic"},
    "count": JOBS["count"],
    "good": {"jobType": "open", "after": [{"key": "count"}]},
    "bad": {"jobType": "open", "after": [{"key": "count", "when": "failed"}]},
}


def created(caller: Caller, jobs: Any = None, **said: Any) -> dict[str, Any]:
    """A workflow that is accepted."""
    response = caller.post("/v1/workflows", {"name": "nightly", "jobs": jobs or JOBS, **said})
    assert response.status_code == 202, response.text
    answer: dict[str, Any] = response.json()
    assert response.headers["Location"] == f"/v1/workflows/{answer['workflowId']}"
    return answer


def shown(caller: Caller, workflow_id: str) -> dict[str, Any]:
    """It as it is now, with its jobs by their keys."""
    response = caller.get(f"/v1/workflows/{workflow_id}")
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return {**answer, "jobs": {job["key"]: job for job in answer["jobs"]}}


def refused(caller: Caller, jobs: Any) -> list[tuple[str, str]]:
    """What is wrong with these jobs, with the places."""
    body = problem(caller.post("/v1/workflows", {"name": "n", "jobs": jobs}), 422, "invalid_request")
    assert caller.get("/v1/jobs").json()["total"] == 0
    return [(each["field"], each["message"]) for each in body["errors"]]


def run(caller: Caller, job_id: str, kind: Any = "succeeded", **details: Any) -> None:
    """Run one attempt of a job, and let happen what follows, as workers and their leader do."""
    with caller.api.database.autocommit() as connection:
        tracked = Tracked(connection)
        with caller.api.database.begin() as admitting:
            line.admit(admitting, caller.organization, UNLIMITED, 100)
        tracked.end(tracked.start(tracked.get(UUID(job_id))), kind, **details)
        Flow(caller.api.database, tracked, uuid4()).follow()


def test_a_workflow_is_shown_with_its_jobs(caller: Caller) -> None:
    """The jobs of a workflow stand by their keys with what they wait for, and each is a job that names it."""
    answer = created(caller, projectId="p1")
    found = shown(caller, answer["workflowId"])
    assert {key: job["jobId"] for key, job in found["jobs"].items()} == answer["jobs"]
    assert (found["status"], found["progress"], found["run"], found["workerSeconds"]) == ("queued", 0, 1, 0.0)
    assert found["counts"] == {
        **dict.fromkeys(("running", "retrying", "succeeded", "failed", "cancelled", "skipped"), 0),
        "total": 3,
        "queued": 3,
    }
    assert found["jobs"]["alarm"]["after"] == [{"key": "load", "when": "failed"}]
    assert found["jobs"]["count"]["payload"] == JOBS["count"]["payload"]
    job = caller.get(f"/v1/jobs/{answer['jobs']['count']}").json()
    assert (job["priority"], job["projectId"], job["hold"], job["userId"]) == (7, "p1", "dependency", "u1")
    assert job["metadata"] == {"team": "a", "workflowId": answer["workflowId"], "workflowKey": "count"}
    assert job["dependsOn"] == [answer["jobs"]["load"]]


def test_it_runs_through_and_says_so(caller: Caller) -> None:
    """A workflow runs until the last of its jobs ends; values are filled in, and what is skipped is said."""
    answer = created(caller)
    run(caller, answer["jobs"]["load"], result={"rows": 12})
    found = shown(caller, answer["workflowId"])
    assert (found["status"], found["progress"], found["jobs"]["alarm"]["status"]) == ("running", 66, "skipped")
    assert "waits for a failure" in found["jobs"]["alarm"]["errorMessage"]
    assert caller.get(f"/v1/jobs/{answer['jobs']['count']}").json()["payload"]["count"] == 12
    run(caller, answer["jobs"]["count"])
    found = shown(caller, answer["workflowId"])
    assert (found["status"], found["progress"]) == ("succeeded", 100)
    assert found["startedAt"] <= found["completedAt"]
    assert found["workerSeconds"] >= 0


def test_its_graph_has_what_waits_for_what(caller: Caller) -> None:
    """The graph of any job of a workflow has all of them and its conditions, and nothing of other users."""
    answer = created(caller)
    graph = caller.get(f"/v1/jobs/{answer['jobs']['alarm']}/graph").json()
    assert (graph["rootId"], graph["isCut"]) == (answer["workflowId"], False)
    assert {node["jobId"] for node in graph["nodes"]} == set(answer["jobs"].values())
    ids = answer["jobs"]
    assert sorted((edge["before"], edge["after"], edge["kind"], edge["when"]) for edge in graph["edges"]) == sorted(
        [(ids["load"], ids["count"], "dependency", "succeeded"), (ids["load"], ids["alarm"], "dependency", "failed")]
    )
    assert caller.but(user="u2").get(f"/v1/jobs/{ids['alarm']}/graph").status_code == 404


def test_why_it_waits_is_explained(caller: Caller) -> None:
    """A job that waits for a failure is said to wait for that."""
    answer = created(caller)
    found = caller.get(f"/v1/jobs/{answer['jobs']['alarm']}/explain").json()["reasons"]
    reason = next(each for each in found if each["kind"] == "dependency")
    assert reason["jobs"] == [{"jobId": answer["jobs"]["load"], "status": "queued", "when": "failed"}]
    assert f"Waiting for the job {answer['jobs']['load']} to fail" in reason["sentence"]


def test_all_that_is_wrong_is_told_at_once(caller: Caller) -> None:
    """Types, keys, cycles, payloads and pointers that are wrong are refused together, each with its place."""
    found = refused(
        caller,
        {
            "a": {"jobType": "nothing", "after": [{"key": "b"}]},
            "b": {"jobType": "guarded", "payload": {"kind": "huge"}, "after": [{"key": "a"}]},
            "c": {"jobType": "open", "after": [{"key": "zz"}]},
            "d": {"jobType": "llm_agent", "after": [{"key": "c"}]},
        },
    )
    assert ("jobs.a.jobType", "no handler is registered for 'nothing', or it is not offered here") in found
    assert ("jobs.c.after.0.key", "there is no job 'zz' in this workflow") in found
    assert ("jobs.d.after", "the work of a llm_agent is done elsewhere: it waits for nothing") in found
    assert any("they wait for each other" in message for _, message in found)


def test_payloads_are_checked_as_far_as_they_are_known(caller: Caller) -> None:
    """What is wrong beside the values of earlier results is refused; these are checked when they are there."""
    after = {"after": [{"key": "load"}]}
    value = {"$from": "load", "path": "/result/rows"}
    load = {"load": JOBS["load"]}
    assert refused(caller, {**load, "x": {"jobType": "guarded", "payload": {"count": value}, **after}}) == [
        ("jobs.x.payload.kind", "Field required")
    ]
    wrong = {"kind": "huge", "count": value, "more": 1}
    found = refused(caller, {**load, "x": {"jobType": "guarded", "payload": wrong, **after}})
    assert [place for place, _ in found] == ["jobs.x.payload.kind", "jobs.x.payload.more"]
    plain = refused(caller, {**load, "x": {"jobType": "guarded", "payload": {"kind": 5, "count": "x"}}})
    assert [place for place, _ in plain] == ["jobs.x.payload.kind", "jobs.x.payload.count"]
    pointer = {"kind": "small", "count": {"$from": "load", "path": "rows"}}
    [(place, message)] = refused(caller, {**load, "x": {"jobType": "guarded", "payload": pointer, **after}})
    assert place == "jobs.x.payload.count"
    assert "/result" in message
    fine = {"kind": "small", "count": value, "since": {"$from": "load", "path": "/result/since"}}
    created(caller, {**load, "x": {"jobType": "guarded", "payload": fine, **after}})


WHENEVER = {"key": "b", "when": "whenever"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "n", "jobs": {}}, "jobs"),
        ({"name": "n"}, "jobs"),
        ({"jobs": {"a": {"jobType": "open"}}}, "name"),
        ({"name": "n", "jobs": {"a b": {"jobType": "open"}}}, "jobs.a b.[key]"),
        ({"name": "n", "jobs": {"a": {}}}, "jobs.a.jobType"),
        ({"name": "n", "jobs": {"a": {"jobType": "open", "after": [WHENEVER]}}}, "jobs.a.after.0.when"),
        ({"name": "n", "jobs": {"a": {"jobType": "open", "dependsOn": []}}}, "jobs.a.dependsOn"),
        ({"name": "n", "jobs": {"a": {"jobType": "open", "priority": 12}}}, "jobs.a.priority"),
    ],
)
def test_what_is_no_workflow_is_refused(caller: Caller, body: Any, field: str) -> None:
    """A body of another shape is refused with the place."""
    answer = problem(caller.post("/v1/workflows", body), 422, "invalid_request")
    assert [each["field"] for each in answer["errors"]] == [field]


def test_too_many_jobs_are_refused(caller: Caller) -> None:
    """A thousand and one jobs are one too many, and a thousand are accepted in one request."""
    many = {f"n{number}": {"jobType": "open"} for number in range(1001)}
    assert refused(caller, many) == [("jobs", "a workflow has 1000 jobs at most, not 1001")]
    del many["n7"]
    assert len(created(caller, many)["jobs"]) == 1000


def test_a_thousand_jobs_may_say_more_than_their_types(caller: Caller) -> None:
    """A thousand jobs with payloads of two thousand characters are accepted in one request."""
    jobs = {f"n{number}": {"jobType": "open", "payload": {"text": "x" * 2000}} for number in range(1000)}
    assert len(created(caller, jobs)["jobs"]) == 1000


def test_the_same_key_makes_one_workflow(caller: Caller) -> None:
    """A repeated request with its key names the first one's jobs, and with another body it is refused."""
    body, key = {"name": "n", "jobs": JOBS}, {"Idempotency-Key": "k1"}
    first, again = (caller.post("/v1/workflows", body, headers=key) for _ in range(2))
    assert first.json() == again.json()
    assert (first.headers.get(REPLAYED), again.headers[REPLAYED]) == (None, "true")
    problem(caller.post("/v1/workflows", {**body, "name": "m"}, headers=key), 422, "idempotency_conflict")
    assert len(caller.get("/v1/workflows").json()["workflows"]) == 1
    other = caller.but(user="u2").post("/v1/workflows", body, headers=key)
    assert other.json()["workflowId"] != first.json()["workflowId"]


def test_every_handlers_permission_is_needed(caller: Caller) -> None:
    """Who lacks the permission of one of the handlers can neither create nor retry, and nothing is made."""
    answer = created(caller)
    caller.post(f"/v1/workflows/{answer['workflowId']}/cancel")
    without = caller.but(permissions=tuple(each for each in EVERYTHING if each != "tests.guarded"))
    problem(without.post("/v1/workflows", {"name": "n", "jobs": JOBS}), 403, "permission_missing")
    problem(without.post(f"/v1/workflows/{answer['workflowId']}/retry"), 403, "permission_missing")


def test_a_cancelled_workflow_is_retried(caller: Caller) -> None:
    """A cancel ends all, says who and why, cannot be repeated, and its retry makes all jobs anew."""
    answer = created(caller)
    path = f"/v1/workflows/{answer['workflowId']}"
    moved = caller.post(f"{path}/cancel", {"reason": "wrong day"}).json()
    assert moved == {"message": "Workflow cancelled successfully", "status": "cancelled", "jobs": {}}
    found = shown(caller, answer["workflowId"])
    assert (found["status"], found["cancelledBy"], found["reason"]) == ("cancelled", "u1", "wrong day")
    problem(caller.post(f"{path}/cancel"), 409, "illegal_workflow_move")
    retried = caller.post(f"{path}/retry").json()
    assert retried["jobs"].keys() == JOBS.keys()
    assert set(retried["jobs"].values()).isdisjoint(answer["jobs"].values())
    found = shown(caller, answer["workflowId"])
    assert (found["status"], found["run"], found["cancelledBy"]) == ("queued", 2, None)
    problem(caller.post(f"{path}/retry", {"part": "whole"}), 409, "illegal_workflow_move")
    problem(caller.post(f"{path}/retry", {"part": "half"}), 422, "invalid_request")


def test_the_failed_part_is_retried_by_somebody_else_for_its_owner(caller: Caller) -> None:
    """Who sees the whole organization may retry it; the new jobs belong to the workflow's user."""
    answer = created(caller)
    run(caller, answer["jobs"]["load"], "failed")
    run(caller, answer["jobs"]["alarm"])
    boss = caller.but(user="boss", permissions=(*EVERYTHING, "jobs.view_all"))
    retried = boss.post(f"/v1/workflows/{answer['workflowId']}/retry").json()["jobs"]
    assert retried.keys() == JOBS.keys()
    job = caller.get(f"/v1/jobs/{retried['load']}", include="history").json()
    assert (job["userId"], job["status"]) == ("u1", "queued")
    assert job["history"][0]["actor"] == "boss"


def test_the_list_is_paged_and_narrowed(caller: Caller) -> None:
    """Workflows are listed newest first, by status and name, page by page."""
    ids = [created(caller, name=name)["workflowId"] for name in ("a", "b", "b")]
    caller.post(f"/v1/workflows/{ids[1]}/cancel")
    first = caller.get("/v1/workflows", limit=2).json()
    rest = caller.get("/v1/workflows", limit=2, cursor=first["nextCursor"]).json()
    assert [each["id"] for each in (*first["workflows"], *rest["workflows"])] == ids[::-1]
    assert rest["nextCursor"] is None

    def found(**query: Any) -> list[str]:
        return [each["id"] for each in caller.get("/v1/workflows", **query).json()["workflows"]]

    assert found(name="b") == [ids[2], ids[1]]
    assert found(status="cancelled") == [ids[1]]
    assert found(status="queued,running", name="b") == [ids[2]]
    assert caller.but(user="u2").get("/v1/workflows").json()["workflows"] == []


def test_a_wrong_value_fails_its_job_with_the_reason(caller: Caller) -> None:
    """A value that the handler does not take fails the job when it is due, says which, and what follows decides."""
    answer = created(caller, ELSEWHERE)
    caller.patch(f"/v1/jobs/{answer['jobs']['load']}", {"status": "succeeded", "result": {"rows": "many"}})
    failed = eventually(lambda: _ended(caller, answer["jobs"]["count"]), what="its end")
    assert failed["status"] == "failed"
    assert failed["errorMessage"].startswith("payload.count: Input should be a valid integer")
    assert failed["errorMessage"].endswith("(filled in from load)")
    assert "many" not in failed["errorMessage"]
    found = eventually(lambda: _with(shown(caller, answer["workflowId"]), "good", "skipped"), what="the skip")
    assert (found["status"], found["jobs"]["bad"]["status"]) == ("running", "queued")


def test_a_missing_value_fails_its_job_with_the_reason(caller: Caller) -> None:
    """A path that leads nowhere in the result fails the job when it is due, and says where it ended."""
    answer = created(caller, ELSEWHERE)
    caller.patch(f"/v1/jobs/{answer['jobs']['load']}", {"status": "succeeded", "result": {"lines": 5}})
    failed = eventually(lambda: _ended(caller, answer["jobs"]["count"]), what="its end")
    assert failed["errorMessage"] == ("payload.count: there is no /result/rows in the job 'load' (filled in from load)")


def test_a_value_from_elsewhere_is_filled_in(caller: Caller) -> None:
    """A job whose work is done elsewhere hands its result on with the report of its end."""
    answer = created(caller, ELSEWHERE)
    caller.patch(f"/v1/jobs/{answer['jobs']['load']}", {"status": "succeeded", "result": {"rows": 7}})
    count = eventually(lambda: _unless(caller, f"/v1/jobs/{answer['jobs']['count']}", "dependency"), what="its values")
    assert count["payload"] == {"kind": "small", "count": 7, "since": None}


ROWS = {"$from": "load", "path": "/result/rows"}


def test_a_changed_payload_may_name_results(caller: Caller) -> None:
    """Another payload of a job that waits may name results as the first one did, and they are filled in as it says."""
    answer = created(caller, ELSEWHERE)
    path = f"/v1/jobs/{answer['jobs']['count']}"
    changed = {"payload": {"kind": "large", "count": {"$from": "load", "path": "/result/lines"}}}
    assert caller.patch(path, changed).json()["job"]["payload"] == changed["payload"]
    caller.patch(f"/v1/jobs/{answer['jobs']['load']}", {"status": "succeeded", "result": {"rows": 7, "lines": 9}})
    count = eventually(lambda: _unless(caller, path, "dependency"), what="its values")
    assert count["payload"] == {"kind": "large", "count": 9, "since": None}


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ({"kind": "small", "count": {"$from": "good"}}, "payload.count"),
        ({"kind": "small", "count": {"$from": "nobody"}}, "payload.count"),
        ({"kind": "small", "count": {"$from": "load", "path": "rows"}}, "payload.count"),
        ({"kind": "huge", "count": ROWS}, "payload.kind"),
    ],
    ids=str,
)
def test_a_changed_payload_names_no_other_results(caller: Caller, payload: dict[str, Any], field: str) -> None:
    """A change that names a job that is not waited for, or nothing, or has more wrong, is refused with the place."""
    path = f"/v1/jobs/{created(caller, ELSEWHERE)['jobs']['count']}"
    body = problem(caller.patch(path, {"payload": payload}), 422, "invalid_request")
    assert [each["field"] for each in body["errors"]] == [field]
    assert caller.get(path).json()["payload"]["count"] == ROWS


def test_nothing_is_filled_in_any_more(caller: Caller) -> None:
    """When a job has its values, or is repeated by a new one, a payload that names results is refused."""
    answer = created(caller, ELSEWHERE)
    path, naming = f"/v1/jobs/{answer['jobs']['count']}", {"payload": {"kind": "small", "count": ROWS}}
    caller.post("/v1/organization/pause")
    caller.patch(f"/v1/jobs/{answer['jobs']['load']}", {"status": "succeeded", "result": {"rows": 7}})
    eventually(lambda: _unless(caller, path, "dependency"), what="its values")
    assert "filled in already" in problem(caller.patch(path, naming), 409, "illegal_move")["detail"]
    caller.post(f"{path}/cancel")
    body = problem(caller.post(f"{path}/retry", naming), 422, "invalid_request")
    assert [each["field"] for each in body["errors"]] == ["payload.count"]
    assert caller.post(f"{path}/retry", {"payload": {"kind": "small", "count": 7}}).status_code == 202


def _unless(caller: Caller, path: str, hold: str) -> Any:
    job = caller.get(path).json()
    return job if job["hold"] != hold else None


def _ended(caller: Caller, job_id: str) -> Any:
    job = caller.get(f"/v1/jobs/{job_id}").json()
    return job if job["status"] != "queued" else None


def _with(workflow: dict[str, Any], key: str, status: str) -> Any:
    return workflow if workflow["jobs"][key]["status"] == status else None
