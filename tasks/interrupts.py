"""Signals that interrupt a body: SIGUSR1, of its soft time limit or of a cancel, in a process of the prefork pool.

billiard's handler raises SoftTimeLimitExceeded wherever the process is: in the claim of the next job, in an outcome on
its way, in the middle of a library that makes an error of its own of it. Here it is raised in the body alone, and in
none of the platform's writes that the body asks for. A mask would not do that: it holds for one thread, and a signal
takes any that is open.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from billiard import pool
from billiard.process import current_process
from celery.exceptions import SoftTimeLimitExceeded

MAIN_PROCESS = "MainProcess"  # billiard's name of a process that it has not made
WRAPPERS = 10  # errors that others are the explicit cause of, at most

T = TypeVar("T")

_installed = False  # whether this is a process in which bodies are interrupted
_allowed = False  # whether it runs one now
_came = False  # whether a signal has come since the last that could interrupt one


def install() -> None:
    """Set the handler, when a process of the pool begins and before billiard sets its own."""
    global _installed  # noqa: PLW0603 - of the process
    if current_process().name != MAIN_PROCESS:  # in a thread nothing interrupts a body
        pool.soft_timeout_sighandler = interrupt
        _installed = True


def interrupt(signum: int, frame: Any) -> None:  # noqa: ARG001 - a signal handler's parameters
    """What a signal does. Raises SoftTimeLimitExceeded in a body."""
    global _came  # noqa: PLW0603 - of the process
    if _allowed:
        raise SoftTimeLimitExceeded
    _came = True


def allow(body: Callable[[bool], T]) -> T:
    """Call `body`, which may be interrupted, with whether that was asked for before: for it, or for the job before."""
    global _allowed, _came  # noqa: PLW0603 - of the process
    if not _installed:
        return body(False)  # noqa: FBT003 - the one argument
    try:
        _allowed = True
        came, _came = _came, False
        return body(came)
    finally:
        _allowed = False


def end() -> None:
    """The body is over, also by the first of two signals that came at once."""
    global _allowed  # noqa: PLW0603 - of the process
    _allowed = False


def hold(call: Callable[[], T], *, raised_after: bool = False) -> T:
    """Call what no interruption may tear. With `raised_after` one that came is raised then, whatever became of it."""
    global _allowed, _came  # noqa: PLW0603 - of the process
    if not _allowed or threading.current_thread() is not threading.main_thread():
        return call()
    _allowed = False
    try:
        return call()
    finally:
        _allowed = True
        if raised_after and _came:
            _came = False
            raise SoftTimeLimitExceeded


def is_of_signal(error: BaseException | None) -> bool:
    """Whether a signal has raised this, or what it was explicitly raised from, and not the handler itself."""
    for _ in range(WRAPPERS):
        if error is None:
            break
        if isinstance(error, SoftTimeLimitExceeded) and _is_ours(error.__traceback__):
            return True
        error = error.__cause__
    return False


def _is_ours(frame: TracebackType | None) -> bool:
    while frame is not None:
        if frame.tb_frame.f_code in (interrupt.__code__, hold.__code__):
            return True
        frame = frame.tb_next
    return False
