"""A pool of processes in an event loop of its own, and bodies for it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any, Self

from kombu.asynchronous import Hub
from kombu.asynchronous.semaphore import LaxBoundedSemaphore

from tasks import current
from tasks.attempt.handing import Grant
from tasks.worker.processes import Processes

COUNT = 2
PATIENCE = 30.0
GRANT = Grant(1, 1, 1, ("acme", "u1"), None, "count_words", (0, 3), None, (None, None), None, {}, {})
CLAIMED: dict[str, Any] = {current.CLAIMED: GRANT}  # of a request


def echo(text: str, times: int) -> tuple[int, str]:
    """A body; in a process of the pool."""
    return os.getpid(), text * times


def trace(path: str, task_id: str, request: dict[str, Any], *_: Any) -> tuple[int, str]:
    """A body that ends when there is somebody to read its FIFO, with arguments as Celery gives them; or its process.

    "leave" lets that end when it has told of the body, "die" before.
    """
    if path == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if path == "leave":
        raise SystemExit
    if path:
        with Path(path).open("w") as fifo:
            fifo.write(task_id)
    return os.getpid(), request["filling"]


class Pool:
    """A pool in an event loop of its own; `told` is what its bodies returned, in the order in which they ended."""

    def __init__(self, **options: Any) -> None:
        self.hub = Hub()
        self.told: list[Any] = []
        self.begun: list[int] = []
        made: Any = Processes
        self.slots = LaxBoundedSemaphore(COUNT)
        self.pool: Any = made(COUNT, threads=False, sched_strategy="fair", semaphore=self.slots, **options)
        self.pool.register_with_event_loop(self.hub)
        self.until(lambda: len(self.pool._all_inqueues) == COUNT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.terminate()
        self.pool.join()
        self.hub.close()

    def run(self, text: str, times: int) -> None:
        """Give it a body."""
        self.pool.apply_async(
            echo, (text, times), callback=self.told.append, accept_callback=lambda pid, _: self.begun.append(pid)
        )

    def run_claimed(self, path: str, filling: str, *, job_id: str = "id", **request: Any) -> None:
        """Give it a body with a request."""
        self.pool.apply_async(
            trace,
            (path, job_id, {"filling": filling, **request}),
            correlation_id=job_id,
            callback=self.told.append,
            error_callback=self.told.append,
            accept_callback=lambda pid, _: self.begun.append(pid),
        )

    def until(self, is_so: Any) -> None:
        """Turn its event loop."""
        deadline = time.monotonic() + PATIENCE
        while not is_so():
            assert time.monotonic() < deadline, f"{len(self.told)} bodies have ended"
            self.hub.run_once()
