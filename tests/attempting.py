"""Attempts in the process of the test: what a process of a worker does with a message, without broker or worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from pydantic import SecretStr

from tasks.app import JobApp
from tasks.attempt.tracing import tracer
from tests.doubles import OwnPlatform
from tests.tasks.conftest import own_app
from tracking import acting_as
from tracking.db import Database
from tracking.models import JobRecord, Scope
from tracking.reads import lists
from tracking.settings import settings


@contextmanager
def app_on(database: Database, **changed: Any) -> Iterator[JobApp]:
    """An app without tasks, with a connection of its own to this database; nothing goes to a broker."""
    with own_app("attempting") as app:
        url = SecretStr(database.engine.url.render_as_string(hide_password=False))
        app.platform = OwnPlatform(app, settings().model_copy(update={"database_url": url, **changed}))
        yield app
        app.platform.close(0)


def submitted(app: JobApp, name: str, **kwargs: Any) -> JobRecord:
    """The row of a job that somebody has submitted."""
    with acting_as("acme", "u1"):
        result = app.tasks[name].apply_async(kwargs=kwargs)
    return row(app, UUID(result.id))


def row(app: JobApp, job_id: UUID) -> JobRecord:
    """The row as it is now."""
    with app.platform.database.autocommit() as connection:
        return lists.get(connection, job_id, Scope("acme", None))


def attempt(app: JobApp, job: JobRecord) -> JobRecord:
    """Run a job once; returns its row."""
    headers = {"dispatch": job.dispatch}
    request = {"id": str(job.id), "task": job.job_type, "hostname": "here", "headers": headers}
    tracer(app.tasks[job.job_type])(str(job.id), [], {}, request)
    return row(app, job.id)
