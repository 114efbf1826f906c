"""Traces by OpenTelemetry: what spans a job's way leaves in a collector, and that there are none without one."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import cache
from types import ModuleType
from typing import Any
from unittest.mock import patch

import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from structlog.testing import capture_logs

from tasks import calls
from tasks.app import JobApp
from tests.attempting import app_on, attempt, row, submitted
from tracking import telemetry, traces
from tracking.db import Database
from tracking.errors import ConfigurationError
from tracking.identifiers import TRACE
from tracking.settings import settings

SECRET = "canary-5f1c"


@cache
def collector() -> tuple[Any, ModuleType]:
    """The in-memory exporter of this process, which can have one provider only, and the SDK."""
    sdk = importlib.import_module(traces.SDK)
    export = importlib.import_module("opentelemetry.sdk.trace.export")
    memory = importlib.import_module("opentelemetry.sdk.trace.export.in_memory_span_exporter").InMemorySpanExporter()
    provider = sdk.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(memory))
    trace.set_tracer_provider(provider)
    return memory, sdk


@pytest.fixture
def spans() -> Iterator[Any]:
    """What is collected in a test; every other test of this process has no traces, as if the SDK were not loaded."""
    memory, sdk = collector()
    with patch.dict(sys.modules, {traces.SDK: sdk}):
        memory.clear()
        yield memory
    sys.modules.pop(traces.SDK, None)


@pytest.fixture
def traced(spans: Any, database: Database) -> Iterator[JobApp]:
    """An app with two handlers, on a database whose statements are traced."""
    with app_on(database) as app:

        @app.task(name="greet")
        def greet(whom: str) -> str:
            with trace.get_tracer("the user's").start_as_current_span("look up"):
                return f"hello {whom}"

        @app.task(name="fail", autoretry_for=(KeyError,), max_retries=1)
        def fail(whom: str) -> None:
            raise KeyError(whom)

        yield app


def named(memory: Any) -> dict[str, Any]:
    """The spans that have ended, by their names."""
    return {span.name: span for span in memory.get_finished_spans()}


def test_an_attempt_is_a_child_of_the_submit(spans: Any, traced: JobApp) -> None:
    """The attempt, its claim, its wait and what its body does are in the trace in which the job was submitted."""
    with trace.get_tracer("a site").start_as_current_span("order"):
        job = submitted(traced, "greet", whom=SECRET)
    attempt(traced, job)
    found = named(spans)
    submit, run = found["submit greet"], found["run greet"]
    assert submit.parent.span_id == found["order"].context.span_id
    assert (submit.kind, run.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert {found[name].parent.span_id for name in ("run greet", "claim", "wait: broker")} == {submit.context.span_id}
    assert found["look up"].parent.span_id == run.context.span_id
    assert len({span.context.trace_id for span in found.values()}) == 1
    said = dict(run.attributes)
    assert said["celeriac.job.id"] == str(job.id)
    assert (said["celeriac.attempt"], said["celeriac.worker"], said["celeriac.outcome"]) == (1, "here", "succeeded")


def test_verbs_of_the_database_are_seen_within_what_they_are_for(spans: Any, traced: JobApp) -> None:
    """The statements of a submit and of an outcome are spans by the names that rendered.sql has, within their spans."""
    job = submitted(traced, "greet", whom="you")
    attempt(traced, job)
    found = named(spans)
    insert, settle = found["jobs/submit.py SUBMIT"], found["jobs/settle.py SUCCEED"]
    assert insert.parent.span_id == found["submit greet"].context.span_id
    assert settle.parent.span_id == found["run greet"].context.span_id
    assert (insert.kind, insert.attributes["db.system.name"]) == (SpanKind.CLIENT, "postgresql")


def test_failed_attempts_say_their_error_and_their_waits(spans: Any, traced: JobApp) -> None:
    """Each attempt that fails is a span with its type of error, and the back-off before the second one is a wait."""
    job = submitted(traced, "fail", whom=SECRET)
    attempt(traced, job)
    with traced.platform.database.autocommit() as connection:
        connection.exec_driver_sql("UPDATE jobs SET hold = NULL, due_at = NULL, dispatch = dispatch")
    attempt(traced, row(traced, job.id))
    attempts = [span for span in spans.get_finished_spans() if span.name == "run fail"]
    assert [span.attributes["celeriac.outcome"] for span in attempts] == ["retry", "failed"]
    assert {span.attributes["error.type"] for span in attempts} == {"KeyError"}
    assert {span.status.status_code for span in attempts} == {StatusCode.ERROR}
    [wait] = [span for span in spans.get_finished_spans() if span.name == "wait: backoff"]
    assert attempts[0].start_time < wait.start_time < wait.end_time


def test_no_span_holds_a_payload_a_result_or_the_text_of_an_error(spans: Any, traced: JobApp) -> None:
    """What a job was given, gave back or said is in none of its spans."""
    for name in ("greet", "fail"):
        attempt(traced, submitted(traced, name, whom=SECRET))
    texts = [span.to_json() for span in spans.get_finished_spans()]
    assert len(texts) > 10
    assert not [text for text in texts if SECRET in text]


def test_what_comes_an_hour_later_is_linked(spans: Any, traced: JobApp) -> None:
    """An attempt more than an hour after the submit begins a trace of its own, with a link to the submit's span."""
    job = submitted(traced, "greet", whom="you")
    with patch.object(telemetry, "CHILD_FOR", float("-inf")):  # as if that hour were over, whatever the clock does
        attempt(traced, job)
    found = named(spans)
    submit, run = found["submit greet"].context, found["run greet"]
    assert (run.parent, [link.context.span_id for link in run.links]) == (None, [submit.span_id])
    assert run.context.trace_id != submit.trace_id


