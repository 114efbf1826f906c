"""The spans' way to a collector: OpenTelemetry's SDK and its exporter by HTTP, in each process its own."""

from __future__ import annotations

import os
from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.environment_variables import OTEL_SERVICE_NAME
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult


class ExporterOfProcess(SpanExporter):
    """An exporter that a forked child makes anew: the connections of the other belong to its parent."""

    def __init__(self) -> None:
        self._process = 0
        self._exporter: OTLPSpanExporter | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send them; the standard variables OTEL_EXPORTER_OTLP_* say where and how."""
        if self._exporter is None or self._process != os.getpid():
            self._process, self._exporter = os.getpid(), OTLPSpanExporter()
        return self._exporter.export(spans)

    def shutdown(self) -> None:
        if self._exporter is not None and self._process == os.getpid():
            self._exporter.shutdown()  # type: ignore[no-untyped-call]  # of the SDK's


def export(service: str) -> None:
    """Make the spans of this process, and of those that it forks, go to the collector; what is set up already stays."""
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return
    named = {} if os.environ.get(OTEL_SERVICE_NAME) else {SERVICE_NAME: service}
    provider = TracerProvider(resource=Resource.create(named))
    provider.add_span_processor(BatchSpanProcessor(ExporterOfProcess()))
    trace.set_tracer_provider(provider)
