"""The spans of a job's way: its submit, waits, messages, attempts and statements, by OpenTelemetry's API.

A row keeps the context of the span in which it was submitted. What comes later is a child of that one for an hour; then
it begins a trace of its own with a link, as no reader wants a trace that lasts for days. A span never holds a payload,
a result, the text of an error or the values of a statement.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from sqlalchemy import Engine, event

from tracking.identifiers import TRACE

if TYPE_CHECKING:
    from tracking.models import Attempt, NewJob
    from tracking.reads.waits import Wait

CHILD_FOR = 3600.0  # seconds

W3C = TraceContextTextMapPropagator()
Delivery = Mapping[str, Any]


class Spans:
    """Makes spans, with the provider that the process has."""

    def __init__(self) -> None:
        self._tracer = trace.get_tracer("celeriac")
        self._names: dict[str, str] = {}

    @property
    def trace_id(self) -> str | None:
        """Of the current span; None outside of any."""
        context = trace.get_current_span().get_span_context()
        return trace.format_trace_id(context.trace_id) if context.is_valid else None

    def carried(self) -> dict[str, Any]:
        """What a row that is written now keeps of the current span; empty outside of any."""
        headers: dict[str, Any] = {}
        W3C.inject(headers)
        return {TRACE: {**headers, "at": time.time()}} if headers else {}

    def say(self, **attributes: str | int) -> None:
        """Add to the current span."""
        trace.get_current_span().set_attributes(attributes)

    @contextmanager
    def submit(self, jobs: Sequence[NewJob]) -> Iterator[None]:
        """The acceptance of jobs; what their rows keep is this span."""
        one = jobs[0] if len(jobs) == 1 else None
        name = f"submit {one.job_type}" if one is not None else "submit"
        said = _of_job(one.id, one.job_type) if one is not None else {"messaging.batch.message_count": len(jobs)}
        said |= {"messaging.system": "celery", "messaging.operation.type": "send"}
        with self._current(name, SpanKind.PRODUCER, said):
            yield

    @contextmanager
    def attempt(self, attempt: Attempt, worker: str, claimed: tuple[int, int]) -> Iterator[Span]:
        """An attempt that was claimed between these two times, in ns; `claimed` equal: elsewhere."""
        context, links = _origin(attempt.delivery)
        said = {
            **_of_job(attempt.job_id, attempt.job_type),
            "celeriac.organization": attempt.owner.organization_id,
            "celeriac.attempt": attempt.attempt,
            "celeriac.dispatch": attempt.fence.dispatch,
            "celeriac.worker": worker,
            "messaging.system": "celery",
            "messaging.operation.type": "process",
        }
        with self._current(f"run {attempt.job_type}", SpanKind.CONSUMER, said, context=context, links=links) as span:
            if claimed[0] < claimed[1]:
                self._past("claim", claimed, context, _of_job(attempt.job_id, attempt.job_type))
            yield span

    def ended(self, outcome: str, error_type: str | None) -> None:
        """Say of the current attempt how it ended."""
        span = trace.get_current_span()
        span.set_attribute("celeriac.outcome", outcome)
        if error_type is not None:
            span.set_attribute("error.type", error_type)
            span.set_status(Status(StatusCode.ERROR))

    def waited(self, attempt: Attempt, waits: Iterable[Wait]) -> None:
        """What a job waited for before its attempt."""
        context, _ = _origin(attempt.delivery)
        for wait in waits:
            times = _nanoseconds(wait.since), _nanoseconds(wait.until)
            self._past(f"wait: {wait.reason}", times, context, _of_job(attempt.job_id, attempt.job_type))

    def together(self, name: str, began: int, about: Iterable[tuple[Any, str, Delivery]]) -> None:
        """What was done for many jobs at once since `began`, in ns: a span in each trace; (id, type, delivery) each."""
        about = list(about)
        for job_id, job_type, delivery in about:
            context, _ = _origin(delivery)
            if trace.get_current_span(context).get_span_context().is_valid:
                said = {**_of_job(job_id, job_type), "messaging.batch.message_count": len(about)}
                self._past(name, (began, time.time_ns()), context, said)

    @contextmanager
    def statements(self, texts: Sequence[str]) -> Iterator[None]:
        """A round trip to the database, within another span; named as rendered.sql names its first statement."""
        if not trace.get_current_span().is_recording():
            yield
            return
        said: dict[str, Any] = {"db.system.name": "postgresql"}
        if len(texts) > 1:
            said["db.operation.batch.size"] = len(texts)
        with self._current(self._name(texts[-1]), SpanKind.CLIENT, said):
            yield

    def watch(self, engine: Engine) -> None:
        """The same for what is executed by way of SQLAlchemy."""
        event.listen(engine, "before_cursor_execute", self._before)
        event.listen(engine, "after_cursor_execute", _after)
        event.listen(engine, "handle_error", _failed)

    def flush(self, timeout: float) -> None:
        flush: Callable[[int], object] | None = getattr(trace.get_tracer_provider(), "force_flush", None)
        if flush is not None:
            flush(int(1000 * timeout))

    @contextmanager
    def _current(self, name: str, kind: SpanKind, said: Mapping[str, Any], **options: Any) -> Iterator[Span]:
        with self._tracer.start_as_current_span(
            name, kind=kind, attributes=said, record_exception=False, set_status_on_exception=False, **options
        ) as span:
            try:
                yield span
            except Exception as error:
                span.set_attribute("error.type", type(error).__name__)  # not its text, which may quote a payload
                span.set_status(Status(StatusCode.ERROR))
                raise

    def _past(self, name: str, times: tuple[int, int], context: Context, said: Mapping[str, Any]) -> None:
        span = self._tracer.start_span(name, context=context, start_time=times[0], attributes=said)
        span.end(times[1])

    def _before(self, _c: Any, _cursor: Any, sql: str, _p: Any, context: Any, _many: Any) -> None:
        if context is not None and trace.get_current_span().is_recording():
            said = {"db.system.name": "postgresql"}
            invoked = getattr(context.invoked_statement, "text", sql)
            context.span = self._tracer.start_span(self._name(invoked), kind=SpanKind.CLIENT, attributes=said)

    def _name(self, sql: str) -> str:
        if not self._names:
            rendered = import_module("tracking.rendered")  # at its first use: it imports all that has a statement
            self._names = {str(value): name for name, value in rendered.named()}
        return self._names.get(sql) or sql.split(maxsplit=1)[0].upper()


def _after(_c: Any, _cursor: Any, _sql: Any, _p: Any, context: Any, _many: Any) -> None:
    span = getattr(context, "span", None)
    if span is not None:
        span.end()


def _failed(failed: Any) -> None:
    span = getattr(failed.execution_context, "span", None)
    if span is not None:
        span.set_attribute("error.type", type(failed.original_exception).__name__)
        span.set_status(Status(StatusCode.ERROR))
        span.end()


def _origin(delivery: Delivery) -> tuple[Context, Sequence[Link]]:
    """Within what the work for a row takes place, and to what it is linked instead."""
    kept = delivery.get(TRACE)
    if not isinstance(kept, Mapping):
        return Context(), ()
    context = W3C.extract(kept, Context())
    submitted = trace.get_current_span(context).get_span_context()
    if not submitted.is_valid or time.time() - float(kept.get("at", 0)) < CHILD_FOR:
        return context, ()
    return Context(), (Link(submitted),)


def _of_job(job_id: Any, job_type: str) -> dict[str, Any]:
    return {"celeriac.job.id": str(job_id), "celeriac.job.type": job_type}


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp() * 1e6) * 1000
