"""Many jobs in one request: all or none, or each with its own answer; keys, permissions and limits as for one."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest

from api.schemas.bulk import MOST_JOBS
from tests.api.calling import EVERYTHING, Caller, problem
from tests.api.handlers import PERMISSION

GOOD: dict[str, Any] = {"jobType": "open", "payload": {"a": 1}}
UNKNOWN = str(UUID(int=7))
# What is refused of a job, the code, and the place.
BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "shape": ({"jobType": "open", "priority": 77}, "invalid_request", "priority"),
    "field": ({"jobType": "open", "colour": "red"}, "invalid_request", "colour"),
    "type": ({"jobType": "nonsense"}, "unknown_job_type", ""),
    "payload": ({"jobType": "guarded", "payload": {"kind": "huge"}}, "invalid_request", "payload.kind"),
    "dependency": ({"jobType": "open", "dependsOn": [UNKNOWN]}, "unknown_dependency", "dependsOn.0"),
    "no object": (7, "invalid_request", ""),  # type: ignore[dict-item]
}


def create(caller: Caller, jobs: list[Any], *, key: str | None = None, **fields: Any) -> Any:
    """The answer to a request for many jobs."""
    headers = {"Idempotency-Key": key} if key is not None else {}
    return caller.post("/v1/jobs/bulk", {"jobs": jobs, **fields}, headers=headers)


def kept(caller: Caller) -> list[dict[str, Any]]:
    """All jobs of the caller, the oldest first."""
    found: list[dict[str, Any]] = list(reversed(caller.get("/v1/jobs", pageSize=100).json()["jobs"]))
    return found


def test_all_are_accepted_in_their_order(caller: Caller) -> None:
    """Every job of a request is accepted, answered in its place, and kept as it was sent."""
    wanted = [{**GOOD, "payload": {"n": n}, "priority": n % 10, "message": f"m{n}"} for n in range(7)]
    body = create(caller, wanted).json()
    assert (body["accepted"], body["refused"]) == (7, 0)
    assert [each["index"] for each in body["jobs"]] == list(range(7))
    assert {each["isNew"] for each in body["jobs"]} == {True}
    for given, answer in zip(wanted, body["jobs"], strict=True):
        job = caller.get(f"/v1/jobs/{answer['jobId']}").json()
        assert {name: job[name] for name in given} == given
    assert len(kept(caller)) == 7


@pytest.mark.parametrize("fault", BAD)
def test_with_one_that_is_refused_none_is_accepted(caller: Caller, fault: str) -> None:
    """In the mode all a refused job refuses the request, with its place, and nothing is written."""
    bad, code, place = BAD[fault]
    body = problem(create(caller, [GOOD, bad, GOOD]), 422, code)
    assert body["detail"].startswith("jobs.1")
    assert body["errors"][0]["field"] == f"jobs.1.{place}".rstrip(".")
    assert kept(caller) == []


@pytest.mark.parametrize("fault", BAD)
def test_each_by_itself_the_others_are_accepted(caller: Caller, fault: str) -> None:
    """In the mode each a refused job is answered with the reason, and the others are accepted."""
    bad, code, place = BAD[fault]
    body = create(caller, [GOOD, bad, GOOD], mode="each").json()
    assert (body["accepted"], body["refused"]) == (2, 1)
    refusal = body["jobs"][1]["refusal"]
    assert (body["jobs"][1]["jobId"], refusal["code"]) == (None, code)
    if place:
        assert place in {each["field"] for each in refusal["errors"]}
    assert [each["id"] for each in kept(caller)] == [body["jobs"][0]["jobId"], body["jobs"][2]["jobId"]]


def test_one_key_stands_for_the_whole_request(caller: Caller) -> None:
    """The same key and jobs are the same jobs; other jobs under that key are refused, and none is made."""
    first = create(caller, [GOOD, GOOD], key="k").json()
    again = create(caller, [GOOD, GOOD], key="k").json()
    assert [each["jobId"] for each in again["jobs"]] == [each["jobId"] for each in first["jobs"]]
    assert {each["isNew"] for each in again["jobs"]} == {False}
    for other in ([GOOD], [GOOD, GOOD, GOOD], [GOOD, {**GOOD, "priority": 3}]):
        problem(create(caller, other, key="k"), 422, "idempotency_conflict")
    assert len(kept(caller)) == 2


def test_a_key_of_another_request_accepts_nothing_of_this_one(caller: Caller) -> None:
    """More jobs under the key of an earlier request are refused as a whole, in the mode each as well."""
    first = create(caller, [GOOD, GOOD], key="k", mode="each").json()
    longer = [GOOD, GOOD, {**GOOD, "priority": 7}]
    problem(create(caller, longer, key="k", mode="each"), 422, "idempotency_conflict")
    problem(
        create(caller, [{**GOOD, "idempotencyKey": "own"}, *longer], key="k", mode="each"), 422, "idempotency_conflict"
    )
    assert {each["id"] for each in kept(caller)} == {each["jobId"] for each in first["jobs"]}
    again = create(caller, [GOOD, GOOD], key="k", mode="each").json()
    assert [each["isNew"] for each in again["jobs"]] == [False, False]


def test_each_may_have_a_key_of_its_own(caller: Caller) -> None:
    """A key of a job is that of a request for it alone: it is made once, in whichever way it is asked for."""
    alone = caller.create(key="a", payload={"a": 1}).json()["jobId"]
    keyed = [{**GOOD, "idempotencyKey": "a"}, {**GOOD, "idempotencyKey": "b"}, {**GOOD, "idempotencyKey": "b"}]
    body = create(caller, keyed, mode="each").json()
    assert [each["isNew"] for each in body["jobs"]] == [False, True, False]
    assert body["jobs"][0]["jobId"] == alone
    assert body["jobs"][1]["jobId"] == body["jobs"][2]["jobId"]
    conflict = create(caller, [GOOD, {**GOOD, "priority": 4, "idempotencyKey": "a"}], mode="each").json()
    assert conflict["jobs"][1]["refusal"]["code"] == "idempotency_conflict"
    mixed = create(caller, [*keyed, GOOD], key="k").json()
    assert [each["isNew"] for each in mixed["jobs"]] == [False, False, False, True]


def test_a_type_that_the_caller_may_not_create_is_refused_and_audited(caller: Caller) -> None:
    """Without the permission of a handler its jobs are refused: the request, or each of them; and that is audited."""
    limited = caller.but(permissions=tuple(name for name in EVERYTHING if name != PERMISSION))
    guarded = {"jobType": "guarded", "payload": {"kind": "small"}}
    problem(create(limited, [GOOD, guarded]), 403, "permission_missing")
    body = create(limited, [GOOD, guarded, guarded], mode="each").json()
    assert [each["refusal"] and each["refusal"]["code"] for each in body["jobs"]] == [
        *(None, "permission_missing"),
        "permission_missing",
    ]
    denied = caller.get("/v1/audit", outcome="denied").json()["entries"]
    assert [each["detail"].get("jobType") for each in denied] == ["guarded", None]
    assert len(kept(caller)) == 1


def test_one_may_not_depend_on_what_the_caller_does_not_see(caller: Caller) -> None:
    """A job that depends on one of another user is refused, and one that depends on an own one waits for it."""
    own, other = caller.job(), caller.but(user="u2").job()
    wanted = [{**GOOD, "dependsOn": [str(own.id)]}, {**GOOD, "dependsOn": [str(own.id), str(other.id)]}]
    body = create(caller, wanted, mode="each").json()
    assert caller.find(body["jobs"][0]["jobId"]).hold == "dependency"
    assert body["jobs"][1]["refusal"]["errors"] == [{"field": "dependsOn.1", "message": "There is no such job"}]


@pytest.mark.parametrize(
    "body", [{}, {"jobs": []}, {"jobs": [GOOD], "mode": "some"}, {"jobs": [GOOD], "x": 1}], ids=str
)
def test_a_request_that_makes_no_sense_is_refused(caller: Caller, body: dict[str, Any]) -> None:
    """A request without jobs, of an unknown mode, or with an unknown field is 422."""
    problem(caller.post("/v1/jobs/bulk", body), 422, "invalid_request")


def test_ten_thousand_are_accepted_and_one_more_is_not(caller: Caller) -> None:
    """A request may have 10,000 jobs, which are all accepted; one more is refused."""
    wanted = [{**GOOD, "payload": {"n": n}} for n in range(MOST_JOBS)]
    body = create(caller, wanted, key="many").json()
    assert (body["accepted"], body["refused"]) == (MOST_JOBS, 0)
    assert caller.get("/v1/jobs/stats").json()["totalActive"] == MOST_JOBS
    problem(create(caller, [*wanted, GOOD]), 422, "invalid_request")


def test_a_body_that_is_too_large_is_not_read(caller: Caller) -> None:
    """A bulk of more than 16 MiB is refused, a workflow of more than 4, and any other body of more than half a MiB."""
    headers = {**caller.headers, "Content-Type": "application/json"}
    for path, size in (("/v1/jobs/bulk", 16 * 2**20), ("/v1/workflows", 4 * 2**20), ("/v1/jobs", 512 * 1024)):
        content = json.dumps({"jobType": "open", "message": "x" * size}).encode()
        response = caller.api.client.post(path, content=content, headers=headers)
        assert response.json()["code"] == "body_too_large"
