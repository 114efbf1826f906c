"""The worker's view of a task that it runs: what its process dies of must not be the end of other jobs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cached_property
from signal import SIGKILL, SIGUSR1
from typing import TYPE_CHECKING, Any

import structlog
from billiard.common import TERM_SIGNAME
from billiard.einfo import ExceptionInfo, ExceptionWithTraceback  # type: ignore[attr-defined]  # missing in the stubs
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery.exceptions import Ignore, Reject
from celery.platforms import signals
from celery.worker import state
from celery.worker.request import Request as CeleryRequest

from tasks.attempt.handing import Handed
from tasks.broker.messages import LOSSES_HEADER, fence_of
from tasks.platform import Platform
from tasks.worker import shutdown
from tasks.worker.losses import settle
from tracking import jobs
from tracking.models import Fence

if TYPE_CHECKING:
    from tasks.worker.lookahead import LookAhead
    from tracking.models import Attempt

log = structlog.get_logger(__name__)


class OutOfMemory(Exception):
    """The job ran out of memory."""


class Request(CeleryRequest):
    """Celery's request. Celery shuts a worker down when one of its jobs raises MemoryError.

    That is right for the process that ran out of memory; but the job's process said so in good order, and the worker's
    main process, which hears of it here, has its memory still.
    """

    lookahead: LookAhead | None = None
    attempt: Attempt | None = None  # that the main process has claimed for it
    expected = 0.0  # seconds of its body, when that was claimed ahead
    since = 0.0  # when it came, if it has to wait for another job that has taken workers down

    def __init_subclass__(cls, **options: Any) -> None:
        """Celery makes a class for each task, whose success is acknowledged at once: here it may have to be written."""
        super().__init_subclass__(**options)
        if "on_success" in vars(cls):
            cls.on_success = _after_commit(cls.on_success)  # type: ignore[method-assign]

    @cached_property
    def fence(self) -> Fence | None:
        """The dispatch that its message stands for."""
        return getattr(self.message, "fence", None) or fence_of(self.id, self.request_dict)

    def unfold(self) -> None:
        """Let the process of its body have what is decoded already, if that is nothing."""
        if getattr(self.message, "is_empty", False):
            self._body = self._payload  # type: ignore[attr-defined]  # missing in the stubs
            self._content_type = self._content_encoding = None

    @property
    def is_revoked(self) -> bool:
        """Whether its body was told to end."""
        return bool(self._already_revoked)  # type: ignore[attr-defined]  # as above

    def on_failure(self, exc_info: ExceptionInfo, *args: Any, **options: Any) -> None:
        """The job has failed, in its process or with it."""
        error = exc_info.exception
        if isinstance(_raised(exc_info), MemoryError):
            exc_info.exception = OutOfMemory(str(error) or "out of memory")  # the traceback stays
        if shutdown.is_begun() and isinstance(_raised(exc_info), WorkerLostError):
            options["return_ok"] = True  # it is no error that a process of a job that is handed back was ended
        try:
            super().on_failure(exc_info, *args, **options)
        finally:
            if self.lookahead is not None:
                self.lookahead.over()

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:  # noqa: ARG002, FBT001, FBT002 - Celery's signature
        """The worker stops at once: end the body, and let another worker run the job."""
        try:
            super().cancel(pool, SIGKILL, emit_retry)
        finally:  # whatever the handler's own on_retry does
            platform: Platform = self.task.app.platform  # type: ignore[attr-defined]  # typed as Celery's own
            fence, hostname = self.fence, self.hostname
            if fence is not None:
                platform.recorder.record(lambda: _hand_back(platform, fence, hostname))

    def on_timeout(self, soft: bool, timeout: float) -> None:  # noqa: FBT001 - Celery's signature
        """The job has used up its time. Celery calls hooks of the handler here before it tells anybody of the end."""
        if not soft:
            settle(self.task, self._context, TimeLimitExceeded(timeout))  # type: ignore[attr-defined]
        try:
            super().on_timeout(soft, timeout)
        except BaseException as error:  # noqa: BLE001 - a hook's; this is the process of all jobs
            log.error("hook.failed", job_type=self.task.name, error=type(error).__name__)  # noqa: TRY400 - no payloads in the log
            self.acknowledge()

    def revoked(self) -> bool:
        """Whether it has expired. Celery asks its memory of revoked ids, too; here the row decides, at the claim."""
        if self.is_revoked:
            return True
        if self.expires is None or datetime.now(self.expires.tzinfo) + self._difference <= self.expires:
            return False
        self._announce_revoked(  # type: ignore[attr-defined]  # missing in the stubs
            "expired", terminated=False, signum=None, expired=True
        )
        return True

    @property
    def _difference(self) -> timedelta:
        """To the database's clock, by which the row decides: a host whose clock is ahead would drop what may run."""
        difference: timedelta = self.task.app.clock_difference  # type: ignore[attr-defined]  # typed as Celery's own
        return difference

    def terminate(self, pool: Any, signal: Any = None) -> None:
        """Send a signal to the process that runs the job, because somebody has revoked it.

        Celery forgets the request here. The worker has it until the pool says that its body is over: then Celery
        forgets by the id whatever there is, also the request of the job's next dispatch.
        """
        if self.lookahead is not None and (self.lookahead.drop(self) or self._is_over()):
            return
        super().terminate(pool, signal)
        if self.is_revoked and self._is_with_pool():
            state.requests[self.id] = self
            state.active_requests.add(self)
        if signals.signum(signal or TERM_SIGNAME) == SIGUSR1 and self.worker_pid is not None:
            _expect_to_live(pool, self.worker_pid)

    def _is_over(self) -> bool:
        """Whether it was claimed here and its body has ended, of which its process has just told."""
        has_process = self.lookahead is not None and self.lookahead.bodies.have_processes
        return has_process and self.attempt is not None and not self._is_with_pool()

    @property
    def may_be_bundled(self) -> bool:
        """Whether its type asks for that, and nothing about the job speaks against it: it has its process to itself."""
        has_own_time = self.expires is not None or any(self.time_limits)
        return self.task.bundle and not has_own_time and not self.request_dict.get(LOSSES_HEADER)  # type: ignore[attr-defined]  # typed as Celery's own

    @property
    def priority(self) -> int:
        """As its message says; 0 when it says none."""
        level = (self.delivery_info or {}).get("priority")
        return level if type(level) is int else 0

    def _is_with_pool(self) -> bool:
        result = self._apply_result() if self._apply_result is not None else None  # type: ignore[attr-defined]  # missing in the stubs
        return result is not None and not result.ready()


