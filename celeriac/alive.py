"""`python -m celeriac.alive`: whether the worker of this host answers, for the probes of Docker and Kubernetes.

It asks the worker's main process through the broker, and so fails when either of them hangs. `celery inspect ping`
would ask the same, but load the whole application first, at many times the CPU; so does whatever imports `tasks`.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from celery import Celery
from kombu.utils.url import parse_url

from tracking import sentinels
from tracking.certificates import verifying
from tracking.errors import ConfigurationError
from tracking.settings import settings

PATIENCE = 5.0  # seconds for an answer
AT_ONCE = {"max_retries": 1, "interval_start": 0, "interval_step": 0}  # the probe comes again by itself


def main(arguments: Sequence[str]) -> int:
    """0: it answers. 1: nobody does, or no broker. 2: a wrong setting. The host may be named as an argument."""
    host = arguments[0] if arguments else socket.gethostname()
    try:
        broker = settings().broker
    except ConfigurationError as error:
        sys.stderr.write(f"celeriac: {error}\n")
        return 2
    failures = []
    for place, options in places(broker):
        try:
            if _is_answered(Celery(broker=place, **options), host):
                return 0
        except Exception as error:  # noqa: BLE001 - each transport has its own
            failures.append(f"the broker: {type(error).__name__}: {error}")
    said = "; ".join(failures) or f"no worker of {host} has answered within {PATIENCE:g} seconds"
    sys.stderr.write(f"{said}\n")
    return 1


def places(broker: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each server that the URL names, with Celery's settings for it; all sentinels are one place."""
    if options := sentinels.options_of(broker):
        yield sentinels.place_of(broker), {"broker_transport_options": AT_ONCE | options}
        return
    for url in broker.split(";"):
        if url.startswith("amqps:"):
            parts = parse_url(url)
            secured = verifying(parts.get("ssl"), parts["hostname"])
            yield url.partition("?")[0], {"broker_use_ssl": secured, "broker_transport_options": AT_ONCE}
        else:
            yield url, {"broker_transport_options": AT_ONCE}


def _is_answered(app: Celery, host: str) -> bool:
    here: dict[str, Any] = {"pattern": f"*@{host}", "matcher": "glob"}
    return bool(app.control.broadcast("ping", reply=True, timeout=PATIENCE, limit=1, **here))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
