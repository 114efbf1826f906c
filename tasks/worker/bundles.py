"""Bundles: short jobs that go to a process of the pool in one message, and whose ends it tells in one.

What goes through the pipes is half of what a short job costs the main process. Only of types that ask for it, and only
jobs that are claimed here. A job that has not begun is the main process's again whenever that wants it: of a process
that has died, that runs a slow body, or whose other job is to be ended. Then the process has one job, like any other.
"""

from __future__ import annotations

import errno
import os
import pickle
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from struct import Struct
from typing import Any

HEAD = Struct(">i")  # billiard's, before each message: its size
UNAVAILABLE = (errno.EAGAIN, errno.EINTR)
BUNDLE = "bundle"  # a message that says how many jobs come after it
PATIENCE = 0.03  # seconds until what has not begun is taken from behind a body that takes longer than was thought


class Bundle:
    """Those of its jobs whose ends are not heard of yet, by the pool's numbers; `process` None: none has it yet.

    `returned` hears of those that are taken back, and not the pool's any more.
    """

    def __init__(self, returned: Callable[[Sequence[Any]], None]) -> None:
        self.returned = returned
        self.jobs: dict[int, Any] = {}
        self.last = 0
        self.process: Any = None
        self.since = 0.0
        self.may_be_taken = True

    def add(self, job: Any) -> None:
        """One more, after those that it has."""
        self.last = job._job  # noqa: SLF001 - billiard has no other way to ask
        self.jobs[self.last] = job

    def message(self) -> bytes:
        """What goes through the pipe."""
        begin = pickle.dumps((BUNDLE, len(self.jobs)))
        parts = [HEAD.pack(len(begin)), begin]
        for job in self.jobs.values():
            parts += job._payload[:2]  # noqa: SLF001 - what Celery has just set
        return b"".join(parts)


class Slots:
    """The slots that the pool frees when a job has ended; `is_kept`: not this time, its process has another one."""

    def __init__(self, slots: Any) -> None:
        self._slots = slots
        self.is_kept = False

    def release(self) -> None:
        if not self.is_kept:
            self._slots.release()


