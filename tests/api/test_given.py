"""What a route is given of its request: made before the body is parsed, and no part of what the framework asks for."""

from __future__ import annotations

from inspect import signature
from typing import Annotated, Any

from fastapi import Request

from api.given import OfRequest, asked_of_framework, given_of
from tests.api.calling import Caller, problem


def length_of(request: Request) -> int:
    return len(request.url.path)


Length = Annotated[int, OfRequest(length_of)]


def endpoint(length: Length, name: str, *, other: Annotated[str, "a note"] = "") -> Any:
    return length, name, other


def test_what_is_given_is_told_by_the_annotation() -> None:
    """A parameter that is annotated with a function of the request is given what that returns."""
    assert given_of(endpoint) == {"length": length_of}


def test_the_framework_is_asked_for_the_rest_and_the_request() -> None:
    """FastAPI sees the other parameters, as they are, and the request."""
    asked = asked_of_framework(endpoint).parameters
    assert list(asked) == ["name", "other", "request"]
    assert asked["request"].annotation is Request
    assert asked["other"].default == signature(endpoint).parameters["other"].default


def test_who_may_not_is_told_before_the_body_is_looked_at(caller: Caller) -> None:
    """A caller without the permission is told so, whatever they have sent as a body."""
    viewer = caller.but(permissions=("jobs.view_jobs",))
    headers = {**viewer.headers, "Content-Type": "application/json"}
    for body in (b"{", b'{"jobType": 1}', b"{}"):
        problem(caller.api.client.post("/v1/jobs", content=body, headers=headers), 403, "permission_missing")
