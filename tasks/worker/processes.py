"""Celery's pool of processes, and what goes through its pipes: as little of it as one job needs.

Celery asks its event loop before each write whether it may, and after each message whether there is another one. For
short bodies that is half of what the main process does for a job.
"""

from __future__ import annotations

import os
import pickle
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from select import PIPE_BUF
from time import monotonic
from typing import Any

from billiard.pool import ACK, READY
from celery.concurrency import asynpool
from celery.worker import state

from tasks import current
from tasks.attempt.handing import Grant
from tasks.worker.board import Board
from tasks.worker.bundles import BUNDLE, HEAD, UNAVAILABLE, Bundles, Slots, split

AT_ONCE = 64 * 1024  # bytes of what a process has told; a pipe holds no more
FAIR: int = vars(asynpool)["SCHED_STRATEGIES"]["fair"]  # Celery's word for a process that gets a job when it has none
NO_MORE = memoryview(b"")


class Results(asynpool.ResultHandler):
    """Reads all that a process has told, in one turn."""

    fileno_to_outq: dict[int, Any]  # Celery's and billiard's, which the stubs lack
    on_state_change: Callable[[Any], None]

    def _make_process_result(self, hub: Any) -> Callable[[int], None]:
        def on_readable(fd: int) -> None:
            if fd not in self.fileno_to_outq:  # its process is gone
                hub.remove_reader(fd)
                return
            try:
                told = os.read(fd, AT_ONCE)
            except OSError as error:
                if error.errno not in UNAVAILABLE:
                    hub.remove_reader(fd)
                return
            if not told:
                hub.remove_reader(fd)
                return
            messages, rest = split(told)
            if rest:
                hub.add_reader(fd, self._completed(hub, fd, rest))
            self.deliver(messages)

        return on_readable

    def deliver(self, messages: list[memoryview]) -> None:
        """Raises what the first does whose callback raises, after all of them: no other is lost with it."""
        raised: BaseException | None = None
        for each in messages:
            try:
                if message := pickle.loads(each):  # noqa: S301 - of our own process
                    self.on_state_change(message)
            except BaseException as error:  # noqa: BLE001 - whatever ends the worker does so a moment later
                raised = raised or error
        if raised is not None:
            raise raised

    def _completed(self, hub: Any, fd: int, begun: bytes) -> Iterator[None]:
        """Read the rest of a message, of which there is too much for a pipe.

        A generator, which Celery completes by itself if the worker stops amid it (`_finish_partial_read`).
        """
        while (missing := _missing(begun)) > 0:
            try:
                more = os.read(fd, missing)
            except OSError as error:
                if error.errno not in UNAVAILABLE:
                    raise
                yield
            else:
                if not more:
                    raise OSError("end of file amid a message")
                begun += more
        hub.add_reader(fd, self.handle_event, fd)
        self.deliver([memoryview(begun)[HEAD.size :]])


class Process(asynpool.Worker):
    """The other end: a process of the pool reads a job, and tells what has become of it."""

    inq: Any  # billiard's, which the stubs lack
    outq: Any
    board: Board
    _is_at_work = False  # from a job until its end is told
    _behind = 0  # jobs of a bundle that come after this one
    _has_kept = False  # whether the board has answers of it

    def contribute_to_object(self, obj: Any) -> Any:
        """What both ends have of it: billiard asks for this before it makes the process."""
        self.__dict__.setdefault("board", Board())
        obj.board = self.board
        return super().contribute_to_object(obj)

    def _make_recv_method(self, conn: Any) -> Callable[[float], tuple[bool, Any]]:
        if conn is not self.inq:
            made: Callable[[float], tuple[bool, Any]] = super()._make_recv_method(conn)  # type: ignore[misc]  # as above
            return made
        pipe, self._is_expected = Pipe(conn._reader.fileno()), False  # noqa: SLF001 - billiard has no other way

        def receive(_timeout: float) -> tuple[bool, Any]:
            while True:
                size, job = pipe.receive()
                if job is not None and job[0] == BUNDLE:
                    self._behind = job[1]
                elif not self._behind:
                    self._is_expected = job is not None and _is_claimed(job) and _is_one_write(size)
                    self._is_at_work = job is not None
                    return True, job
                else:
                    self._behind -= 1
                    self._is_expected = True
                    if self.board.begin(job[1][0]):
                        self._is_at_work = True
                        return True, job

        return receive

    def on_loop_start(self, pid: int) -> None:
        """It is ready; what it tells from now on goes a shorter way."""
        super().on_loop_start(pid)
        self._told = self.outq._writer.fileno()  # noqa: SLF001 - as above
        self.outq.put = self._tell

    def workloop(self, *args: Any, **options: Any) -> Any:
        """Run jobs until it is told to end, or has run as many as one process may, or has taken too much memory.

        The main process may have given it one more in that moment, and taken for granted that it has begun.
        """
        try:
            return super().workloop(*args, **options)
        finally:
            if not self._is_at_work:
                self.board.leave()

    def _tell(self, message: tuple[int, Any]) -> None:
        if message[0] == ACK and self._is_expected:
            return  # it has said so to itself when it wrote the job
        self._write(message)
        if message[0] == READY:
            self._is_at_work = False

    def _write(self, message: tuple[int, Any]) -> None:
        body = pickle.dumps(message)
        answer = HEAD.pack(len(body)) + body
        if self._behind and message[0] == READY and self.board.keep(message[1][0], answer):
            self._has_kept = True
            return
        left = memoryview(self.board.answers() + answer if self._has_kept else answer)
        while left:
            left = left[os.write(self._told, left) :]
        if self._has_kept:
            self.board.forget()
            self._has_kept = False


