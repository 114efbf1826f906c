"""A small typed client of the HTTP API: jobs, one by one and many at once, events, schedules, webhooks, workflows."""

from __future__ import annotations

from celeriac.client.requests import Client
from celeriac.client.streaming import Event
from celeriac.client.transport import ApiError

__all__ = ["ApiError", "Client", "Event"]
