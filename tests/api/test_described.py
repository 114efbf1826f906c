"""The description by its word: what it allows is accepted, and a client made from it can leave out what is optional."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from functools import cache
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx2
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError

from api.problems import CODES
from tests.api.calling import Api, Caller, asked, problem
from tests.api.describing import Description
from tracking.values import MAX_INTEGER

# Of each operation. Continuous integration tries the same ones each time: a few of them find what a change breaks.
EXAMPLES = 12 if os.environ.get("CI") == "true" else 30

# What depends on more than the request: on what there is already.
BY_STATE = {"unknown_dependency", "idempotency_conflict"}
OPERATIONS = [
    *("create_job", "list_jobs", "recent_jobs", "job_stats", "job_history", "get_job", "get_job_status", "explain_job"),
    "get_job_graph",
    *("cancel_job", "retry_job", "list_project_jobs", "project_job_stats", "list_job_types", "pause_job_type"),
    *("resume_job_type", "get_organization", "pause_organization", "resume_organization", "set_organization_limit"),
    *("set_waiting_limit", "get_export", "create_ticket", "stream_events", "livez", "healthz", "readyz", "metrics"),
    *("list_errors", "mark_error", "pause_queue", "resume_queue"),
    *("change_job", "list_audit", "set_weight", "list_limits", "put_limit", "remove_limit"),
    *("list_denied_tokens", "deny_tokens", "allow_tokens"),
    *(
        "export_audit",
        "get_overview",
        "list_workers",
        "list_queues",
        "get_examination",
        "create_jobs",
        "create_operation",
        "list_operations",
    ),
    *("get_operation", "list_operation_jobs", "abort_operation"),
    *("create_schedule", "list_schedules", "create_template", "list_templates", "get_template", "change_template"),
    *("list_template_versions", "remove_template", "create_template_job"),
    *("list_clean_ups", "get_schedule", "change_schedule", "remove_schedule", "pause_schedule", "resume_schedule"),
    *("skip_next", "run_schedule", "next_due_times", "schedule_outcomes"),
    *("create_view", "list_views", "get_view", "change_view", "remove_view"),
    *("create_file", "list_files", "get_file", "remove_file"),
    *("create_workflow", "list_workflows", "get_workflow", "cancel_workflow", "retry_workflow"),
    *("create_webhook", "list_webhooks", "get_webhook", "change_webhook", "remove_webhook", "rotate_webhook_secret"),
    *("test_webhook", "list_deliveries", "get_delivery", "redeliver", "list_job_deliveries"),
    *("list_workflow_deliveries", "list_schedule_deliveries"),
]
DEPENDENT = {
    "change_job": "JobChange",
    "create_operation": "BulkRequest",
    "change_webhook": "WebhookChange",
    "put_limit": "LimitPut",
    "deny_tokens": "DenialPut",
}  # what comes with what

offsets = st.integers(-24 * 60 + 1, 24 * 60 - 1).map(lambda minutes: timezone(timedelta(minutes=minutes)))
LAST, PAST = datetime(2998, 12, 31), datetime(2025, 12, 31)  # noqa: DTZ001 - hypothesis adds the zone
moments, past = (
    st.datetimes(datetime(1971, 1, 1), last, timezones=offsets).map(lambda at: at.isoformat().replace("+00:00", "Z"))  # noqa: DTZ001 - as above
    for last in (LAST, PAST)
)
texts = st.text(st.characters(exclude_characters="\x00", codec="utf-8"), max_size=30)
numbers = st.integers(-MAX_INTEGER, MAX_INTEGER) | st.floats(-MAX_INTEGER, MAX_INTEGER)
any_json = st.dictionaries(
    texts,
    st.recursive(
        st.none() | st.booleans() | numbers | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


@pytest.fixture(scope="session")
def description(api: Api) -> Description:
    return Description(api.client.get("/openapi.json").json())


def find(description: Description, name: str) -> tuple[str, str, dict[str, Any]]:
    """Method, path and operation of this name."""
    return next(
        (*key, operation) for key, operation in description.operations.items() if operation["operationId"] == name
    )


def made(description: Description, schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a schema of the description allows, in the words that this description uses."""
    if "$ref" in schema:
        return made(description, description.document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    if "enum" in schema or "const" in schema:
        return st.sampled_from(schema.get("enum", [schema.get("const")]))
    if "anyOf" in schema:
        return st.one_of(*(made(description, each) for each in schema["anyOf"]))
    return MAKERS[schema["type"]](description, schema)


def made_text(_: Description, schema: dict[str, Any]) -> st.SearchStrategy[str]:
    """Text of a format or a pattern, as long as it may be."""
    shortest, longest = schema.get("minLength", 0), schema.get("maxLength", 300)
    if schema.get("format") == "date-time":
        return past if schema.get("x-past") else moments
    if schema.get("format") == "uuid":
        return st.uuids().map(str)
    free = st.text(st.characters(codec="utf-8"), min_size=shortest, max_size=longest)
    if "pattern" not in schema:
        return free
    by_pattern = st.from_regex(schema["pattern"])
    return (by_pattern | free).filter(
        lambda text: shortest <= len(text) <= longest and re.search(schema["pattern"], text) is not None
    )


def made_object(description: Description, schema: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with all, some or none of what is optional; those of any JSON hold anything within the limits."""
    if "patternProperties" in schema:
        [(pattern, each)] = schema["patternProperties"].items()
        keys, smallest = st.from_regex(pattern, fullmatch=True), schema.get("minProperties", 0)
        return st.dictionaries(keys, made(description, each), min_size=smallest, max_size=3)
    if "properties" not in schema:
        return any_json
    fields = {name: made(description, each) for name, each in schema["properties"].items()}
    required = {name: field for name, field in fields.items() if name in schema.get("required", ())}
    optional = {name: field for name, field in fields.items() if name not in required}
    return st.fixed_dictionaries(required, optional=optional)


def made_list(description: Description, schema: dict[str, Any]) -> st.SearchStrategy[list[Any]]:
    """Lists, not very long ones."""
    return st.lists(
        made(description, schema["items"]),
        min_size=schema.get("minItems", 0),
        max_size=min(schema.get("maxItems", 5), 5),
    )


def made_integer(_: Description, schema: dict[str, Any]) -> st.SearchStrategy[int | float]:
    """Integers, some of them written as 5.0."""
    whole = st.integers(int(schema["minimum"]), int(schema["maximum"]))
    return whole | whole.map(float)


MAKERS: dict[str, Callable[[Description, dict[str, Any]], st.SearchStrategy[Any]]] = {
    "string": made_text,
    "object": made_object,
    "array": made_list,
    "integer": made_integer,
    "boolean": lambda *_: st.booleans(),
    "null": lambda *_: st.none(),
}


def parameters(description: Description, operation: Mapping[str, Any], place: str) -> st.SearchStrategy[dict[str, Any]]:
    """The parameters in the path, the query or the headers: these hold ASCII, no space at an end (RFC 9110 §5.5)."""
    found = [each for each in operation.get("parameters", ()) if each["in"] == place]
    if place == "header":
        found = [{**each, "schema": {"pattern": r"^([!-~]([ -~]*[!-~])?)?\Z", **each["schema"]}} for each in found]
    return made_object(
        description,
        {
            "properties": {each["name"]: each["schema"] for each in found},
            "required": [each["name"] for each in found if each.get("required")],
        },
    )


def bodies(description: Description, operation: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    if "application/json" not in operation.get("requestBody", {}).get("content", {}):  # a file is any bytes
        return st.none()
    body = made(description, operation["requestBody"]["content"]["application/json"]["schema"])
    if operation["operationId"] == "create_job":  # of a type that takes whatever is described
        body = body.map(lambda made: {**made, "jobType": "open"})
    if operation["operationId"] == "create_jobs":
        body = body.map(lambda made: {**made, "jobs": [{**each, "jobType": "open"} for each in made["jobs"]]})
    if operation["operationId"] in ("put_limit", "deny_tokens"):  # of nobody's jobs or tokens
        body = _elsewhere(body, of_limits=operation["operationId"] == "put_limit")
    if operation["operationId"] in DEPENDENT:
        schema = {"$ref": f"#/components/schemas/{DEPENDENT[operation['operationId']]}", **description.document}
        body = body.filter(Draft202012Validator(schema).is_valid)
    if operation["operationId"] in ("create_template", "change_template"):
        body = body.map(lambda made: {name: value for name, value in made.items() if name != "schedule"})
    if operation["operationId"] == "create_template":
        body = body.map(lambda made: {name: value for name, value in made.items() if name != "permission"})
        body = body.map(lambda made: {**made, "jobType": "open"})
    if operation["operationId"] == "create_workflow":  # which keys its jobs may wait for, no schema says
        body = body.map(lambda made: {**made, "jobs": _independent(made["jobs"])})
    if operation["operationId"] in ("create_schedule", "change_schedule"):
        body = body.flatmap(_with_times)
    return body if operation["requestBody"].get("required") else st.none() | body


def _elsewhere(body: st.SearchStrategy[Any], *, of_limits: bool) -> st.SearchStrategy[Any]:
    """Of an organization that no other test has."""
    about = {"organization": "elsewhere"}
    if not of_limits:
        return body.map(lambda made: {**made, **about})
    key = {"key": "account"}  # which the handler does not name
    body = body.map(lambda made: {**(key if made["per"] == "key" else {}), **made, **about, "jobType": "open"})
    return body.filter(lambda made: made["per"] != "key" or made["key"] is not None)


def _independent(made: dict[str, Any]) -> dict[str, Any]:
    return {key: {**job, "jobType": "open", "after": []} for key, job in made.items()}


NOT_DRAWN = ("cron", "timezone", "everySeconds", "template")


def _with_times(made: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The same with a type that takes everything, and either cron or an interval: what cron is, no schema says."""
    rest = {name: value for name, value in made.items() if name not in NOT_DRAWN}
    rest |= {"jobType": "open"}
    interval = st.integers(1, 400 * 24 * 3600).map(lambda seconds: {**rest, "everySeconds": seconds})
    by_cron = st.sampled_from(("* * * * *", "30 6 1 * 1-5", "@daily")).map(lambda cron: {**rest, "cron": cron})
    return interval | by_cron | by_cron.map(lambda body: {**body, "timezone": "Europe/Berlin"})


def test_every_operation_is_tried(description: Description) -> None:
    """Every operation of the description is among those that these tests call."""
    assert sorted(operation["operationId"] for operation in description.operations.values()) == sorted(OPERATIONS)


@pytest.fixture
def resumed(api: Api) -> Iterator[None]:
    """What a test has paused for all organizations goes on after it: other tests use the same server."""
    yield
    operator = api.caller()
    for pause in operator.get("/v1/organization").json()["pauses"]:
        operator.post(f"/v1/job-types/{quote(pause['jobType'], safe='')}/resume", {"everywhere": True})
    assert operator.get("/v1/organization").json()["pauses"] == []


@cache  # to make one takes longer than to draw from it
def requests(description: Description, name: str) -> st.SearchStrategy[tuple[dict[str, Any], Any, Any, Any]]:
    """Of an operation: parameters of the path, body, query and headers."""
    operation = find(description, name)[2]
    path, query, headers = (parameters(description, operation, place) for place in ("path", "query", "header"))
    return st.tuples(path, bodies(description, operation), query, headers)


@pytest.mark.usefixtures("resumed")
@pytest.mark.parametrize("name", OPERATIONS)
# Not shrunk: an example that fails is small, and each costs a request.
@settings(phases=[Phase.generate], max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_the_description_allows_is_not_refused(
    api: Api, description: Description, name: str, data: st.DataObject
) -> None:
    """No request that the description allows is answered with 400 or 422, and all answers are as described."""
    method, path, operation = find(description, name)
    in_path, body, query, headers = data.draw(requests(description, name))
    for parameter, value in in_path.items():
        path = path.replace(f"{{{parameter}}}", quote(str(value), safe=""))
    schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    if schema and body is not None:
        description.validate(schema, body)
    response = asked(
        api.client,
        method,
        path,
        params={name: int(value) if isinstance(value, float) else value for name, value in query.items()},
        headers={**api.caller().headers, **headers},
        **({} if body is None else {"json": body}),
    )
    assert response.status_code < 500
    assert response.status_code not in (400, 422) or response.json()["code"] in BY_STATE, response.text


LIMITS: dict[str, Any] = {
    "a long project": {"projectId": "\U0001f96c" * 255},
    "a long message": {"message": "\U0001f96c" * 1000},
    "an integer of JavaScript": {"priority": 9.0, "maxRetries": 1e2},
    "the first moment": {"scheduledAt": "1971-01-01T00:00:00+23:59"},
    "the last moment": {"scheduledAt": "2998-12-31T23:59:59.999999-23:59"},
    "a short fraction": {"scheduledAt": "2026-01-31T12:00:00.5Z"},
    "a large integer": {"payload": {"a": MAX_INTEGER, "b": -MAX_INTEGER, "": [{}, [], None, -0.0, 1e15]}},
    "everything left out": {},
}


@pytest.mark.parametrize("fields", LIMITS.values(), ids=LIMITS.keys())
def test_a_job_at_the_limits_is_accepted(caller: Caller, description: Description, fields: dict[str, Any]) -> None:
    """A create at every limit that the description allows is accepted."""
    description.validate({"$ref": "#/components/schemas/NewJob"}, {"jobType": "open", **fields})
    assert caller.create(**fields).status_code == 202


@pytest.mark.parametrize(
    ("path", "query"),
    [
        *(("/v1/jobs/stats", {"window": each}) for each in ("P90D", "PT999H", "PT99999M", "PT6999999S", "all")),
        ("/v1/jobs", {"cursor": f"{'9' * 17}-{UUID(int=2**128 - 1)}", "page": 2}),
        ("/v1/jobs", {"cursor": ""}),
        ("/v1/jobs", {"status": ["queued", "pending"] * 5, "pageSize": 100, "page": 10_000}),
        ("/v1/jobs/history", {"from": "1971-01-01T00:00:00+23:59", "to": "2998-12-31T23:59:59-23:59"}),
    ],
    ids=str,
)
def test_a_query_at_the_limits_is_answered(
    caller: Caller, description: Description, path: str, query: dict[str, Any]
) -> None:
    """A list query at every limit of the description is answered as described."""
    for parameter in description.operations["GET", path]["parameters"]:
        if parameter["name"] in query:
            description.validate(parameter["schema"], query[parameter["name"]])
    assert caller.get(path, **query).status_code == 200


def test_where_a_cursor_leads_no_page_is_looked_at(caller: Caller) -> None:
    """A list query may hold both cursor and page; then the page number is ignored."""
    for _ in range(3):
        caller.job()
    first = caller.get("/v1/jobs", cursor="", pageSize=2).json()
    rest = caller.get("/v1/jobs", cursor=first["nextCursor"], page=7, pageSize=2).json()
    assert [len(first["jobs"]), len(rest["jobs"]), rest["nextCursor"]] == [2, 1, None]


def test_all_finished_jobs_can_be_counted(caller: Caller) -> None:
    """The window `all` counts every finished job, however long ago it ended."""
    caller.job("succeeded")
    assert caller.get("/v1/jobs/stats", window="all").json()["completed"] == 1


# what clients are made from


def schemas(description: Description) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every component, by its name."""
    yield from description.document["components"]["schemas"].items()


def is_nullable(schema: Mapping[str, Any]) -> bool:
    """Whether null is one of its values."""
    return {"type": "null"} in schema.get("anyOf", ())


def test_a_field_is_either_optional_or_nullable(description: Description) -> None:
    """In the description no field is both optional and nullable."""
    for name, schema in schemas(description):
        for field, of_field in schema.get("properties", {}).items():
            assert field in schema.get("required", ()) or not is_nullable(of_field), (name, field)
    assert "required" not in description.document["components"]["schemas"]["NewJob"]


def test_no_parameter_is_null(description: Description) -> None:
    """In the description no query parameter is nullable, and an optional body can be left out."""
    for key, operation in description.operations.items():
        for parameter in operation.get("parameters", ()):
            assert not is_nullable(parameter["schema"]), (key, parameter["name"])
        if "application/json" in operation.get("requestBody", {}).get("content", {}):
            assert "$ref" in operation["requestBody"]["content"]["application/json"]["schema"], key


def test_what_is_optional_may_be_null_all_the_same(caller: Caller) -> None:
    """A request that sends null for each optional field is accepted."""
    nothing: dict[str, Any] = dict.fromkeys(("priority", "maxRetries", "scheduledAt", "projectId", "message"))
    assert caller.create(**nothing).status_code == 202


def test_every_time_of_an_answer_is_a_date_time(description: Description) -> None:
    """In the description every time of an answer has the format date-time."""
    for name, schema in schemas(description):
        for field, of_field in schema.get("properties", {}).items():
            if field.endswith(("At", "Until")) or field in ("at", "since", "timestamp"):
                kinds = [each for each in of_field.get("anyOf", [of_field]) if each != {"type": "null"}]
                assert [each.get("format") for each in kinds] == ["date-time"], (name, field)


def test_the_codes_of_problems_are_listed(description: Description) -> None:
    """The description lists all codes of problems, and no other."""
    assert description.document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"] == list(CODES)


def test_the_types_of_jobs_are_listed(caller: Caller, description: Description) -> None:
    """The description lists the job types that can be created here; any other one is refused."""
    listed = description.document["components"]["schemas"]["NewJob"]["properties"]["jobType"]["enum"]
    assert listed == [each["jobType"] for each in caller.get("/v1/job-types").json()["jobTypes"]]
    problem(caller.create("internal"), 422, "unknown_job_type")


def test_an_answer_that_is_not_as_described_is_noticed(description: Description) -> None:
    """The check against the description fails for an answer that differs from it."""
    request = httpx2.Request("GET", "http://api/livez")
    for wrong in (httpx2.Response(200, json={"status": "fine"}), httpx2.Response(418, json={}), httpx2.Response(200)):
        wrong.request = request
        with pytest.raises((AssertionError, ValidationError, KeyError)):
            description.check(wrong)
