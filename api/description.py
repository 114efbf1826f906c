"""What makes the description of the API exact: which fields may be left out, and which JSON is within the limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from api.schemas.answers import ProblemBody
from api.schemas.fields import NO_NUL
from tracking.values import MAX_BYTES, MAX_DEPTH, MAX_INTEGER

REFERENCE = "#/components/schemas/{model}"
BODY_TYPE = "application/json"

# Any JSON within the limits, for payloads and metadata; their depth and size are no matter of a schema. It stands where
# validators look and generators of clients do not: some of these fail on a recursive schema.
INNER = REFERENCE.format(model="NewJob") + "/$defs/JsonValue"
JSON_VALUE: dict[str, Any] = {
    "anyOf": [
        {"type": "null"},
        {"type": "boolean"},
        {"type": "number", "minimum": -MAX_INTEGER, "maximum": MAX_INTEGER},
        {"type": "string", "pattern": NO_NUL},
        {"type": "array", "items": {"$ref": INNER}},
        {"type": "object", "propertyNames": {"pattern": NO_NUL}, "additionalProperties": {"$ref": INNER}},
    ],
}
WITHIN_LIMITS: dict[str, Any] = {
    "propertyNames": {"pattern": NO_NUL},
    "if": {},
    "then": {"additionalProperties": {"$ref": INNER}},
}
LIMITS = (
    f"JSON of at most {MAX_BYTES // 1024} KiB, nested at most {MAX_DEPTH} levels deep, its numbers within ±2^53 if they"
    " are whole, without NUL characters and lone surrogates."
)


def complete(described: dict[str, Any], job_types: Sequence[str], external: Sequence[str]) -> None:
    """Say in a description made by FastAPI what it leaves out.

    `job_types`: those with a handler that can be created; `external`: those whose work is done elsewhere. What an
    operator adds to these is not described: the description must not hang on the database.

    What may be left out is no longer said to be null as well: null is accepted, but need not be sent.
    """
    components = described["components"]["schemas"]
    problem = ProblemBody.model_json_schema(ref_template=REFERENCE)
    components |= {**problem.pop("$defs"), "Problem": {**problem, "title": "Problem"}}
    components["NewJob"]["$defs"] = {"JsonValue": JSON_VALUE}
    for new_job in (components["NewJob"], components["BulkJob"], components["NewSchedule"]):
        for name in ("payload", "metadata"):
            described_before = new_job["properties"][name]["description"]
            new_job["properties"][name] |= {**WITHIN_LIMITS, "description": f"{described_before} {LIMITS}"}
        new_job["properties"]["jobType"] |= {"enum": sorted({*job_types, *external})}
    for component in components.values():
        _leave_out(component)
    for operation in _operations(described):
        for parameter in operation.get("parameters", ()):
            parameter["schema"] = _without_null(parameter["schema"])
            if parameter["in"] == "path" and parameter["name"] == "jobType":
                parameter["schema"] |= {"enum": list(job_types)}
        for body in _bodies(operation):
            body["schema"] = _without_null(body["schema"])


def _operations(described: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for methods in described["paths"].values():
        yield from methods.values()


def _bodies(operation: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if "requestBody" in operation:
        yield from (body for kind, body in operation["requestBody"]["content"].items() if kind == BODY_TYPE)


def _leave_out(component: dict[str, Any]) -> None:
    for name, schema in component.get("properties", {}).items():
        if name not in component.get("required", ()):
            component["properties"][name] = _without_null(schema)


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    choices = schema.get("anyOf", [])
    kept = [choice for choice in choices if choice != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key != "anyOf" and (key, value) != ("default", None)}
    if len(kept) == len(choices):
        return schema
    if len(kept) > 1:
        return {**rest, "anyOf": kept}
    return kept[0] if "$ref" in kept[0] else {**rest, **kept[0]}
