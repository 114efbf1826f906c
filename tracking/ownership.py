"""In whose name the code in this context submits jobs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tracking.models import Owner

_owner: ContextVar[Owner | None] = ContextVar("owner", default=None)


@contextmanager
def acting_as(organization: str, user: str) -> Iterator[Owner]:
    """Submit in the name of this organization and user within the block."""
    token = _owner.set(Owner(organization, user))
    try:
        yield Owner(organization, user)
    finally:
        _owner.reset(token)


def current_owner() -> Owner | None:
    """The owner of the innermost `acting_as` block; None outside of any."""
    return _owner.get()