class Pipe:
    """From which messages are read, with as few calls as it takes."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._read_before = b""

    def receive(self) -> tuple[int, Any]:
        """The next one, and its size. Raises EOFError, or OSError."""
        begun, self._read_before = self._read_before, b""
        while _missing(begun) > 0:
            more = os.read(self._fd, max(_missing(begun), AT_ONCE))
            if not more:
                raise EOFError
            begun += more
        ends = HEAD.size + HEAD.unpack_from(begun)[0]
        self._read_before = begun[ends:]
        return ends - HEAD.size, pickle.loads(memoryview(begun)[HEAD.size : ends])  # noqa: S301 - of our main process


class Processes(asynpool.AsynPool):
    """Celery's processes. What one had been given when it died goes to another one, unless it said that it had begun.

    But it may have begun and died before it could say so. A claim that was made for it is good for one body, so that
    such an attempt is lost; without one the next process asks the row, which refuses it. A process that has ended by
    itself says that it has begun no more than it has told the end of.
    """

    ResultHandler = Results
    Worker = Process
    sched_strategy: int  # these are Celery's, which the stubs lack
    outbound_buffer: deque[Any]
    _all_inqueues: set[int]
    _busy_workers: set[int]
    _active_writes: set[int]
    _active_writers: set[Any]
    _cache: dict[int, Any]
    _queues: dict[Any, Any]
    _pool: list[Any]
    _waiting_to_start: set[Any]
    _find_worker_queues: Callable[[Any], Any]
    _fileno_to_inq: dict[int, Any]
    _result_handler: Any
    _quick_put: Callable[[Any], None]
    on_timeout_cancel: Callable[[Any], None]

    def __init__(self, *args: Any, **options: Any) -> None:
        self.bundles = Bundles(self)
        super().__init__(*args, **options)

    def create_result_handler(self, **options: Any) -> Any:
        """Which frees the slot of a process with each of its jobs, unless it is told otherwise."""
        slots, self.slots = self._putlock, Slots(self._putlock)
        self._putlock: Any = self.slots
        try:
            return super().create_result_handler(**options)
        finally:
            self._putlock = slots

    def process_flush_queues(self, proc: Any) -> None:
        """A process has ended: read what it has told."""
        super().process_flush_queues(proc)
        self.bundles.died(proc)
        if getattr(proc, "has_had_bundles", False) and not proc.dead:
            self._renew_pipes(proc)

    def _renew_pipes(self, proc: Any) -> None:
        """Let the next process not have the pipes of one that has died, in which jobs may be left."""
        proc.dead = True  # as Celery has it when it has destroyed them
        self.destroy_queues(self._find_worker_queues(proc), proc)
        self._queues[self.create_process_queues()] = None

    def _worker_active(self, worker: Any) -> bool:
        """Whether a process has a job, or will have: it may have begun one, or started, and not have said so yet."""
        if worker in self._waiting_to_start:  # where SIGTERM still does what it does in the main process: it goes on
            return True
        is_given = any(job._write_to is worker for job in self._cache.values())  # noqa: SLF001 - Celery's own way to ask
        return is_given or self.bundles.is_with(worker) or super()._worker_active(worker)  # type: ignore[misc]  # as above

    def _iterinactive(self) -> Iterator[Any]:
        """The processes that may be ended for want of work; one that was told to end is not told again."""
        for worker in super()._iterinactive():  # type: ignore[misc]  # as above
            if not _is_to_end(worker):
                yield worker

    def shrink(self, n: int = 1) -> None:
        """End so many processes. Raises ValueError when fewer are idle, after it has told those."""
        try:
            super().shrink(n)
        finally:  # Celery gives them jobs until it sees that they have ended
            self._all_inqueues.difference_update(each.inqW_fd for each in self._pool if _is_to_end(each))

    def on_partial_read(self, job: Any, proc: Any) -> None:
        """A process has died of whom nobody knows whether it has begun a job."""
        request = state.requests.get(job.correlation_id)
        is_claimed = getattr(request, "attempt", None) is not None
        if not job._accepted and is_claimed and not proc.board.is_left:  # noqa: SLF001 - Celery's own way to ask
            job._accepted = True  # noqa: SLF001 - as above
            self.mark_as_worker_lost(job, proc.exitcode)
        super().on_partial_read(job, proc)

    def on_job_process_down(self, job: Any, pid_gone: Any) -> None:
        """A process has ended that was to run a job. One that it has not begun goes to another one."""
        process = job._write_to  # noqa: SLF001 - as above
        if job._accepted and process is not None and process.board.is_left:  # noqa: SLF001 - as above
            self.on_timeout_cancel(job)
            job._accepted, job._worker_pid = False, None  # noqa: SLF001 - as above
        super().on_job_process_down(job, pid_gone)
        if not job._accepted:  # noqa: SLF001 - as above
            job._write_to = None  # noqa: SLF001 - as above

    def on_job_process_lost(self, job: Any, pid: int, exitcode: int) -> None:
        """The same, when the process was taken to have begun it."""
        if job._accepted:  # noqa: SLF001 - as above
            super().on_job_process_lost(job, pid, exitcode)

    def _create_write_handlers(self, hub: Any, **options: Any) -> None:
        super()._create_write_handlers(hub, **options)  # type: ignore[misc]  # missing in the stubs
        if self.sched_strategy != FAIR:
            return
        put, write = self._quick_put, hub.consolidate_callback

        self.bundles.begin(hub)

        def put_together(task: Any) -> None:
            put(task)
            if self.bundles.is_open:
                self.bundles.add(self.outbound_buffer.pop())
                return
            job = self.outbound_buffer[-1]
            job.is_expected = _join(job) and _is_claimed(task)

        def on_poll_start() -> None:
            if self.outbound_buffer or self.bundles.waiting:
                idle = self._all_inqueues - self._busy_workers - self._active_writes
                self.bundles.write(idle)
                if idle and self.outbound_buffer:  # there is room in its pipe: nothing is in it
                    waiting = islice(self.outbound_buffer, len(idle))
                    next_ones = [job for job in waiting if job._write_to is None]  # noqa: SLF001 - Celery's
                    write(list(idle))
                    for job in next_ones:
                        self._expect(job)

        self._quick_put, self.on_poll_start = put_together, on_poll_start

    def _expect(self, job: Any) -> None:
        """A job that is claimed begins when its idle process has it: that needs no word of the process.

        If that dies before it has read it, nobody could tell, and the attempt is lost: see `on_partial_read`.
        """
        if job.is_expected and job._write_to is not None and not self._is_being_written(job):  # noqa: SLF001 - Celery's
            self.accept(job, job._write_to.pid)  # noqa: SLF001 - as above

    def on_job_ready(self, job: int, i: Any, obj: Any, inqW_fd: int) -> None:  # noqa: N803 - Celery's signature
        """A body has ended: of one that could not be written at once nobody has said that it has begun."""
        result, process = self._cache.get(job), self._fileno_to_inq.get(inqW_fd)
        if result is not None and not result._accepted:  # noqa: SLF001 - as above
            self.accept(result, process.pid if process is not None else None)
        self.slots.is_kept = self.bundles.ended(job, inqW_fd)
        if not self.slots.is_kept:
            super().on_job_ready(job, i, obj, inqW_fd)

    def accept(self, job: Any, pid: int | None) -> None:
        """A job has begun."""
        self._result_handler.on_state_change((ACK, (job._job, None, monotonic(), pid, None)))  # noqa: SLF001 - as above

    def _is_being_written(self, job: Any) -> bool:
        writer = job._writer()  # noqa: SLF001 - as above
        return writer is not None and writer in self._active_writers


def _is_to_end(worker: Any) -> bool:
    return bool(getattr(worker, "_controlled_termination", False))


def _is_claimed(task: Any) -> bool:
    """Whether the main process has claimed the attempt that a job is for; its arguments are those of a trace."""
    arguments = task[1][3]
    request = arguments[2] if len(arguments) > 2 else None  # noqa: PLR2004 - as above
    return isinstance(request, dict) and isinstance(request.get(current.CLAIMED), Grant)


def _join(job: Any) -> bool:
    """Let a small job be one write: after the first of two its process would wake up to wait for the second one."""
    head, body, size = job._payload  # noqa: SLF001 - what Celery has just set
    if not _is_one_write(size):
        return False
    job._payload = memoryview(bytes(head) + bytes(body)), NO_MORE, 0  # noqa: SLF001 - as above
    return True


def _is_one_write(size: int) -> bool:
    """Whether a pipe takes a message of this size as a whole, or not at all."""
    return HEAD.size + size <= PIPE_BUF


def _missing(begun: bytes) -> int:
    if len(begun) < HEAD.size:
        return HEAD.size - len(begun)
    return int(HEAD.size + HEAD.unpack_from(begun)[0] - len(begun))
