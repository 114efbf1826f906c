"""Handlers whose bodies, hooks, results and exceptions do whatever a handler can do; see test_ends.py."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from billiard.exceptions import Terminated, TimeLimitExceeded, WorkerLostError
from celery import current_task
from celery import signals as celery_signals
from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded, WorkerShutdown, WorkerTerminate
from sqlalchemy.exc import OperationalError

from tasks import Job, app
from tasks.progress import JobCancelled


class Unprintable(Exception):
    """Cannot say what it is."""

    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


class Interrupting(Exception):
    """Ends the program that asks for its text."""

    def __str__(self) -> str:
        raise KeyboardInterrupt

    __repr__ = __str__


class Unreducible(Exception):
    """Ends the program that pickles it."""

    def __reduce__(self) -> Any:
        raise SystemExit(7)


class Demanding(Exception):
    """Can be pickled, and not be read again."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


class Locked(ValueError):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class Outside(BaseException):
    """Is no Exception."""


def _raise(error: BaseException) -> Any:
    raise error


def _recurse(depth: int = 0) -> int:
    return _recurse(depth + 1) + 1


def _generate() -> Iterator[int]:
    yield 1
    raise LookupError("no second one")


def _rejecting() -> Iterator[int]:
    yield 1
    raise Reject("not from here", requeue=False)


def _endless() -> list[Any]:
    result: list[Any] = []
    result.append(result)
    return result


class Silent:
    def __repr__(self) -> str:
        raise ValueError("no text")


