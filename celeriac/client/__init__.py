"""A small typed client of the HTTP API: create, watch, follow, explain, list, edit, cancel and retry jobs."""

from __future__ import annotations

from celeriac.client.requests import Client
from celeriac.client.streaming import Event
from celeriac.client.transport import ApiError

__all__ = ["ApiError", "Client", "Event"]
