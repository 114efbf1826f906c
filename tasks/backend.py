"""Celery's result backend, read from the rows: `AsyncResult(job_id).status` and `.get()` tell what the row says."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from celery import current_task, states
from celery.backends.base import Backend, SyncBackendMixin
from celery.canvas import _regen  # type: ignore[attr-defined]  # missing in the stubs
from celery.exceptions import TimeoutError as ResultTimeout
from celery.result import GroupResult, result_from_tuple

from tasks import current, submission
from tasks.attempt import ending
from tasks.broker.messages import celery_id
from tasks.encoding import from_plain
from tasks.platform import Platform
from tracking import groups
from tracking.identifiers import job_id_of
from tracking.models import UNCALLED, JobRecord
from tracking.reads import lists, waiting
from tracking.states import FINISHED, Status

if TYPE_CHECKING:
    from tasks.app import JobApp

STATES = {
    Status.QUEUED: states.PENDING,
    Status.RUNNING: states.STARTED,
    Status.RETRYING: states.RETRY,
    Status.SUCCEEDED: states.SUCCESS,
    Status.FAILED: states.FAILURE,
    Status.CANCELLED: states.REVOKED,
}

MANY_AGAIN = 0.2  # seconds after which whoever waits for the first of many looks at the others
LAST_RESORT = 2.0  # seconds after which whoever waits looks by themselves, at what has become of the parents, too


class RowBackend(Backend, SyncBackendMixin):
    """Reads `jobs`. It stores nothing but successes: an outcome is written with its fence and its history."""

    persistent = True
    supports_autoexpire = True  # retention is the platform's, not Celery's

    def call_errbacks(self, request: Any, error: Exception, traceback: str | None) -> None:
        """Run or send the errbacks (`link_error`) of a task, as Celery would."""
        self._call_task_errbacks(request, error, traceback)  # type: ignore[attr-defined]  # missing in the stubs

    def apply_chord(self, header_result_args: Any, body: Any, **options: Any) -> None:  # noqa: ARG002 - Celery's
        """Keep the shape of a header with groups in it. The row of the body comes with the first member's."""
        group_id, results = header_result_args
        if not isinstance(results, _regen) and any(isinstance(result, GroupResult) for result in results):
            GroupResult(group_id, results).save(backend=self)
        submission.expect_body(group_id, body)

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        """Keep how many members must succeed before the body runs."""
        with self._platform.database.autocommit() as connection:
            groups.set_size(connection, group_id, chord_size)

    def add_to_chord(self, chord_id: str, result: Any) -> None:  # noqa: ARG002 - Celery's
        """Let the body wait for one more member, from its submit on."""
        now = current.of(current_task.request)
        if now is not None:
            now.joining.update(member.id for member in getattr(result, "results", None) or [result])

    def store_result(self, task_id: str, result: Any, state: str, *_: Any, **_options: Any) -> Any:  # noqa: ARG002
        """Nothing: see the class."""
        return result

    def mark_as_done(
        self,
        task_id: str,  # noqa: ARG002 - Celery's signature
        result: Any,
        request: Any = None,
        store_result: bool = True,  # noqa: FBT001, FBT002 - as above
        state: str = states.SUCCESS,  # noqa: ARG002 - as above
    ) -> None:
        """Settle the attempt: Celery calls this before the hooks of the task. Raises UnkeepableResult."""
        ending.succeed(self._platform, request, result, is_kept=store_result)

    def mark_as_failure(self, *args: Any, **options: Any) -> None:
        """Nothing: see the class."""

    def mark_as_revoked(self, *args: Any, **options: Any) -> None:
        """Nothing: see the class."""

    def on_chord_part_return(self, *args: Any, **options: Any) -> None:
        """Nothing: see apply_chord."""

    def wait_for(
        self,
        task_id: str,
        timeout: float | None = None,
        interval: float = 0.5,  # noqa: ARG002 - Celery's signature
        no_ack: bool = True,  # noqa: ARG002, FBT001, FBT002 - Celery's signature
        on_interval: Callable[[], None] | None = None,
    ) -> dict[str, Any]:
        """The state of a finished job, as soon as it has ended. Raises TimeoutError.

        One thread looks for all who wait in this process; `interval` is not looked at.
        """
        self._ensure_not_eager()  # type: ignore[attr-defined]  # missing in the stubs
        deadline = time.monotonic() + timeout if timeout else None
        job_id = job_id_of(str(task_id))
        while True:
            meta = self.get_task_meta(task_id)
            if on_interval and meta["status"] != states.SUCCESS:
                on_interval()  # raises what a parent has failed of, rather than what that made of this one
            if meta["status"] in states.READY_STATES:
                return meta
            remaining = LAST_RESORT if deadline is None else deadline - time.monotonic()
            if remaining <= 0:
                raise ResultTimeout("The operation timed out.")
            self._platform.waiting.wait(job_id, min(remaining, LAST_RESORT))

    def get_many(
        self,
        task_ids: Iterable[str],
        timeout: float | None = None,
        on_message: Callable[[dict[str, Any]], None] | None = None,
        on_interval: Callable[[], None] | None = None,
        **_: Any,
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """The states of finished jobs, each as soon as it has ended, for `iter_native` and `join_native`.

        `timeout`: seconds for all of them together; None: as long as it takes. Raises TimeoutError when it is over.
        """
        waiting_for = set(task_ids)
        deadline = time.monotonic() + timeout if timeout else None
        while waiting_for:
            ended = [(each, meta) for each in sorted(waiting_for) if (meta := self._ended(each)) is not None]
            waiting_for.difference_update(each for each, _ in ended)
            for each, meta in ended:
                if on_message is not None:
                    on_message(meta)
                yield each, meta
            if not ended:
                if deadline is not None and time.monotonic() >= deadline:
                    raise ResultTimeout("The operation timed out.")
                if on_interval is not None:
                    on_interval()
                self._platform.waiting.wait(job_id_of(min(waiting_for)), MANY_AGAIN)

    def _ended(self, task_id: str) -> dict[str, Any] | None:
        meta = self.get_task_meta(task_id)
        return meta if meta["status"] in states.READY_STATES else None

    @property
    def _platform(self) -> Platform:
        app: JobApp = self.app  # type: ignore[attr-defined]  # missing in the stubs
        return app.platform

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        job_id = job_id_of(str(task_id))
        with self._platform.database.autocommit() as connection:
            job = lists.find(connection, job_id)
            ended = job is not None and (job.status in FINISHED or job.status is Status.RETRYING)
            end = lists.last_move(connection, job_id, job.status) if job is not None and ended else None
            errbacks = waiting.errbacks(connection, job) if job is not None and _is_uncalled_body(job) else []
        detail = end.detail if end else {}
        if errbacks:
            detail = {**detail, "children": self._sent_as_groups(errbacks)}
        return self.meta_from_decoded(_meta(job, detail)) if job is not None else _unknown()

    def _sent_as_groups(self, members: list[JobRecord]) -> list[Any]:
        """Jobs as the results of the groups in which Celery has sent them, in the form in which it keeps results."""
        sent: dict[str, list[Any]] = {}
        for member in members:
            sent.setdefault(str(member.group_id), []).append(self._platform.app.AsyncResult(celery_id(member)))
        return [GroupResult(group_id, results).as_tuple() for group_id, results in sent.items()]

    def _save_group(self, group_id: str, result: Any) -> Any:
        with self._platform.database.autocommit() as connection:
            groups.save(connection, group_id, result.as_tuple())
        return result

    def _restore_group(self, group_id: str) -> dict[str, Any] | None:
        with self._platform.database.autocommit() as connection:
            saved = groups.restore(connection, group_id)
        if saved is None:
            return None
        return {"result": result_from_tuple(saved, self.app)}  # type: ignore[attr-defined]  # `app` is missing in the stubs

    def _delete_group(self, group_id: str) -> None:
        with self._platform.database.autocommit() as connection:
            groups.forget(connection, group_id)

    def _forget(self, task_id: str) -> None:
        raise NotImplementedError("a job's row is kept as long as its retention says")


def _unknown() -> dict[str, Any]:
    return {"status": states.PENDING, "result": None, "children": [], "traceback": None}


def _meta(job: JobRecord, end: dict[str, Any]) -> dict[str, Any]:
    """A job in Celery's words; `end`: what the history says of how it came to its status."""
    return {
        "task_id": celery_id(job),
        "status": STATES[job.status],
        "result": _result(job, end),
        "traceback": end.get("traceback"),
        "children": list(end.get("children") or ()),
        "date_done": job.completed_at.isoformat() if job.completed_at else None,
        "name": job.job_type,
        "worker": job.worker,
        "retries": job.retry_count,
        "queue": job.queue,
        "group_id": job.group_id,
        "parent_id": str(job.parent_id) if job.parent_id else None,
    }


def _is_uncalled_body(job: JobRecord) -> bool:
    """Whether it is the body of a chord whose header has failed, with errbacks that were called then."""
    return bool(job.error_type == UNCALLED and job.follows_group and job.delivery.get("link_error"))


def _result(job: JobRecord, end: dict[str, Any]) -> Any:
    if job.status is Status.CANCELLED:
        reason = job.error_message or end.get("reason") or "cancelled"
        return {"exc_type": "TaskRevokedError", "exc_message": [reason], "exc_module": "celery.exceptions"}
    if job.status in (Status.FAILED, Status.RETRYING):
        return end.get("exception") or _exception(job)
    if job.status is Status.RUNNING:
        return _progress(job)
    return job.result if job.typed_result is None else from_plain(job.typed_result)


def _exception(job: JobRecord) -> dict[str, Any]:
    """Of a job whose worker could not say more than a name and a message."""
    return {
        "exc_type": job.error_type or "Exception",
        "exc_message": [job.error_message or ""],
        "exc_module": "builtins",
    }


def _progress(job: JobRecord) -> Any:
    """What the body said last: its own detail (`update_state(meta=...)`), or how far it is."""
    if job.progress_detail is not None:
        return job.progress_detail
    return {"current": job.progress, "total": 100, "message": job.message}
