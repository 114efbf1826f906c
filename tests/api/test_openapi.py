"""The description of the API is complete enough to make a client from."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import pytest

from tests.api.calling import Api, Caller


@pytest.fixture(scope="session")
def description(api: Api) -> dict[str, Any]:
    """The description."""
    body: dict[str, Any] = api.client.get("/openapi.json").json()
    return body


def operations(description: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The operations under /v1 by "METHOD path"."""
    return {
        f"{method.upper()} {path}": operation
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
        if path.startswith("/v1/")
    }


def test_it_has_the_version_of_the_package(description: dict[str, Any]) -> None:
    """The API description has the version of the package."""
    assert description["info"]["version"] == version("celeriac")


def test_every_operation_needs_the_bearer_token(description: dict[str, Any]) -> None:
    """Every operation of the description needs a JWT as bearer token."""
    assert description["components"]["securitySchemes"]["HTTPBearer"]["bearerFormat"] == "JWT"
    for name, operation in operations(description).items():
        assert operation["security"] == [{"HTTPBearer": []}], name


def test_every_operation_says_how_it_says_no(description: dict[str, Any]) -> None:
    """Every operation describes its errors as problem+json, and none in the framework's own form."""
    assert set(description["components"]["schemas"]["Problem"]["required"]) >= {"type", "title", "status", "code"}
    assert "HTTPValidationError" not in description["components"]["schemas"]
    for name, operation in operations(description).items():
        assert {"401", "403", "422", "503"} <= operation["responses"].keys(), name
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                assert response["content"] == {
                    "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
                }, name


def test_every_operation_is_explained(description: dict[str, Any]) -> None:
    """Every operation of the description has a sentence that explains it."""
    assert all(operation["description"].endswith(".") for operation in operations(description).values())


def test_the_example_of_a_new_job_is_accepted(description: dict[str, Any], caller: Caller) -> None:
    """The description's example of a new job is accepted as it stands."""
    for example in description["components"]["schemas"]["NewJob"]["examples"]:
        assert caller.post("/v1/jobs", example).status_code == 202