def test_the_row_keeps_the_traceparent(spans: Any, traced: JobApp) -> None:
    """A row keeps the traceparent of its submit."""
    job = submitted(traced, "greet", whom="you")
    context = named(spans)["submit greet"].context
    assert job.delivery[TRACE]["traceparent"].startswith(f"00-{context.trace_id:032x}-{context.span_id:016x}-")


def test_log_lines_of_an_attempt_have_the_trace_of_its_submit(spans: Any, traced: JobApp) -> None:
    """The lines of an attempt hold the id of the trace, also in a worker that makes no spans."""
    job = submitted(traced, "fail", whom="you")
    context = named(spans)["submit fail"].context
    sys.modules.pop(traces.SDK)
    assert traces.spans() is None
    told: list[dict[str, Any]] = []
    with (
        capture_logs() as logged,
        patch("structlog.contextvars.bind_contextvars", side_effect=lambda **ids: told.append(ids)),
    ):
        attempt(traced, job)
    assert f"{context.trace_id:032x}" in [ids.get("trace_id") for ids in told]
    assert [line["error"] for line in logged if line["event"] == "job.ended"] == ["KeyError"]


def test_what_is_done_for_many_at_once_is_in_the_trace_of_each(spans: Any, traced: JobApp) -> None:
    """A claim or an outcome that was written with others, and a message, is a span in the trace of its job."""
    made = [submitted(traced, "greet", whom="you") for _ in range(2)]
    about: Sequence[Any] = [(job.id, job.job_type, job.delivery) for job in made]
    known = traces.spans()
    assert known is not None
    known.together("settle", time.time_ns(), [*about, (made[0].id, "untraced", {})])
    settled = [span for span in spans.get_finished_spans() if span.name == "settle"]
    submits = [span for span in spans.get_finished_spans() if span.name == "submit greet"]
    assert [span.parent.span_id for span in settled] == [span.context.span_id for span in submits]
    assert {span.attributes["messaging.batch.message_count"] for span in settled} == {3}


def test_without_the_sdk_nothing_is_traced_or_loaded() -> None:
    """A program that sends jobs loads nothing of OpenTelemetry, and its rows keep no trace."""
    code = "import sys, tasks; from tracking import traces; print(traces.carried(), traces.SDK in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{} False"


def test_traces_without_the_extra_are_refused_in_a_line() -> None:
    """CELERIAC_TRACES without the extra is a line that says what to install."""
    wanted = settings().model_copy(update={"traces": True})
    with patch.dict(sys.modules, {"tracking.exporting": None}), pytest.raises(ConfigurationError) as refused:
        traces.begin(wanted, "celeriac-worker")
    assert re.search(r"^CELERIAC_TRACES: .*pip install 'celeriac\[traces\]'$", str(refused.value))


def test_jobs_that_are_repeated_begin_a_trace_of_their_own() -> None:
    """What a new job takes over from the one that it repeats is not the trace of that one."""
    changed = calls.anew(None, {}).delivery
    assert changed is not None
    assert changed[TRACE] is None
