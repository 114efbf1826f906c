"""Hostile input: always a 4xx problem, never a 5xx, and memory stays flat."""

from __future__ import annotations

import json
import socket
import string
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx2
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.calling import Api, Caller, as_bytes, problem
from tracking.values import MAX_BYTES, MAX_DEPTH, MAX_INTEGER

MEGABYTE = 1024 * 1024


def nested(depth: int) -> bytes:
    """An object with `depth` levels in it."""
    return b'{"a":' * depth + b"1" + b"}" * depth


def with_payload(payload: bytes) -> bytes:
    """A request with this payload."""
    return b'{"jobType": "open", "payload": %s}' % payload


NOT_JSON = {
    "empty": b"",
    "cut": b'{"jobType": "open"',
    "nan": with_payload(b'{"a": NaN}'),
    "infinity": with_payload(b'{"a": -Infinity}'),
    "latin-1": with_payload(b'{"a": "\xe9"}'),
    "utf-16": '{"jobType": "open"}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"jobType": "open"}',
    "lone surrogate": with_payload(b'{"a": "\\ud800"}'),
    "lone surrogate in bytes": with_payload(b'{"a": "\xed\xa0\x80"}'),
    "lone surrogate in a key": with_payload(b'{"\\udfff": 1}'),
    "100,000 deep": b"[" * 100_000,
    "100,000 deep and closed": with_payload(b"[" * 100_000 + b"]" * 100_000),
    "10,000 digits": with_payload(b'{"a": %s}' % (b"9" * 10_000)),
    "control character": with_payload(b'{"a": "\x01"}'),
    "two values": b'{"jobType": "open"} {}',
}
NOT_ALLOWED = {
    "not an object": b"[]",
    "null": b"null",
    "text": b'"open"',
    "20 digits": with_payload(b'{"a": 12345678901234567890}'),
    "one beyond 2^53": with_payload(b'{"a": %d}' % (MAX_INTEGER + 1)),
    "one beyond -2^53": with_payload(b'{"a": [%d]}' % (-MAX_INTEGER - 1)),
    "1e400": with_payload(b'{"a": 1e400}'),
    "NUL in a value": with_payload(b'{"a": "\\u0000"}'),
    "NUL in a key": with_payload(b'{"\\u0000": 1}'),
    "NUL in the type": b'{"jobType": "open\\u0000"}',
    "NUL in a project": b'{"jobType": "open", "projectId": "\\u0000"}',
    "NUL in a message": b'{"jobType": "open", "message": "\\u0000"}',
    "NUL in metadata": b'{"jobType": "open", "metadata": {"a": ["\\u0000"]}}',
    "one level too deep": with_payload(nested(MAX_DEPTH + 1)),
    "one byte too large": with_payload(b'{"a": "%s"}' % (b"x" * (MAX_BYTES - 7))),
    "a field twice as an array": b'{"jobType": ["open", "open"]}',
    "prototype": b'{"jobType": "open", "__proto__": {}}',
    "a huge field name": b'{"jobType": "open", "%s": 1}' % (b"x" * 100_000),
    "many unknown fields": b'{"jobType": "open", %s}' % b", ".join(b'"f%d": 1' % n for n in range(20_000)),
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON.keys())
def test_what_is_not_json_is_refused(caller: Caller, body: bytes) -> None:
    """A body that is not JSON is 400; an empty one lacks the required fields."""
    problem(caller.send(body), *((400, "malformed_json") if body else (422, "invalid_request")))


@pytest.mark.parametrize("body", NOT_ALLOWED.values(), ids=NOT_ALLOWED.keys())
def test_json_outside_the_limits_is_refused(caller: Caller, body: bytes) -> None:
    """JSON outside of the limits is answered with a short 422, and nothing is written."""
    response = caller.send(body)
    problem(response, 422, "invalid_request")
    assert len(response.content) < 10_000
    assert caller.get("/v1/jobs").json()["total"] == 0


@pytest.mark.parametrize(
    "payload",
    [nested(MAX_DEPTH), b'{"a": %d, "b": -%d}' % (MAX_INTEGER, MAX_INTEGER), b'{"a":"%s"}' % (b"x" * (MAX_BYTES - 8))],
    ids=["depth", "integers", "size"],
)
def test_json_at_the_limits_is_taken_and_comes_back(caller: Caller, payload: bytes) -> None:
    """JSON at the limits is accepted and comes back exactly as it was sent."""
    job_id = caller.send(with_payload(payload)).json()["jobId"]
    assert caller.get(f"/v1/jobs/{job_id}").json()["payload"] == json.loads(payload)


