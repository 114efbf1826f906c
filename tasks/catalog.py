"""The job types that an app knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from tasks.attempt.job import Job
from tracking.errors import UnknownJobType

if TYPE_CHECKING:
    from tasks.app import JobApp


def handlers(app: JobApp) -> Mapping[str, Job]:
    """The handlers that are offered to people, by job type."""
    known = ((name, task) for name, task in sorted(app.tasks.items()) if not name.startswith("celery."))
    return {name: cast("Job", task) for name, task in known if getattr(task, "is_offered", False)}


def handler(app: JobApp, job_type: str) -> Job:
    """The handler of a job type. Raises UnknownJobType."""
    task = app.tasks.get(job_type)
    if task is None or job_type.startswith("celery."):
        raise UnknownJobType(f"no handler is registered for {job_type!r}")
    return cast("Job", task)


def offered(app: JobApp, job_type: str) -> Job:
    """The handler of a job type that people may create. Raises UnknownJobType."""
    task = app.tasks.get(job_type)
    if not getattr(task, "is_offered", False):
        raise UnknownJobType(f"no handler is registered for {job_type!r}, or it is not offered here")
    return cast("Job", task)