def _kill_self(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(30)


def _sleep_on() -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            time.sleep(0.1)
        except SoftTimeLimitExceeded:
            continue


def _retry_and_return() -> str:
    with suppress(Retry):
        current_task.retry(countdown=0)
    return "fine"


def _retry_and_raise() -> None:
    current_task.retry(countdown=0, throw=False)
    raise ValueError("boom")


BODIES: dict[str, Callable[[], Any]] = {
    "value_error": lambda: _raise(ValueError("boom")),
    "key_error": lambda: _raise(KeyError("absent")),
    "silent_error": lambda: _raise(LookupError()),
    "cancelled_error": lambda: _raise(asyncio.CancelledError("the loop is closed")),
    "keyboard": lambda: _raise(KeyboardInterrupt()),
    "generator_exit": lambda: _raise(GeneratorExit("early")),
    "outside": lambda: _raise(Outside("none of ours")),
    "exit": lambda: sys.exit(3),
    "exit_words": lambda: sys.exit("cannot go on"),
    "exit_nothing": sys.exit,
    "shutdown": lambda: _raise(WorkerShutdown(0)),
    "terminate": lambda: _raise(WorkerTerminate(1)),
    "terminated": lambda: _raise(Terminated(15)),
    "worker_lost": lambda: _raise(WorkerLostError("so it says")),
    "hard_limit_said": lambda: _raise(TimeLimitExceeded(1)),
    "soft_limit_said": lambda: _raise(SoftTimeLimitExceeded("so it says")),
    "memory": lambda: _raise(MemoryError("too much")),
    "recursion": _recurse,
    "group": lambda: _raise(ExceptionGroup("several", [ValueError("one"), TypeError("two")])),
    "outside_group": lambda: _raise(BaseExceptionGroup("several", [KeyboardInterrupt()])),
    "stop_iteration": lambda: _raise(StopIteration("at once")),
    "unicode": b"\xff".decode,
    "nul": lambda: _raise(ValueError("a\x00b\ud800c")),
    "long": lambda: _raise(ValueError("x" * 3_000_000)),
    "database": lambda: _raise(OperationalError("SELECT 1", {}, Exception("server closed"))),
    "unprintable": lambda: _raise(Unprintable()),
    "interrupting": lambda: _raise(Interrupting()),
    "unreducible": lambda: _raise(Unreducible("here")),
    "demanding": lambda: _raise(Demanding("this", "that")),
    "locked": lambda: _raise(Locked("held")),
    "ignore": lambda: _raise(Ignore()),
    "cancelled_said": lambda: _raise(JobCancelled()),
    "reject": lambda: _raise(Reject("no", requeue=False)),
    "reject_error": lambda: _raise(Reject(OSError(28, "disk full"), requeue=False)),
    "requeue": lambda: _raise(Reject("not now", requeue=True)),
    "retry_raised": lambda: _raise(Retry("again", when=0)),  # type: ignore[arg-type]  # the stubs know no number
    "retry_nan": lambda: current_task.retry(args=("fine", float("nan")), countdown=0),
    "retry_quietly": lambda: current_task.retry(countdown=0, throw=False),
    "retry_caught": _retry_and_return,
    "retry_first": _retry_and_raise,
    "retry_when": lambda: _raise(Retry("again", when="soon")),  # type: ignore[arg-type]  # on purpose
    "bytes": lambda: b"\xff\xfe",
    "generator": _generate,
    "rejecting_generator": _rejecting,
    "not_a_number": lambda: float("nan"),
    "object": object,
    "endless": _endless,
    "silent": Silent,
    "surrogate": lambda: "\ud800",
    "large": lambda: "x" * 2**21,
    "deep": lambda: _nested(200),
    "fine": lambda: "fine",
    # only where a body has a process of its own
    "os_exit": lambda: os._exit(5),
    "os_exit_zero": lambda: os._exit(0),
    "sigkill": lambda: _kill_self(signal.SIGKILL),
    "sigsegv": lambda: _kill_self(signal.SIGSEGV),
    "sigterm": lambda: _kill_self(signal.SIGTERM),
    "sigusr1": lambda: _kill_self(signal.SIGUSR1),
    "sleep": lambda: time.sleep(30),
    "deaf": _sleep_on,
    "doze": lambda: time.sleep(30),
}


def _nested(depth: int) -> Any:
    value: Any = None
    for _ in range(depth):
        value = [value]
    return value


def _witness(path: str, task: Any) -> None:
    redelivered = bool(task.request.delivery_info.get("redelivered"))
    with Path(path).open("a") as file:
        file.write(f"{task.job.job_id if task.job else None} {redelivered}\n")


@app.task(bind=True, name="end", max_retries=2, circuit_failures=0)
def end(self: Job, kind: str, witness: str) -> Any:
    _witness(witness, self)
    return BODIES[kind]()


@app.task(bind=True, name="end_in_time", max_retries=2, circuit_failures=0, soft_time_limit=2)
def end_in_time(self: Job, kind: str, witness: str) -> Any:
    """The same within two seconds."""
    _witness(witness, self)
    return BODIES[kind]()


@app.task(bind=True, name="end_by_force", max_retries=2, circuit_failures=0, soft_time_limit=1, time_limit=3)
def end_by_force(self: Job, kind: str, witness: str) -> Any:
    """The same, or be killed after three seconds."""
    _witness(witness, self)
    return BODIES[kind]()


@app.task(
    bind=True,
    name="end_again",
    max_retries=1,
    circuit_failures=0,
    autoretry_for=(BaseException,),
    retry_backoff=False,
    default_retry_delay=0,
)
def end_again(self: Job, kind: str, witness: str) -> Any:
    """The same, and once more whatever it was."""
    _witness(witness, self)
    return BODIES[kind]()


class Hooked(Job):
    """Its hooks do what the second argument says, at the place that the first names."""

    abstract = True

    def _hook(self, place: str, args: Any) -> None:
        if args[0] == place:
            BODIES[args[1]]()

    def before_start(self, _id: str, args: Any, _kwargs: Any) -> None:
        """Celery's hook, without the one of the class above."""
        self._hook("before_start", args)

    def on_success(self, _result: Any, _id: str, args: Any, _kwargs: Any) -> None:
        self._hook("on_success", args)

    def on_failure(self, _error: Any, _id: str, args: Any, _kwargs: Any, _info: Any) -> None:
        self._hook("on_failure", args)

    def on_retry(self, _error: Any, _id: str, args: Any, _kwargs: Any, _info: Any) -> None:
        self._hook("on_retry", args)

    def after_return(self, _state: Any, _result: Any, _id: str, args: Any, _kwargs: Any, _info: Any) -> None:
        self._hook("after_return", args)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._hook("call", args)
        return self.run(*args, **kwargs)


@app.task(bind=True, base=Hooked, name="hooked", max_retries=1, circuit_failures=0)
def hooked(self: Job, place: str, kind: str, body: str, witness: str) -> Any:
    """Come to the end `body`; the hook at `place` comes to the end `kind`."""
    _witness(witness, self)
    if body == "retry":
        raise self.retry(countdown=0)
    return BODIES[body]()


@app.task(
    bind=True, base=Hooked, name="hooked_by_force", max_retries=1, circuit_failures=0, soft_time_limit=1, time_limit=3
)
def hooked_by_force(self: Job, place: str, kind: str, body: str, witness: str) -> Any:
    """The same, or be killed after three seconds: Celery calls the hooks in the worker's main process then."""
    _witness(witness, self)
    return BODIES[body]()


def _receive(place: str, sender: Any) -> None:
    args = sender.request.args or ()
    if sender.name == "heard" and args and args[0] == place:
        BODIES[args[1]]()


@app.task(bind=True, name="heard", max_retries=1, circuit_failures=0)
def heard(self: Job, place: str, kind: str, body: str, witness: str) -> Any:
    """Come to the end `body`; a receiver of the signal `place` comes to the end `kind`."""
    _witness(witness, self)
    return BODIES[body]()


for _place in ("task_prerun", "task_success", "task_failure", "task_postrun"):
    getattr(celery_signals, _place).connect(
        lambda sender=None, _place=_place, **_: _receive(_place, sender), weak=False
    )