class Bundles:
    """Those of one pool, in its event loop."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._hub: Any = None
        self._open: Bundle | None = None
        self._with: dict[int, Bundle] = {}  # by the pipe of their process
        self._due = 0.0
        self.patience = PATIENCE
        self.waiting: deque[Bundle] = deque()

    def begin(self, hub: Any) -> None:
        """The event loop begins; without it nothing is made a bundle."""
        self._hub = hub

    @property
    def are_possible(self) -> bool:
        """Whether the pool can have any: not where the worker limits the time of each job."""
        return self._hub is not None and not (self._pool.timeout or self._pool.soft_timeout)

    @property
    def is_open(self) -> bool:
        """Whether the pool is given jobs of a bundle."""
        return self._open is not None

    @contextmanager
    def together(self, returned: Callable[[Sequence[Any]], None]) -> Iterator[None]:
        """What the pool is given within is one, and has one slot."""
        bundle = self._open = Bundle(returned)
        try:
            yield
        finally:
            self._open = None
            if bundle.jobs:
                self.waiting.append(bundle)

    def add(self, job: Any) -> None:
        """One more for that which is open."""
        if self._open is not None:
            self._open.add(job)

    def write(self, idle: set[int]) -> None:
        """Give one to each process that has nothing to do, which is then not among `idle` any more."""
        while self.waiting and idle:
            fd = idle.pop()
            process = self._pool._fileno_to_inq.get(fd)  # noqa: SLF001 - Celery's
            if process is not None and self._write(self.waiting[0], fd, process):
                self._watch()

    def ended(self, job: int, fd: int) -> bool:
        """A job has ended; whether its process has others of its bundle."""
        bundle = self._with.get(fd)
        if bundle is None:
            return False
        bundle.jobs.pop(job, None)
        if not bundle.jobs:
            del self._with[fd]
        return bool(bundle.jobs)

    def is_with(self, process: Any) -> bool:
        """Whether a process has one."""
        return any(bundle.process is process for bundle in self._with.values())

    def died(self, process: Any) -> None:
        """A process is dead: what it had not begun others can run."""
        for fd, bundle in tuple(self._with.items()):
            if bundle.process is process:
                self._take_back(fd, bundle, is_dead=True)
                self._with.pop(fd, None)

    def break_up(self, job_id: str | None = None) -> None:
        """Let a process have at most the job that it runs; None: every process, otherwise the one that has this."""
        for bundle in tuple(self.waiting):
            if job_id is None or _has(bundle, job_id):
                self.waiting.remove(bundle)
                self._pool._putlock.release()  # noqa: SLF001 - billiard's
                _return(bundle, list(bundle.jobs.values()))
        for fd, bundle in tuple(self._with.items()):
            if job_id is None or _has(bundle, job_id):
                self._take_back(fd, bundle)

    def _write(self, bundle: Bundle, fd: int, process: Any) -> bool:
        """False: the process is dead, as the pool will see."""
        left = memoryview(bundle.message())
        try:
            left = left[os.write(fd, left) :]
        except BlockingIOError:
            pass
        except OSError:
            return False
        self.waiting.popleft()
        self._with[fd] = bundle
        self._pool._busy_workers.add(fd)  # noqa: SLF001 - Celery's
        bundle.process, bundle.since = process, time.monotonic()
        process.has_had_bundles = True
        for job in bundle.jobs.values():
            job._write_to = process  # noqa: SLF001 - as above
        if left:
            rest = self._write_on(fd, left)
            self._pool._active_writes.add(fd)  # noqa: SLF001 - as above
            self._pool._active_writers.add(rest)  # noqa: SLF001 - as above
            self._hub.add_writer(fd, rest)
        return True

    def _write_on(self, fd: int, left: memoryview) -> Iterator[None]:
        """Write the rest of what was too much for a pipe, as soon as there is room. Celery completes it, too."""
        try:
            while left:
                try:
                    left = left[os.write(fd, left) :]
                except OSError as error:
                    if error.errno not in UNAVAILABLE:
                        return  # its process is dead
                yield
        finally:
            self._hub.remove_writer(fd)
            self._pool._active_writes.discard(fd)  # noqa: SLF001 - as above

    def _watch(self) -> None:
        """Have a look in a while, if none is due. Celery may end the timers of a connection with it."""
        now = time.monotonic()
        if self._due <= now:
            self._due = now + self.patience
            self._hub.call_later(self.patience, self._look)

    def _look(self) -> None:
        late = time.monotonic() - self.patience
        for fd, bundle in tuple(self._with.items()):
            if bundle.may_be_taken and bundle.since <= late:
                self._take_back(fd, bundle)
        if any(bundle.may_be_taken for bundle in self._with.values()):
            self._watch()

    def _take_back(self, fd: int, bundle: Bundle, *, is_dead: bool = False) -> None:
        """Hear of what has ended, and have returned what has not begun.

        A process that has stopped in the wrong moment keeps its bundle: it is asked again.
        """
        told = bundle.process.board.take_back(bundle.last)
        if told is None:
            return
        begun, answers = told
        bundle.may_be_taken = False
        self._pool._result_handler.deliver(split(answers)[0])  # noqa: SLF001 - as above
        for number, job in tuple(bundle.jobs.items()):
            if number <= begun and not job._accepted:  # noqa: SLF001 - as above
                self._pool.accept(job, bundle.process.pid)
        unbegun = [bundle.jobs.pop(number) for number in tuple(bundle.jobs) if number > begun]
        if not bundle.jobs and self._with.pop(fd, None) is not None and not is_dead:
            self._pool._busy_workers.discard(fd)  # noqa: SLF001 - as above
            self._pool._putlock.release()  # noqa: SLF001 - as above
        _return(bundle, unbegun)


def _return(bundle: Bundle, jobs: Sequence[Any]) -> None:
    for job in jobs:
        job.discard()
    if jobs:
        bundle.returned(jobs)


def _has(bundle: Bundle, job_id: str) -> bool:
    return any(job.correlation_id == job_id for job in bundle.jobs.values())


def split(told: bytes) -> tuple[list[memoryview], bytes]:
    """The messages in it, and the beginning of the next one."""
    messages, at, view = list[memoryview](), 0, memoryview(told)
    while len(told) - at >= HEAD.size:
        begins = at + HEAD.size
        ends = begins + HEAD.unpack_from(told, at)[0]
        if ends > len(told):
            break
        messages.append(view[begins:ends])
        at = ends
    return messages, told[at:]
