"""What a request says and no route reads: it is refused, never answered as if it had not been said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.api.calling import Api, Caller, problem

STREAMS = ("/v1/events",)  # a stream does not end


@pytest.fixture
def operations(api: Api) -> list[tuple[str, str, dict[str, Any]]]:
    """Every operation under /v1 that takes a token: method, path without its parameters, and description."""
    document = api.client.get("/openapi.json").json()
    return [
        (method.upper(), path.replace("{queue}", "default").replace("{", "").replace("}", ""), operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if path.startswith("/v1/") and path not in STREAMS
    ]


def fields(body: dict[str, Any]) -> Iterator[str]:
    """The fields that a problem is about."""
    return (each["field"] for each in body["errors"])


def test_a_parameter_that_nobody_reads_is_refused(
    operations: list[tuple[str, str, dict[str, Any]]], caller: Caller
) -> None:
    """Every operation answers 422 for a parameter of the query that it does not know, and names it."""
    operator = caller.but(permissions=(*caller.permissions, "jobs.view_all", "jobs.delete_jobs"))
    for method, path, operation in operations:
        named = path.replace("/id", f"/{uuid4()}").replace("deliveryId", str(uuid4()))
        body: dict[str, Any] | None = {} if "requestBody" in operation else None
        answer = caller.api.client.request(
            method, named, params={"organisation": "acme"}, headers=operator.headers, json=body
        )
        assert "organisation" in fields(problem(answer, 422, "invalid_request")), (method, path)


def test_a_body_that_nobody_reads_is_refused(operations: list[tuple[str, str, dict[str, Any]]], caller: Caller) -> None:
    """Every operation that takes no body answers 422 for one, so that nobody takes what they said for done."""
    without = [each for each in operations if each[0] != "GET" and "requestBody" not in each[2]]
    assert len(without) > 10
    for method, path, _ in without:
        named = path.replace("/id", f"/{uuid4()}").replace("deliveryId", str(uuid4()))
        answer = caller.api.client.request(method, named, json={"payload": {}}, headers=caller.headers)
        told = problem(answer, 422, "invalid_request")
        assert told["detail"] == "request: This request takes no body", (method, path)


def test_a_schedule_is_not_run_with_a_payload_that_is_not_its_own(caller: Caller) -> None:
    """Whoever sends a payload with a run is told so; no job is made of the schedule's own payload instead."""
    made = caller.schedule(uuid4(), "nightly")
    problem(caller.post(f"/v1/schedules/{made.id}/run", {"payload": {"kind": "large"}}), 422, "invalid_request")
    assert caller.get("/v1/jobs", scheduleId=str(made.id)).json()["total"] == 0


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b" {} "])
def test_nothing_as_json_is_no_body(caller: Caller, body: bytes) -> None:
    """Clients that always send JSON, such as {}, are served where no body is taken."""
    made = caller.schedule(uuid4(), "nightly")
    headers = {**caller.headers, "Content-Type": "application/json"}
    answer = caller.api.client.post(f"/v1/schedules/{made.id}/pause", content=body, headers=headers)
    assert answer.json()["paused"]


def test_a_limit_for_one_organization_is_not_set_for_all(caller: Caller) -> None:
    """An operator who names the organization of a limit in the query sets none for every organization instead."""
    limit = {"per": "organization", "jobType": "open", "concurrency": 1}
    answer = caller.api.client.put(
        "/v1/limits", params={"organization": "acme"}, content=json.dumps(limit), headers=as_json(caller)
    )
    problem(answer, 422, "invalid_request")
    found = caller.get("/v1/limits").json()["limits"]
    assert not [each for each in found if (each["jobType"], each["organization"]) == ("open", None)]


def test_a_job_of_another_organization_is_not_created_in_the_operators_own(caller: Caller) -> None:
    """A create takes no organization: an operator who names one is told so, and has no job of their own made."""
    answer = caller.api.client.post(
        "/v1/jobs", params={"organization": "acme"}, json={"jobType": "open"}, headers=caller.headers
    )
    problem(answer, 422, "invalid_request")
    assert caller.get("/v1/jobs").json()["total"] == 0


def test_who_may_not_is_told_that_first(caller: Caller) -> None:
    """A caller without the permission is told of that, and not of what they have sent besides."""
    viewer = caller.but(permissions=("jobs.view_jobs",))
    answer = viewer.post(f"/v1/schedules/{UUID(int=1)}/run", {"payload": {}})
    problem(answer, 403, "permission_missing")


def as_json(caller: Caller) -> dict[str, str]:
    return {**caller.headers, "Content-Type": "application/json"}


@pytest.mark.parametrize(
    "query", ["jobType=open&jobType=guarded", "page=1&page=1", "q=a&q=b", "organization=a&organization=b"]
)
def test_a_parameter_that_is_given_twice_is_refused(caller: Caller, query: str) -> None:
    """A parameter that has one value is refused when it has two, of which one would not count."""
    told = problem(caller.get(f"/v1/jobs?{query}"), 422, "invalid_request")
    assert told["errors"] == [{"field": query.partition("=")[0], "message": "Input should be given once"}]


def test_a_parameter_that_is_given_twice_is_refused_without_a_model(caller: Caller) -> None:
    """Routes that take a parameter of their own refuse it twice too, and lists take several."""
    problem(caller.get("/v1/organization?organization=a&organization=a"), 422, "invalid_request")
    job = caller.job("failed")
    path = f"/v1/jobs?status=failed&status=queued&ids={job.id}&ids={job.id}"
    assert [each["id"] for each in caller.get(path).json()["jobs"]] == [str(job.id)]
    for several in (f"jobs/{job.id}?include=attempts&include=history", "audit?action=job.create&action=job.cancel"):
        assert caller.get(f"/v1/{several}").is_success
