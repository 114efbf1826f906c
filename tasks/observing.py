"""Who watches what a handler reports that is called as a plain function: its test (celeriac.testing)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

Hear = Callable[[Mapping[str, Any]], None]

_hearing: ContextVar[Hear | None] = ContextVar("hearing", default=None)


@contextmanager
def heard(hear: Hear) -> Iterator[None]:
    """Within the block, what plain calls report is told to `hear`, by the names of a report of a running job."""
    token = _hearing.set(hear)
    try:
        yield
    finally:
        _hearing.reset(token)


def tell(news: Mapping[str, Any]) -> None:
    """A handler without an attempt reports; usually nobody hears it."""
    hear = _hearing.get()
    if hear is not None:
        hear(news)
