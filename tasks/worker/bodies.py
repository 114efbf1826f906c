"""The bodies that a worker's pool runs now: Celery counts only those that have processes, and frees slots of theirs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from celery.concurrency import prefork, solo, thread
from celery.concurrency.asynpool import (  # type: ignore[attr-defined]  # missing in the stubs
    _get_job_writer,
    gen_not_started,
)
from celery.worker import state

from tasks.broker.turns import next_turn
from tasks.worker.bundles import Bundles
from tasks.worker.processes import Processes
from tracking.models import Attempt

POOLS = (prefork.TaskPool, thread.TaskPool, solo.TaskPool)


class Bodies:
    """Those of one worker. `ended` is called in its event loop after each body that has no process of its own."""

    def __init__(self, worker: Any, ended: Callable[[], None]) -> None:
        self._worker = worker
        self._ended = ended
        self._running = 0
        self.have_processes = isinstance(worker.pool, prefork.TaskPool)
        if self.have_processes:
            worker.pool.Pool = Processes
        else:
            self._apply = worker.pool.on_apply
            worker.pool.on_apply = self._watched

    @property
    def running(self) -> int:
        """How many there are, those included that are on their way to a process."""
        if self.have_processes:
            return len(self._worker.pool._pool._cache)  # noqa: SLF001 - billiard has no other way to ask
        return self._running

    @property
    def may_be_bundled(self) -> bool:
        """Whether the pool takes several at once."""
        return self.have_processes and self._bundles.are_possible

    def together(
        self, requests: Sequence[Any], returned: Callable[[Sequence[Any]], None]
    ) -> AbstractContextManager[None]:
        """They begin within, in one slot; `returned` hears of those that have not begun after all.

        That is in the event loop, and the pool has forgotten them.
        """
        if len(requests) == 1:
            return nullcontext()
        known = {request.id: request for request in requests}
        return self._bundles.together(lambda jobs: returned([known[job.correlation_id] for job in jobs]))

    def break_up(self, job_id: str | None = None) -> None:
        """Have returned what stands behind another job in its process; None: everywhere, else where the one is."""
        if self.have_processes and self._worker.pool._pool is not None:  # noqa: SLF001 - it stops before it has begun
            self._bundles.break_up(job_id)

    @property
    def _bundles(self) -> Bundles:
        bundles: Bundles = self._worker.pool._pool.bundles  # noqa: SLF001 - billiard has no other way to ask
        return bundles

    def take_back(self) -> tuple[list[tuple[Any, Attempt]], list[Any]]:
        """Before Celery has the pool forget what no process has confirmed: the broker would send it again.

        It would not run again, as its row says that it runs, or is about to: the process may claim it, and what it then
        hands over would be nobody's. So what is with a process stays, and what is claimed and on its way to none is
        taken back: these two.
        """
        if not self.have_processes:
            return [], []
        self.break_up()
        pool = self._worker.pool._pool  # noqa: SLF001 - Celery has no other way to ask
        taken_back, staying = [], []
        for result in tuple(pool._cache.values()):  # noqa: SLF001 - as above
            request = state.requests.get(result.correlation_id)
            if request is None or request.fence is None:
                continue
            writer = _get_job_writer(result)
            if result not in pool.outbound_buffer and (writer is None or not gen_not_started(writer)):
                result._accepted = True  # noqa: SLF001 - what its process is about to confirm
                staying.append(request)
            elif request.attempt is not None:
                taken_back.append((request, request.attempt))
        return taken_back, staying

    def _watched(self, *args: Any, **options: Any) -> Any:
        """What the pool does, with a word at the body's end, however it ends: here and now, or in a thread."""
        self._running += 1
        future = None
        try:
            result = self._apply(*args, **options)
            future = getattr(result, "f", None)  # a thread has it
        finally:
            if future is None:
                next_turn(self._worker.hub, self._end)
        if future is not None:
            future.add_done_callback(lambda _: self._worker.hub.call_soon(self._end))
        return result

    def _end(self) -> None:
        self._running -= 1
        self._worker.semaphore.release()
        self._ended()