@pytest.mark.parametrize("chunked", [True, False])
def test_a_body_of_30_mb_is_refused_and_not_kept(api: Api, caller: Caller, *, chunked: bool) -> None:
    """A body of 30 MB, with or without a length, is 413, and the server's memory does not grow by it."""
    caller.create()
    before = api.process.memory_info().rss
    peak = before

    def body() -> Iterator[bytes]:
        nonlocal peak
        for _ in range(30 * 16):
            yield b" " * (MEGABYTE // 16)
            peak = max(peak, api.process.memory_info().rss)

    length = {} if chunked else {"Content-Length": str(30 * MEGABYTE)}
    problem(caller.send(body(), **length), 413, "body_too_large")
    assert peak - before < 8 * MEGABYTE
    assert caller.create().status_code == 202


def test_a_length_that_is_a_lie_does_no_harm(caller: Caller) -> None:
    """After a body shorter than its Content-Length nothing is written, and the server lives."""
    head = "POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"
    with _connection(caller.api) as raw:
        raw.sendall(f"{head}Authorization: {caller.headers['Authorization']}\r\n\r\n{{".encode())
    assert caller.get("/v1/jobs").json()["total"] == 0


def test_slow_bodies_keep_nobody_waiting(api: Api, caller: Caller) -> None:
    """More clients with unfinished bodies than there are turns keep no other request waiting."""
    head = "POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"
    slow = [_connection(api) for _ in range(40)]
    try:
        for raw in slow:
            raw.sendall(f"{head}Authorization: {caller.headers['Authorization']}\r\n\r\n{{".encode())
        assert api.client.get("/v1/jobs", headers=caller.headers, timeout=2).status_code == 200
    finally:
        for raw in slow:
            raw.close()


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml", "", "json"]
)
def test_another_media_type_is_refused(caller: Caller, media_type: str) -> None:
    """A body of another media type than JSON is 415."""
    problem(caller.send(b'{"jobType": "open"}', Content_Type=media_type), 415, "unsupported_media_type")


def test_a_compressed_body_is_refused(caller: Caller) -> None:
    """A compressed body is 415, because its real size cannot be bounded."""
    problem(caller.send(b'{"jobType": "open"}', Content_Encoding="gzip"), 415, "unsupported_media_type")


@pytest.mark.parametrize("media_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_json_is_recognised(caller: Caller, media_type: str) -> None:
    """The media type of JSON is recognised with parameters and in any case."""
    assert caller.send(b'{"jobType": "open"}', Content_Type=media_type).status_code == 202


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/jobs/%00", 400),
        ("/v1/jobs/%ff", 400),
        ("/v1/jobs/%ed%a0%80", 400),
        ("/v1/jobs?q=%00", 400),
        ("/v1/jobs?q=%ff", 400),
        ("/v1/jobs?%00=1", 400),
        ("/v1/projects/%00/jobs", 400),
        ("/v1/projects/%c3%28/jobs/stats", 400),
        ("/v1/exports/%00", 400),
        ("/v1/jobs?page=1" + "0" * 23, 422),
        ("/v1/jobs?page=-1", 422),
        ("/v1/jobs?page=1e3", 422),
        ("/v1/jobs?page=%D9%A3%00", 400),
        ("/v1/jobs?pageSize=" + "9" * 5000, 422),
        ("/v1/jobs?createdFrom=9999-12-31T23:59:59-12:00", 422),
        ("/v1/jobs?createdFrom=1e400", 422),
        ("/v1/jobs/" + "9" * 5000, 422),
        ("/v1/jobs/..%2f..%2fetc%2fpasswd", 404),
        ("/v1/exports/..%2f..%2fetc%2fpasswd", 404),
        ("/v1/exports/%2e%2e", 404),
        ("/v1/exports/" + "x" * 300, 422),
        ("/v1/exports/a%0d%0ab", 404),
        ("/v1/projects/" + "x" * 300 + "/jobs", 422),
        ("/v1/jobs/", 404),
        ("//v1/jobs", 404),
        ("/v1/jobs/recent/", 404),
        ("/%2e%2e/%2e%2e/etc/passwd", 404),
    ],
)
def test_a_hostile_address_is_refused(caller: Caller, path: str, status: int) -> None:
    """A hostile address is answered with a 4xx problem."""
    response = caller.api.client.get(path, headers=caller.headers)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "words", ["%", "_", "\\", "%_\\", "'; DROP TABLE jobs; --", "\U0001f96c", "/%", "\ufffd", "\x01"]
)
def test_any_words_can_be_looked_for(caller: Caller, words: str) -> None:
    """A search takes any text, and finds nothing where no job contains it."""
    caller.job()
    assert caller.get("/v1/jobs", q=words).json()["total"] == 0


