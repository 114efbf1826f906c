"""Retrying over HTTP: the job itself, or a new one that repeats it with another payload."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.api.calling import EVERYTHING, Caller, problem
from tests.api.handlers import PERMISSION


def guarded(caller: Caller, state: str = "failed", **fields: Any) -> tuple[str, str]:
    """A job that has ended, its id and the path to its retry."""
    job = caller.job(state, job_type="guarded", payload={"kind": "small"}, **fields)
    return str(job.id), f"/v1/jobs/{job.id}/retry"


def test_a_retry_with_a_payload_is_a_new_job(caller: Caller) -> None:
    """A retry with a payload makes a new job with what its handler takes, and either job names the other one."""
    old, path = guarded(caller, project_id="p1", metadata={"from": "test"})
    before = caller.get(f"/v1/jobs/{old}").json()
    answer = caller.post(path, {"payload": {"kind": "large"}, "priority": 8})
    anew = answer.json()["jobId"]
    assert (answer.status_code, answer.headers["Location"]) == (202, f"/v1/jobs/{anew}")
    job = caller.get(f"/v1/jobs/{anew}").json()
    assert job["payload"] == {"kind": "large", "count": 1, "since": None}
    assert (job["retryOf"], job["projectId"], job["metadata"], job["priority"]) == (old, "p1", {"from": "test"}, 8)
    shown = caller.get(f"/v1/jobs/{old}", include="retries").json()
    assert shown.pop("retries") == [{"jobId": anew, "status": "queued", "createdAt": job["createdAt"]}]
    assert shown == before
    done = [(entry["action"], entry["target"]) for entry in caller.get("/v1/audit").json()["entries"]]
    assert sorted(done) == [("job.create", anew), ("job.retry", old)]


def test_its_canvas_is_not_repeated(caller: Caller) -> None:
    """What was to follow the old job is not sent after the new one."""
    _, path = guarded(caller, delivery={"link": [{"task": "open"}], "soft_time_limit": 5, "task_id": "mine"})
    anew = caller.find(caller.post(path, {"payload": {"kind": "large"}}).json()["jobId"])
    kept = {name: value for name, value in anew.delivery.items() if value is not None}
    assert kept == {"soft_time_limit": 5}


def test_the_same_key_makes_one_new_job(caller: Caller) -> None:
    """A retry that is repeated with its Idempotency-Key answers with the same job; another payload under it is 422."""
    _, path = guarded(caller)
    key = {"Idempotency-Key": "k1"}
    first, again = (caller.post(path, {"payload": {"kind": "large"}}, headers=key) for _ in range(2))
    assert (first.json(), again.headers["Idempotency-Replayed"]) == (again.json(), "true")
    problem(caller.post(path, {"payload": {"kind": "small"}}, headers=key), 422, "idempotency_conflict")


def test_a_retry_in_place_is_done_once_under_a_key(caller: Caller) -> None:
    """A retry without a payload that is repeated under its key is one retry, also when the job has ended meanwhile."""
    old, path = guarded(caller, max_retries=9)
    _, elsewhere = guarded(caller, max_retries=9)
    key = {"Idempotency-Key": "k1"}
    first, again = (caller.post(path, {"priority": 7}, headers=key) for _ in range(2))
    assert (first.status_code, again.status_code, first.json()) == (200, 200, again.json())
    assert ("Idempotency-Replayed" in first.headers, again.headers["Idempotency-Replayed"]) == (False, "true")
    assert caller.post(f"/v1/jobs/{old}/cancel").status_code == 200
    late = caller.post(path, {"priority": 7}, headers=key)
    assert (late.status_code, late.json()["status"]) == (200, "cancelled")
    for other in (None, {"priority": 7, "force": True}, {"priority": 8}):
        problem(caller.post(path, other, headers=key), 422, "idempotency_conflict")
    assert caller.find(old).retry_count == 1
    assert caller.post(path, headers={"Idempotency-Key": "k2"}).json()["status"] == "queued"
    assert caller.post(path, headers={"Idempotency-Key": "k2"}).headers["Idempotency-Replayed"] == "true"
    assert caller.post(elsewhere, headers=key).json()["status"] == "queued"
    problem(caller.but(organization="somebody-else").post(path, headers=key), 404, "job_not_found")


def test_a_key_stands_for_one_kind_of_retry(caller: Caller) -> None:
    """A key under which a job was retried makes no new job with a payload, and the other way round: either is 422."""
    key = {"Idempotency-Key": "k1"}
    for bodies in ([None, {"payload": {"kind": "large"}}], [{"payload": {"kind": "large"}}, None]):
        old, path = guarded(caller, max_retries=9)
        first = caller.post(path, bodies[0], headers=key)
        assert first.is_success
        problem(caller.post(path, bodies[1], headers=key), 422, "idempotency_conflict")
        caller.post(f"/v1/jobs/{old}/cancel")
        problem(caller.post(path, bodies[1], headers=key), 422, "idempotency_conflict")
        assert caller.post(path, bodies[0], headers=key).headers["Idempotency-Replayed"] == "true"
        retries = caller.get(f"/v1/jobs/{old}", include="retries").json()["retries"]
        assert len(retries) == (bodies[0] is not None)


def test_numbers_beyond_the_integers_come_back_as_they_were_sent(caller: Caller) -> None:
    """1e300 in a payload is shown as the number that it was, and what is shown is taken again by a retry."""
    sent = {"anything": [1e300, -1e300, 1e22, 2**53, -(2**53), 1.5, 5e-324]}
    job = caller.job("failed", payload=sent)
    shown = caller.get(f"/v1/jobs/{job.id}")
    assert shown.json()["payload"] == sent
    assert "1e+300" in shown.text or "1e300" in shown.text
    assert [type(each) for each in shown.json()["payload"]["anything"]] == [float, float, float, int, int, float, float]
    again = caller.post(f"/v1/jobs/{job.id}/retry", {"payload": shown.json()["payload"], "force": True})
    assert again.status_code == 202, again.text


def test_retries_under_one_key_at_the_same_moment_are_one(caller: Caller) -> None:
    """Of eight requests with the same key at once each is answered with success, and the job is retried once."""
    old, path = guarded(caller, max_retries=9)
    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(caller.post, path, headers={"Idempotency-Key": "k"}) for _ in range(8)]
        answers = [each.result(30) for each in asked]
    assert [answer.status_code for answer in answers] == [200] * 8
    assert sum("Idempotency-Replayed" in answer.headers for answer in answers) == 7
    assert caller.find(old).retry_count == 1


def test_a_retry_in_place_takes_a_priority(caller: Caller) -> None:
    """A retry without a payload runs the job itself again, with the priority that is given."""
    old, path = guarded(caller)
    answer = caller.post(path, {"priority": 9})
    assert (answer.status_code, answer.json()) == (
        200,
        {"message": "Job retry initiated successfully", "status": "queued"},
    )
    assert (caller.find(old).priority, caller.find(old).status) == (9, "queued")


@pytest.mark.parametrize("payload", [{"kind": "huge"}, {"kind": "small", "x": 1}], ids=str)
def test_a_payload_that_the_handler_does_not_take_is_refused(caller: Caller, payload: dict[str, Any]) -> None:
    """A retry with a payload that its handler does not take is 422 and names the field, and nothing is made."""
    old, path = guarded(caller)
    answer = problem(caller.post(path, {"payload": payload}), 422, "invalid_request")
    assert answer["errors"][0]["field"].startswith("payload.")
    assert caller.get(f"/v1/jobs/{old}", include="retries").json()["retries"] == []


def test_who_may_retry_such_a_job_may_repeat_it(caller: Caller) -> None:
    """A retry with a payload takes jobs.retry_jobs and the handler's permission; the new job is its owner's."""
    old, path = guarded(caller)
    body = {"payload": {"kind": "large"}}
    for missing in ("jobs.retry_jobs", PERMISSION):
        limited = caller.but(permissions=tuple(name for name in EVERYTHING if name != missing))
        problem(limited.post(path, body), 403, "permission_missing")
    problem(caller.but(user="u2").post(path, body), 404, "job_not_found")
    problem(caller.but(organization=f"{caller.organization}-other").post(path, body), 404, "job_not_found")
    assert caller.get(f"/v1/jobs/{old}", include="retries").json()["retries"] == []
    chief = caller.but(user="u2", permissions=(*EVERYTHING, "jobs.view_all"))
    anew = chief.post(path, body).json()["jobId"]
    assert (caller.find(anew).user_id, caller.timeline(anew)[0].actor) == (caller.user, "u2")


def test_work_that_is_done_elsewhere_is_repeated_by_such_work(caller: Caller) -> None:
    """A retry with a payload of a job whose work is done elsewhere makes another one of that kind."""
    job = caller.job("cancelled", job_type="generic", external=True)
    anew = caller.find(caller.post(f"/v1/jobs/{job.id}/retry", {"payload": {"page": 2}}).json()["jobId"])
    assert (anew.external, anew.hold, anew.payload) == (True, "external", {"page": 2})
