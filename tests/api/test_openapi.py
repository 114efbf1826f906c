"""The description of the API is complete enough to make a client from."""

from __future__ import annotations

import csv
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.api.calling import Api, Caller


@pytest.fixture(scope="session")
def description(api: Api) -> dict[str, Any]:
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


def test_every_body_has_an_example_that_fits(description: dict[str, Any]) -> None:
    """Each operation that takes JSON shows a body, and all that it shows is within the schema of that body."""
    schemas = description["components"]["schemas"]
    for name, operation in operations(description).items():
        body = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if body is not None:
            schema = schemas[body["schema"]["$ref"].rpartition("/")[2]]
            validator = Draft202012Validator({**schema, "components": description["components"]})
            for example in schema["examples"]:
                assert list(validator.iter_errors(example)) == [], name


def test_every_operation_says_which_permission_it_takes(description: dict[str, Any]) -> None:
    """Who is denied for want of a permission was told of it, and so was who lacks that of the job's handler."""
    with Path(__file__).with_name("authorization.csv").open() as file:
        matrix = {f"{row['method']} {row['path']}": row for row in csv.DictReader(file)}
    for name, operation in operations(description).items():
        row = matrix[name]
        says = bool(operation.get("x-permissions") or operation.get("x-handler-permission"))
        assert says is row["no permission"].startswith("403"), name
        assert operation.get("x-handler-permission", False) is row["not the handler's"].startswith("403"), name
