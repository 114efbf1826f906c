"""Which attempt a thread works for: that of the body which has started it, or has handed it its work.

Python tells a new thread nothing of where it comes from (before 3.14), and an executor's threads serve one body after
another. So in a process that runs bodies, the start of a thread and the hand-over of work are noted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, wraps
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from tasks.current import Running


class UnknownThread(RuntimeError):
    """This thread was not started by way of Python's threading: nobody can tell which job it works for."""

    def __str__(self) -> str:
        return super().__str__() or str(self.__doc__)


_UNTOLD: Any = object()
_UNKNOWN: Any = object()
_current: ContextVar[Running | None] = ContextVar("attempt", default=_UNTOLD)
_started_by: WeakKeyDictionary[threading.Thread, Running] = WeakKeyDictionary()


def enter(running: Running) -> None:
    """From here on this thread works for that attempt, and so does what it starts."""
    _watch()
    _current.set(running)


def leave() -> None:
    """This thread works for no attempt any more. What it has started still does for the one that it was started by."""
    _current.set(None)


def attempt() -> Running | None:
    """The attempt that this thread works for; None for a thread that no body has started. Raises UnknownThread."""
    known = _known()
    if known is _UNKNOWN:
        raise UnknownThread
    return known


@contextmanager
def apart() -> Iterator[None]:
    """Within: what is started works for no attempt, but for the platform."""
    token = _current.set(None)
    try:
        yield
    finally:
        _current.reset(token)


@cache
def _watch() -> None:
    """Note, from the first body of a process on, who starts threads and hands them work."""
    start: Any = threading.Thread.start
    submit: Any = ThreadPoolExecutor.submit

    @wraps(start)
    def start_noted(thread: threading.Thread) -> None:
        running = _known()
        if running is not None:
            _started_by[thread] = running
        start(thread)

    @wraps(submit)
    def submit_noted(pool: ThreadPoolExecutor, function: Callable[..., Any], /, *args: Any, **named: Any) -> Any:
        return submit(pool, _within, _known(), function, args, named)

    threading.Thread.start = start_noted  # type: ignore[method-assign, assignment]  # as is the purpose
    ThreadPoolExecutor.submit = submit_noted  # type: ignore[method-assign, assignment]  # as above


def _known() -> Running | None:
    """The attempt of this thread, or _UNKNOWN."""
    told = _current.get()
    if told is not _UNTOLD:
        return told
    thread = threading.current_thread()
    if isinstance(thread, threading._DummyThread) and _watch.cache_info().currsize:  # noqa: SLF001 - there is no other way to tell
        return _UNKNOWN  # type: ignore[no-any-return]  # a mark
    return _started_by.get(thread)


def _within(running: Running | None, function: Callable[..., Any], args: Any, named: Any) -> Any:
    token = _current.set(running)
    try:
        return function(*args, **named)
    finally:
        _current.reset(token)
