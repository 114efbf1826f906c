"""What a worker knows of the attempt that it runs now."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tasks.progress import Reporter
from tracking.models import Attempt, NewJob

ATTRIBUTE = "running"


@dataclass(slots=True)
class Running:
    """One claimed attempt, kept on Celery's request.

    `successors` (chain, link) wait here for the attempt's outcome; `rewritten` is the payload that a retry asked for;
    `since` is when its message reached this process, on the monotonic clock.
    """

    attempt: Attempt
    reporter: Reporter
    since: float
    successors: list[NewJob] = field(default_factory=list)
    rewritten: dict[str, Any] | None = None
    settled: bool = False


def keep(request: Any, running: Running) -> None:
    """Remember the attempt with its request."""
    request.update({ATTRIBUTE: running})


def of(request: Any) -> Running | None:
    """The attempt of a request; None when nothing was claimed, as in the worker's main process."""
    return getattr(request, ATTRIBUTE, None)
