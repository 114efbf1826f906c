"""The description of the API, and whether an answer is as it says; every answer to a test of the API is held to it."""

from __future__ import annotations

import re
from datetime import datetime
from functools import cached_property
from typing import Any

import httpx2
from jsonschema import Draft202012Validator, FormatChecker

DATE_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)  # RFC 3339
STREAM_TYPE = "text/event-stream"
PROBLEM_TYPE = "application/problem+json"
PROBLEM = {"$ref": "#/components/schemas/Problem"}
ANYWHERE = {"not_found": 404, "method_not_allowed": 405, "internal_error": 500}  # of no single operation

formats = FormatChecker(["uuid"])


@formats.checks("date-time", raises=ValueError)
def _is_date_time(value: object) -> bool:
    if not isinstance(value, str):
        return True
    return DATE_TIME.fullmatch(value) is not None and bool(datetime.fromisoformat(value))


class Description:
    """What the API says of itself."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self._validators: dict[str, Draft202012Validator] = {}

    @cached_property
    def operations(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Every operation by its method and the template of its path."""
        return {
            (method.upper(), path): operation
            for path, methods in self.document["paths"].items()
            for method, operation in methods.items()
        }

    def check(self, response: httpx2.Response) -> None:
        """Fail unless the description allows this answer."""
        media_type = response.headers.get("content-type", "").partition(";")[0]
        if media_type != STREAM_TYPE:  # which does not end
            response.read()
        found = self._operation(response.request.method, response.request.url.raw_path.partition(b"?")[0].decode())
        if media_type == PROBLEM_TYPE and response.content:
            self.validate(PROBLEM, response.json())
            if ANYWHERE.get(response.json()["code"]) == response.status_code:
                return
        if found is None:
            return
        answer = self.operations[found]["responses"].get(str(response.status_code))
        assert answer is not None, f"{found} does not tell of {response.status_code}: {response.text[:200]}"
        if "content" in answer and response.request.method != "HEAD":
            content = {kind.partition(";")[0]: schema for kind, schema in answer["content"].items()}
            assert media_type in content, f"{found} does not tell of {media_type}"
            if "schema" in content[media_type] and media_type != STREAM_TYPE:
                self.validate(content[media_type]["schema"], response.json())

    def validate(self, schema: dict[str, Any], value: Any) -> None:
        """Fail unless the value is of this schema."""
        self.validator(schema).validate(value)

    def validator(self, schema: dict[str, Any]) -> Draft202012Validator:
        """Checks values against a schema of the document."""
        name = str(schema)
        if name not in self._validators:
            whole = {**schema, "components": self.document["components"]}
            self._validators[name] = Draft202012Validator(whole, format_checker=formats)
        return self._validators[name]

    def _operation(self, method: str, path: str) -> tuple[str, str] | None:
        candidates = [found for found in self.operations if found[0] == method and _matches(found[1], path)]
        return min(candidates, key=lambda found: found[1].count("{"), default=None)


def _matches(template: str, path: str) -> bool:
    pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template))
    return re.fullmatch(pattern, path) is not None


_description: list[Description] = []


def hold_to_description(response: httpx2.Response) -> None:
    """Check an answer against the description of the first server that answers: all of a session have the same one."""
    if not _description:
        document = httpx2.get(response.request.url.join("/openapi.json"), timeout=30).json()
        _description.append(Description(document))
    _description[0].check(response)
