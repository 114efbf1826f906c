"""The job types that an app knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from tasks import external as elsewhere
from tasks.attempt.job import Job
from tasks.external import External
from tasks.platform import Platform
from tracking.errors import UnknownJobType
from tracking.models import JobRecord

if TYPE_CHECKING:
    from tasks.app import JobApp


def handlers(app: JobApp) -> Mapping[str, Job]:
    """The handlers that are offered to people, by job type."""
    known = ((name, task) for name, task in sorted(app.tasks.items()) if not name.startswith("celery."))
    return {name: cast("Job", task) for name, task in known if getattr(task, "is_offered", False)}


def takers(platform: Platform) -> Mapping[str, Job | External]:
    """Who takes the jobs of each type that people may create: its handler, or somebody elsewhere."""
    known: list[Job | External] = [*handlers(platform.app).values(), *elsewhere.types(platform)]
    return {each.name: each for each in sorted(known, key=lambda each: each.name)}


def handler(app: JobApp, job_type: str) -> Job:
    """The handler of a job type. Raises UnknownJobType."""
    task = app.tasks.get(job_type)
    if task is None or job_type.startswith("celery."):
        raise UnknownJobType(f"no handler is registered for {job_type!r}")
    return cast("Job", task)


def offered(platform: Platform, job_type: str) -> Job | External:
    """Who takes the jobs of a type that people may create. Raises UnknownJobType."""
    task = platform.app.tasks.get(job_type)
    if getattr(task, "is_offered", False):
        return cast("Job", task)
    found = elsewhere.type_of(platform, job_type) if task is None else None
    if found is None:
        raise UnknownJobType(f"no handler is registered for {job_type!r}, or it is not offered here")
    return found


def taker(platform: Platform, job_type: str) -> Job | External:
    """Who takes the jobs of a type, also one that only code creates. Raises UnknownJobType."""
    found = elsewhere.type_of(platform, job_type) if job_type not in platform.app.tasks else None
    return found or handler(platform.app, job_type)


def permission_for(platform: Platform, job: JobRecord) -> str | None:
    """What a caller needs for a job besides the verb's own permission. Raises UnknownJobType."""
    if not job.external:
        return permission_of(platform, job.job_type, None)
    known = elsewhere.type_of(platform, job.job_type)
    return permission_of(platform, job.job_type, {} if known is None else {known.name: known.permission})


def permission_of(platform: Platform, job_type: str, outside: Mapping[str, str | None] | None) -> str | None:
    """The same for jobs of a type; `outside`: what types without a handler ask for, None: these have a handler."""
    if outside is not None and job_type not in platform.app.tasks:
        return outside.get(job_type)
    return handler(platform.app, job_type).permission


def outside_permissions(platform: Platform) -> dict[str, str | None]:
    """What the types ask for whose work is done elsewhere and that no handler has."""
    return {each.name: each.permission for each in elsewhere.types(platform)}
