"""The identity of this worker: one lease for each start, shared by the main process and the children it forks."""

from __future__ import annotations

from uuid import UUID

from uuid_utils.compat import uuid7

_lease: UUID | None = None


def take() -> UUID:
    """Begin a new lease; called in the main process before the first child is forked."""
    global _lease  # noqa: PLW0603 - one worker a process, and forked children must inherit it
    _lease = uuid7()
    return _lease


def current() -> UUID | None:
    """The lease of this worker; None outside of one."""
    return _lease