def _after_commit(succeed: Callable[..., Any]) -> Callable[..., Any]:
    """Celery's `on_success`, called when the row has what the body handed over (tasks/attempt/handing.py)."""

    def on_success(self: Request, told: Any, **options: Any) -> Any:
        failed, said, runtime = told
        if self.lookahead is not None:
            if isinstance(said, Handed):
                done = (failed, said.said, runtime)
                return self.lookahead.ended(self, said.told, runtime, lambda: succeed(self, done, **options))
            if not failed:
                self.lookahead.took(self, runtime)
            elif not isinstance(_raised(said), Ignore | Reject):
                self.lookahead.failed(self)
        try:
            return succeed(self, told, **options)
        finally:
            if self.lookahead is not None:
                self.lookahead.over()

    return on_success


def _raised(said: ExceptionInfo) -> Any:
    error = said.exception
    return error.exc if isinstance(error, ExceptionWithTraceback) else error


def _hand_back(platform: Platform, fence: Fence, hostname: str) -> None:
    with platform.database.autocommit() as connection:
        jobs.settle(connection, [shutdown.released(fence, hostname)])


def _expect_to_live(pool: Any, pid: Any) -> None:
    """Billiard takes every signal for the end of the process, and the next job that this one dies with for revoked."""
    process, _ = pool._pool._process_by_pid(pid)  # noqa: SLF001 - where terminate_job has found it
    if process is not None:
        process._controlled_termination = process._job_terminated = False  # noqa: SLF001 - what terminate_job has set
