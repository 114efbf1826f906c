"""A small typed client of the HTTP API: create, watch, explain, list, cancel and retry jobs, download exports."""

from __future__ import annotations

from celeriac.client.requests import ApiError, Client

__all__ = ["ApiError", "Client"]
