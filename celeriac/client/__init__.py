"""A small typed client of the HTTP API: create, watch, follow, explain, list, cancel and retry jobs, fetch exports."""

from __future__ import annotations

from celeriac.client.requests import ApiError, Client
from celeriac.client.streaming import Event

__all__ = ["ApiError", "Client", "Event"]
