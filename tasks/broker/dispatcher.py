"""From accepted rows to the broker: messages go out after the commit, in a thread, off the caller's path."""

from __future__ import annotations

import atexit
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog

from tasks import threads
from tasks.broker.marks import LateMarks
from tasks.broker.messages import celery_id
from tasks.broker.publisher import Publisher
from tasks.failures import failures
from tracking.db import SQLAlchemyError

if TYPE_CHECKING:
    from tasks.platform import Platform
    from tracking.models import JobRecord

log = structlog.get_logger(__name__)

QUEUE_SIZE = 10_000
BATCH_SIZE = 200
SHORTEST_WAIT = 0.2  # seconds between two tries to write marks
LONGEST_PAUSE = 5.0  # seconds between two tries to reach a broker that is away
EXIT_TIMEOUT = 5.0  # seconds that a process gives its last messages when it ends


class Dispatcher:
    """A thread that sends what this process submits. What it cannot send waits in its row for upkeep.

    When the process ends, it has EXIT_TIMEOUT to send the last of it.
    """

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._marks = LateMarks(platform)
        self._publisher = Publisher(platform, self._marks)
        self._queue: queue.Queue[JobRecord | Callable[[Publisher], None]] = queue.Queue(QUEUE_SIZE)
        self._closing = threading.Event()
        self._to_refill: set[str] = set()  # organizations at whose lines somebody waits to look
        self._pause = 0.0
        self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)
        with threads.apart():
            self._thread.start()
        self._process = os.getpid()
        atexit.register(self._close_at_exit)

    def send(self, record: JobRecord) -> None:
        """Send a job that is not held. Never waits: with a full queue the row is sent by upkeep instead."""
        if record.hold is None:
            self._put(record)

    def send_all(self, records: Sequence[JobRecord]) -> None:
        """Send those that are not held, as far as there is room for them, and say once how many upkeep will send."""
        waiting = [record for record in records if record.hold is None]
        for place, record in enumerate(waiting):
            try:
                self._queue.put_nowait(record)
            except queue.Full:
                log.warning("dispatch.queue_full", size=QUEUE_SIZE, left=len(waiting) - place)
                return

    def follow(self, job_id: UUID, organization_id: str) -> None:
        """Send what may run now that something has happened to this job: a slot is free, a dependency has ended."""
        self._put(lambda publisher: publisher.publish(self._followers(job_id, organization_id)))

    def refill(self, organization_id: str) -> None:
        """Send what may be sent now that a job of this organization has started, or has left its slot."""
        if organization_id not in self._to_refill:  # else that look is still to come, and finds this slot as well
            self._to_refill.add(organization_id)
            self._put(lambda publisher: self._refill(publisher, organization_id))

    def resume(self, *organizations: str) -> None:
        """Send what may run now that a pause is over, or that these organizations have another limit."""
        self._put(lambda publisher: publisher.publish(self._platform.admission.resumed(organizations)))

    def interrupt(self, record: JobRecord) -> None:
        """Tell the worker of a cancelled job to interrupt its body: SIGUSR1 raises SoftTimeLimitExceeded in it."""
        named = {"task_id": celery_id(record), "dispatch": record.dispatch}
        self.broadcast("interrupt", named, [record.worker] if record.worker else None)

    def broadcast(self, command: str, arguments: dict[str, Any], destination: Sequence[str] | None = None) -> None:
        """Tell workers something, None: all. They find it out by themselves when the broker is away."""
        self._put(lambda publisher: publisher.broadcast(command, arguments, destination))

    @property
    def backlog(self) -> int:
        """How many jobs and looks wait to be handled."""
        return self._queue.qsize()

    def flush(self, timeout: float) -> bool:
        """Wait until everything handed over so far was tried; False when that took longer than `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while self._queue.unfinished_tasks:
            if time.monotonic() >= deadline or not self._thread.is_alive():
                return False
            time.sleep(0.005)
        return True

    def close(self, timeout: float = EXIT_TIMEOUT) -> None:
        """Send what is left, then end the thread; gives up after `timeout` seconds."""
        self.flush(timeout)
        self._closing.set()
        self._put(lambda _: None)  # so that it looks
        self._thread.join(timeout)
        atexit.unregister(self._close_at_exit)

    def _close_at_exit(self) -> None:
        if os.getpid() == self._process:  # a forked child has no such thread
            self.close()

    def _refill(self, publisher: Publisher, organization_id: str) -> None:
        self._to_refill.discard(organization_id)
        publisher.publish(self._platform.admission.refilled(organization_id))

    def _followers(self, job_id: UUID, organization_id: str) -> list[JobRecord]:
        return [*self._platform.app.ended_with(job_id), *self._platform.admission.after(job_id, organization_id)]

    def _put(self, item: JobRecord | Callable[[Publisher], None]) -> None:
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            self._to_refill.clear()
            log.warning("dispatch.queue_full", size=QUEUE_SIZE)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._mark()
            left = self._marks.due_in
            try:
                first = self._queue.get(timeout=None if left is None else max(SHORTEST_WAIT, left))
            except queue.Empty:
                continue
            batch = [first, *self._more()]
            self._handle(batch)
            for _ in batch:
                self._queue.task_done()
        self._mark(all_of_them=True)
        self._publisher.close()

    def _mark(self, *, all_of_them: bool = False) -> None:
        try:
            self._marks.write(all_of_them=all_of_them)
        except SQLAlchemyError as error:  # they are written later, or the rows are found by upkeep
            failures.note("dispatch.unmarked", error)
        else:
            failures.clear("dispatch.unmarked")

    def _more(self) -> Iterable[JobRecord | Callable[[Publisher], None]]:
        for _ in range(BATCH_SIZE - 1):
            try:
                yield self._queue.get_nowait()
            except queue.Empty:
                return

    def _handle(self, batch: list[JobRecord | Callable[[Publisher], None]]) -> None:
        records = [item for item in batch if not callable(item)]
        try:
            if records:
                self._publisher.publish(records)
            for command in batch:
                if callable(command):
                    command(self._publisher)
            self._pause = 0.0
        except Exception as error:  # noqa: BLE001 - whatever the broker's client raises: the rows are safe, upkeep sends them
            self._to_refill.clear()  # what came after it in the batch is upkeep's as well
            self._pause = min(LONGEST_PAUSE, max(0.1, 2 * self._pause))
            log.warning(
                "dispatch.failed",
                jobs=[str(record.id) for record in records[:10]],
                count=len(records),
                error=type(error).__name__,
                retry_in=self._pause,
            )
            self._mark(all_of_them=True)  # not after the pause
            self._closing.wait(self._pause)
