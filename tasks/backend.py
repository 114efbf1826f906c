"""Celery's result backend, read from the rows: `AsyncResult(job_id).status` and `.get()` tell what the row says."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from celery import states
from celery.backends.base import Backend, SyncBackendMixin

from tracking import groups, queries
from tracking.db import database
from tracking.models import JobRecord
from tracking.states import Status

STATES = {
    Status.QUEUED: states.PENDING,
    Status.RUNNING: states.STARTED,
    Status.RETRYING: states.RETRY,
    Status.SUCCEEDED: states.SUCCESS,
    Status.FAILED: states.FAILURE,
    Status.CANCELLED: states.REVOKED,
}


class RowBackend(Backend, SyncBackendMixin):
    """Reads `jobs`. It stores nothing: outcomes are written by the signals, with their fence and their history."""

    persistent = True
    supports_autoexpire = True  # retention is the platform's, not Celery's

    def call_errbacks(self, request: Any, error: Exception, traceback: str | None) -> None:
        """Run or send the errbacks (`link_error`) of a task, as Celery would."""
        self._call_task_errbacks(request, error, traceback)  # type: ignore[attr-defined]  # missing in the stubs

    def apply_chord(self, header_result_args: Any, body: Any, **options: Any) -> None:
        """Nothing: the member that completes the group submits the body together with its own outcome."""

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        """Keep how many members must succeed before the body runs."""
        with database().autocommit() as connection:
            groups.set_size(connection, group_id, chord_size)

    def store_result(self, task_id: str, result: Any, state: str, *_: Any, **_options: Any) -> Any:  # noqa: ARG002
        """Nothing: see the class."""
        return result

    def mark_as_done(self, *args: Any, **options: Any) -> None:
        """Nothing: see the class."""

    def mark_as_failure(self, *args: Any, **options: Any) -> None:
        """Nothing: see the class."""

    def mark_as_revoked(self, *args: Any, **options: Any) -> None:
        """Nothing: see the class."""

    def on_chord_part_return(self, *args: Any, **options: Any) -> None:
        """Nothing: see apply_chord."""

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        with database().autocommit() as connection:
            job = queries.find(connection, UUID(str(task_id)))
        if job is None:  # not submitted yet, as far as Celery's states can say
            return self.meta_from_decoded({"status": states.PENDING, "result": None})
        return self.meta_from_decoded(_meta(job))

    def _forget(self, task_id: str) -> None:
        raise NotImplementedError("a job's row is kept as long as its retention says")


def _meta(job: JobRecord) -> dict[str, Any]:
    return {
        "task_id": str(job.id),
        "status": STATES[job.status],
        "result": _result(job),
        "traceback": None,
        "children": [],
        "date_done": job.completed_at.isoformat() if job.completed_at else None,
        "name": job.job_type,
        "worker": job.worker,
        "retries": job.retry_count,
        "queue": job.queue,
    }


def _result(job: JobRecord) -> Any:
    if job.status is Status.CANCELLED:
        return {"exc_type": "TaskRevokedError", "exc_message": ["cancelled"], "exc_module": "celery.exceptions"}
    if job.status in (Status.FAILED, Status.RETRYING):
        return {
            "exc_type": job.error_type or "Exception",
            "exc_message": [job.error_message or ""],
            "exc_module": "builtins",
        }
    return job.result
