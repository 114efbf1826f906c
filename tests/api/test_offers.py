"""Which tasks people may create jobs of, and how a payload becomes a plain task's arguments."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.arguments import payload_to_arguments
from tests.api.calling import Caller, problem


def test_a_task_that_names_no_permission_and_is_not_public_is_not_offered(caller: Caller) -> None:
    """A task without permission= or public= can neither be created nor seen over HTTP."""
    problem(caller.create("internal", payload={"x": 1}), 422, "unknown_job_type")
    offered = {each["jobType"] for each in caller.get("/v1/job-types").json()["jobTypes"]}
    assert "internal" not in offered
    assert {"guarded", "open", "sum_of", "export_report"} <= offered


def test_what_is_offered_has_the_schema_of_its_arguments(caller: Caller) -> None:
    """The schema of an offered task has the names and types of its arguments, and which are required."""
    types = caller.get("/v1/job-types").json()["jobTypes"]
    (schema,) = [each["payloadSchema"] for each in types if each["jobType"] == "sum_of"]
    assert schema["properties"].keys() == {"x", "y", "on"}
    assert (schema["properties"]["x"]["type"], schema["required"]) == ("integer", ["x"])
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ({}, "payload.x"),
        ({"x": "1"}, "payload.x"),
        ({"x": 1.5}, "payload.x"),
        ({"x": 1, "z": 2}, "payload.z"),
        ({"x": 1, "on": "yesterday"}, "payload.on"),
        ({"args": [1], "kwargs": {}}, "payload.x"),
    ],
)
def test_a_payload_that_does_not_fit_the_signature_is_refused(
    caller: Caller, payload: dict[str, Any], field: str
) -> None:
    """A payload that does not fit the task's signature is refused with the place of the fault."""
    body = problem(caller.create("sum_of", payload=payload), 422, "invalid_request")
    assert field in {error["field"] for error in body["errors"]}


@pytest.mark.parametrize("payload", [{"x": 1}, {"x": 1, "y": 2}, {"y": 3, "x": 2, "on": None}])
def test_a_payload_becomes_arguments_by_name(caller: Caller, payload: dict[str, Any]) -> None:
    """A payload's members reach the task as named arguments; missing ones have the function's defaults."""
    job = caller.find(caller.create("sum_of", payload=payload).json()["jobId"])
    passed = payload_to_arguments(job.payload, job.delivery.get("passing"), takes_payload=True)
    assert passed == ([], payload)


@pytest.mark.parametrize("payload", [{"args": [1], "kwargs": {"a": 2}}, {"args": 1, "kwargs": 2}, {}, {"payload": {}}])
def test_any_object_arrives_as_it_was_sent(caller: Caller, payload: dict[str, Any]) -> None:
    """A payload that looks like a call arrives as the object that was sent."""
    job = caller.find(caller.create("open", payload=payload).json()["jobId"])
    assert job.payload == payload
    assert payload_to_arguments(job.payload, job.delivery.get("passing"), takes_payload=True) == ([payload], {})


@pytest.mark.parametrize(
    "body",
    [
        b'{"jobType": "open", "jobType": "open_too"}',
        b'{"jobType": "open", "payload": {"a": 1, "a": 2}}',
        b'{"jobType": "open", "payload": {"list": [{"a": {"b": 1, "\\u0062": 1}}]}}',
    ],
)
def test_an_object_with_a_key_twice_is_refused(caller: Caller, body: bytes) -> None:
    """JSON with a key twice in one object is refused at any depth, also with equal values."""
    assert "twice" in problem(caller.send(body), 400, "malformed_json")["detail"]
    assert caller.get("/v1/jobs").json()["total"] == 0
