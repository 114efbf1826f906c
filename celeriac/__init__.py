"""A job platform on Celery; for those who write handlers and producers: `from celeriac import app, Job, BaseModel`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from celeriac import packages

if TYPE_CHECKING:
    from tasks import app, track
    from tasks.attempt.exceptions import PayloadError
    from tasks.attempt.job import Job
    from tasks.money import PayloadWithoutMoney
    from tasks.payloads import BaseModel
    from tasks.persistence import DatabaseAway
    from tasks.progress import JobCancelled
    from tasks.threads import UnknownThread
    from tracking.errors import (
        ConfigurationError,
        IdempotencyConflict,
        InvalidValue,
        OwnerMissing,
        TooManyWaiting,
        TrackingError,
        UnknownDependency,
    )
    from tracking.ownership import acting_as

__all__ = [
    "BaseModel",
    "ConfigurationError",
    "DatabaseAway",
    "IdempotencyConflict",
    "InvalidValue",
    "Job",
    "JobCancelled",
    "OwnerMissing",
    "PayloadError",
    "PayloadWithoutMoney",
    "TooManyWaiting",
    "TrackingError",
    "UnknownDependency",
    "UnknownThread",
    "acting_as",
    "app",
    "track",
]

# Imported at their first use: the command starts without Celery, and needs most of them never.
PLACES = {
    "tasks": ("app", "Job", "BaseModel", "track"),
    "tasks.attempt.exceptions": ("PayloadError",),
    "tasks.money": ("PayloadWithoutMoney",),
    "tasks.progress": ("JobCancelled",),
    "tasks.persistence": ("DatabaseAway",),
    "tasks.threads": ("UnknownThread",),
    "tracking.errors": (
        "ConfigurationError",
        "IdempotencyConflict",
        "InvalidValue",
        "OwnerMissing",
        "TooManyWaiting",
        "TrackingError",
        "UnknownDependency",
    ),
    "tracking.ownership": ("acting_as",),
}

if not TYPE_CHECKING:  # with a `__getattr__` a type checker would believe in every name

    def __getattr__(name: str) -> Any:
        for module, names in PLACES.items():
            if name in names:
                packages.claim(*packages.NEEDED)  # not before: what is only installed hides no module of a user's
                return getattr(import_module(module), name)
        raise AttributeError(f"module 'celeriac' has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
