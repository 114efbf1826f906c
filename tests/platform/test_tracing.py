"""A platform with a collector: one trace from the request to the outcome, over all processes, and logs that name it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.api.calling import Api
from tests.api.conftest import serving
from tests.live import LivePlatform, eventually
from tests.servers import Servers, new_database

TRACE, CALLER = "5bd66ef5095369c7b0d1f8f4bd33716a", "c1a80c2bf9fd4b2c"
SECRET = "canary-93e0"


class Collector(ThreadingHTTPServer):
    """Takes spans by OTLP over HTTP."""

    daemon_threads = True

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []  # and the service that they are of
        self.bodies: list[bytes] = []
        super().__init__(("127.0.0.1", 0), Export)

    def named(self, name: str) -> Any:
        """The span of this name in the trace of the test; None while it has not come."""
        found = (span for _, span in self.spans if span.name == name and span.trace_id.hex() == TRACE)
        return next(found, None)


class Export(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            said = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.server.spans += [(said["service.name"], span) for span in scope.spans]
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - its name in the standard library
        """Be quiet."""


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on this machine."""
    collector = Collector()
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    yield collector
    collector.shutdown()
    collector.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector of this test."""
    with collecting() as collector:
        yield collector


@pytest.fixture
def environment(collector: Collector) -> dict[str, str]:
    """What API and worker are told."""
    return {
        "CELERIAC_TRACES": "true",
        "CELERIAC_LOG_FORMAT": "json",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_address[1]}",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }


def test_one_trace_from_the_request_to_the_outcome(
    servers: Servers, tmp_path: Path, collector: Collector, environment: dict[str, str]
) -> None:
    """The caller's trace has the request, the submit, the message, the wait, the claim, the attempt and its outcome.

    The log lines of API and worker are JSON and hold its id, and no span or line holds what the job was given.
    """
    with (
        new_database(servers) as url,
        serving(url, servers.valkey_url, tmp_path, **environment) as api,
        LivePlatform(url, servers.valkey_url, tmp_path, **environment) as platform,
    ):
        platform.start("celeriac", "worker", "--concurrency", "1", log="worker.log")
        job_id = _created(api, "count_words", {"words": [SECRET]})
        failed_id = _created(api, "count_words", {"words": []}, traced=False)
        printing_id = _created(api, "printing", {}, traced=False)
        names = ("POST /v1/jobs", "submit count_words", "publish", "wait: broker", "run count_words", "settle")
        for name in names:
            eventually(lambda name=name: collector.named(name), what=name)  # type: ignore[misc]
        eventually(lambda: "job.ended" in platform.log("worker.log"), what="the line of the end")
        eventually(lambda: str(failed_id) in platform.log("worker.log"), what="the other job")
        eventually(lambda: "four" in platform.log("worker.log"), what="what a body prints")
        request, submit = collector.named("POST /v1/jobs"), collector.named("submit count_words")
        assert request.parent_span_id.hex() == CALLER
        assert submit.parent_span_id == request.span_id
        assert {collector.named(name).parent_span_id for name in names[2:]} == {submit.span_id}
        services = {span.name: service for service, span in collector.spans}
        assert (services["POST /v1/jobs"], services["run count_words"]) == ("celeriac-api", "celeriac-worker")
        api_lines = [json.loads(line) for line in platform.log("api.log").splitlines()]
        worker_lines = [json.loads(line) for line in platform.log("worker.log").splitlines()]
    assert [(line["trace_id"], line["request_id"]) for line in api_lines if line.get("job_id") == job_id] == [
        (TRACE, "my-request")
    ]
    of_job = [line for line in worker_lines if line.get("job_id") == job_id]
    assert {line["event"] for line in of_job} == {"job.started", "job.ended"}
    assert {line["trace_id"] for line in of_job} == {TRACE}
    printed = [line for line in worker_lines if line["logger"] in ("stdout", "stderr")]
    assert [(line["event"], line["level"]) for line in printed if line.get("job_id") == printing_id] == [
        ("one two", "info"),
        ("three", "warning"),
        ("four", "warning"),
    ]
    assert SECRET not in f"{api_lines}{worker_lines}"
    assert not [body for body in collector.bodies if SECRET.encode() in body]


def _created(api: Api, job_type: str, payload: dict[str, Any], *, traced: bool = True) -> str:
    headers = {"traceparent": f"00-{TRACE}-{CALLER}-01", "X-Request-Id": "my-request"} if traced else {}
    answer = api.caller().post("/v1/jobs", {"jobType": job_type, "payload": payload}, headers=headers)
    return str(answer.json()["jobId"])
