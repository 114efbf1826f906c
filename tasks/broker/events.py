"""Celery's events for Flower: an outage of the broker is noticed by them, not waited out."""

from __future__ import annotations

from typing import Any

from celery.app.events import Events as CeleryEvents
from celery.events.dispatcher import EventDispatcher


class Dispatcher(EventDispatcher):
    """Sends events. One that says that the worker lives raises what the broker raises.

    Celery sends that one in the worker's event loop, and again until the broker is back: no body begins meanwhile, and
    the end of none is read.
    """

    buffer_while_offline: bool  # whether it keeps what it cannot send, and raises nothing

    def _publish(self, event: Any, *args: Any, retry: bool = False, **options: Any) -> None:
        buffers = self.buffer_while_offline
        self.buffer_while_offline = buffers and not retry
        try:
            super()._publish(event, *args, retry=False, **options)  # type: ignore[misc]  # missing in the stubs
        finally:
            self.buffer_while_offline = buffers


class Events(CeleryEvents):
    """What an app has of them."""

    dispatcher_cls = "tasks.broker.events:Dispatcher"