@pytest.mark.parametrize("name", ["Authorization", "Idempotency-Key", "If-None-Match", "X-Request-Id", "Content-Type"])
@pytest.mark.parametrize("value", [b"\xff\xfe", b"\xc3\xa9", b"x" * 4000, b"%00", b"'\"<>;--", b"W/", b",,,,"])
def test_a_hostile_header_does_no_harm(caller: Caller, name: str, value: bytes) -> None:
    """A hostile header is answered with a 4xx at most."""
    headers = as_bytes({**caller.headers, "Content-Type": "application/json", name: value})
    job_id = caller.job().id
    posted = caller.api.client.post("/v1/jobs", content=b'{"jobType": "open"}', headers=headers)
    read = caller.api.client.get(f"/v1/jobs/{job_id}/status", headers=headers)
    assert posted.status_code < 500
    assert read.status_code < 500


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_another_method_is_refused(caller: Caller, method: str) -> None:
    """An unsupported method is 405, and Allow names the supported ones."""
    response = caller.api.client.request(method, "/v1/jobs", headers=caller.headers)
    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD, POST")


FIELDS = ("jobType", "payload", "priority", "maxRetries", "scheduledAt", "projectId", "message", "metadata", "other")
numbers = st.integers() | st.floats() | st.sampled_from([2**31, 2**53, 2**63, -(2**63) - 1, 10**30])
texts = st.text(st.characters(codec="utf-8"), max_size=50) | st.sampled_from(
    ["\x00", "open", "guarded", "9999-12-31T23:59:59.999999-23:59", "0001-01-01T00:00:00+14:00", "P1D"]
)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
requests = st.fixed_dictionaries(
    {"jobType": st.sampled_from(["open", "guarded", "export_report"]) | texts},
    optional=dict.fromkeys(FIELDS[1:], values),
)


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(body=requests | values)
def test_no_json_makes_the_server_fail(api: Api, body: Any) -> None:
    """Generated JSON bodies are accepted or refused, and never a server error."""
    response = api.caller("fuzz").send(json.dumps(body).encode())
    assert response.status_code in (202, 400, 422), response.text


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(name=st.sampled_from(["page", "pageSize", "status", "cursor", "createdFrom", "q", "jobType", "x"]), value=texts)
def test_no_query_makes_the_server_fail(api: Api, name: str, value: str) -> None:
    """Generated queries are answered or refused, and never a server error."""
    response = api.caller("fuzz").api.client.get(f"/v1/jobs?{name}={quote(value)}", headers=api.caller("fuzz").headers)
    assert response.status_code in (200, 400, 422), response.text


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(path=st.text(string.printable.replace("#", "").replace("?", ""), max_size=60) | texts)
def test_no_path_makes_the_server_fail(api: Api, path: str) -> None:
    """Generated paths, also below known routes, are never a server error."""
    for prefix in ("/", "/v1/jobs/", "/v1/exports/", "/v1/projects/"):
        response = api.client.get(f"{prefix}{quote(path, safe='/')}", headers=api.caller("fuzz").headers)
        assert response.status_code < 500, response.text


def _connection(api: Api) -> socket.socket:
    url = httpx2.URL(api.url)
    return socket.create_connection((url.host, url.port or 80), timeout=5)


def test_the_server_has_survived_all_of_this(api: Api) -> None:
    """After all hostile requests the server is still the same process."""
    assert api.process.status() != psutil.STATUS_ZOMBIE
    assert api.client.get("/healthz").status_code == 200
