"""The identity of this worker: one lease for each start, shared by the main process and the children it forks."""

from __future__ import annotations

from uuid import UUID

from uuid_utils.compat import uuid7

_lease: UUID | None = None
_soft_time_limit: float | None = None


def take(soft_time_limit: float | None = None) -> UUID:
    """Begin a new lease; called in the main process before the first child is forked.

    `soft_time_limit`: the seconds that this worker gives a body which has no such limit of its own; None: any time.
    """
    global _lease, _soft_time_limit
    _lease, _soft_time_limit = uuid7(), soft_time_limit
    return _lease


def current() -> UUID | None:
    """The lease of this worker; None outside of one."""
    return _lease


def soft_time_limit() -> float | None:
    """The worker's own limit, in seconds; None: it has none."""
    return _soft_time_limit
