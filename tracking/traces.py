"""Traces, where somebody reads them: whether this process has any, and where its spans are made.

Nothing of OpenTelemetry is called, nor its SDK loaded, unless CELERIAC_TRACES or the program itself wants that.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Any

from tracking.errors import ConfigurationError
from tracking.settings import Settings

if TYPE_CHECKING:
    from tracking.telemetry import Spans

SDK = "opentelemetry.sdk.trace"


def spans() -> Spans | None:
    """Those of this process; None: it has none, for nobody has loaded the SDK."""
    return _made() if SDK in sys.modules else None


def carried() -> dict[str, Any]:
    """What a row that is written now keeps of the trace that it belongs to; empty: of none."""
    made = spans()
    return made.carried() if made is not None else {}


def begin(settings: Settings, service: str) -> None:
    """Send this process's spans to a collector, if the settings say so; `service`: its name, unless OTEL_SERVICE_NAME.

    What the program has set up already stays. Raises ConfigurationError without the extra.
    """
    if not settings.traces:
        return
    try:
        from tracking.exporting import export  # noqa: PLC0415 - the extra, which takes a tenth of a second
    except ImportError:
        raise ConfigurationError("CELERIAC_TRACES: OpenTelemetry is missing: pip install 'celeriac[traces]'") from None
    export(service)


def flush(timeout: float) -> None:
    """Send the spans that are left, for `timeout` seconds at most: before a process ends that runs no exit handlers."""
    made = spans()
    if made is not None:
        made.flush(timeout)


@cache
def _made() -> Spans:
    from tracking.telemetry import Spans  # noqa: PLC0415 - it loads OpenTelemetry's API, which few processes need

    return Spans()
