"""What the users of the five systems rely on, as data; a test says by `shows` which of it it shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

PROMISES: dict[str, tuple[str, ...]] = {
    "media-library job queue": (
        "priority execution",
        "crash recovery on start",
        "retries",
        "history with retention: 30 days completed, 90 failed",
        "circuit breaker: 5 failures, 1 minute",
        "recent, stats and history reads",
        "WebSocket events",
        "follow-up jobs from a handler",
        "scheduled clean-up",
    ),
    "test-automation jobs module": (
        "per-project lists and stats",
        "cancel queued or running",
        "retry failed or cancelled",
        "progress 0-100",
        "a dashboard page: cards, filter, table, badges, progress bars, duration, buttons, errors, notices",
        "refresh within 5 s",
    ),
    "quotes/exports jobs pattern": (
        "the create, status, list, cancel and retry shapes",
        "organization and user isolation",
        "four permissions plus the handler's",
        "payload validation: no monetary values",
        "total and current steps",
        "five job types",
        "at most 5 concurrent jobs per organization",
        "audit of every operation",
        "export steps and the result of an export",
        "scheduled jobs",
        "dependencies",
        "back-off",
        "breakers",
        "templates",
        "webhooks on completion",
    ),
    "fleet assistant's tracking API": (
        "create with jobType, by default generic, message and metadata",
        "update with progress and message",
        "complete with a document id",
        "fail",
        "cleaned up 5 minutes after the end",
    ),
    "queue architecture": (
        "the states and their moves",
        "active rows small and fast whatever the history holds",
        "stats with the oldest waiting age",
        "stalled jobs reset",
        "clean-up by age and status",
        "handlers registered by type",
        "no handler: a failed job with that reason",
    ),
}

Test = TypeVar("Test", bound=Callable[..., Any])


def shows(system: str, *promises: str) -> Callable[[Test], Test]:
    """Say that a test shows these promises. Raises ValueError for one that nobody has given."""
    unknown = set(promises) - set(PROMISES[system])
    if unknown:
        raise ValueError(f"{system} relies on no {sorted(unknown)}")

    def mark(test: Test) -> Test:
        test.__dict__["shown"] = {(system, promise) for promise in promises}
        return test

    return mark
