"""Handlers called as plain functions, on a database and directories of one test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import UUID, uuid4

from pydantic import BaseModel

from tasks import app
from tasks.exports.reporting import catalogue
from tasks.platform import Platform
from tests.tracked import accepted
from tracking import acting_as, jobs
from tracking.admission.rule import UNLIMITED
from tracking.db import Database
from tracking.models import Claim, Failure, Fence, NewJob, Outcome, Owner
from tracking.settings import settings


@contextmanager
def workplace(database_url: str, directory: Path, **environment: str) -> Iterator[Path]:
    """The settings of this process and its app, for a while: another database, and directories below `directory`."""
    own = {"DATABASE_URL": database_url, "CELERIAC_DATA_DIR": str(directory / "data"), **environment}
    with patch.dict(os.environ, own):
        _forget_settings()
        before, app.platform = app.platform, Platform(app, settings())
        try:
            yield app.platform.settings.exports
        finally:
            app.platform.close(timeout=5)
            app.platform = before
    _forget_settings()


def add_job(
    pool: Database,
    organization: str,
    *,
    job_type: str = "export_report",
    job_id: UUID | None = None,
    message: str | None = None,
    outcome: str | None = "succeeded",
) -> UUID:
    """Accept a job, and unless `outcome` is None let an attempt end with it. Returns its id."""
    job = NewJob(
        id=job_id or uuid4(), owner=Owner(organization, "u1"), job_type=job_type, queue="default", message=message
    )
    with pool.autocommit() as connection:
        jobs.submit(connection, job, UNLIMITED)
        if outcome is not None:
            jobs.claim(connection, [Claim(Fence(job.id, 1), uuid4(), "worker-1", None)])
            failure = Failure("ValueError", message or "wrong") if outcome == "failed" else None
            ended = accepted(connection, [Outcome(Fence(job.id, 1), outcome, "worker-1", failure=failure)])  # type: ignore[arg-type]
            assert len(ended) == 1
    return job.id


def _forget_settings() -> None:
    settings.cache_clear()
    catalogue.cache_clear()


def peak_memory() -> int:
    """The most memory that this process has had, in bytes; `getrusage` would include that of whoever started it."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def call(handler: Any, payload: BaseModel, organization: str = "acme") -> dict[str, Any]:
    """The result of a handler, called as a plain function."""
    with acting_as(organization, "u1"):
        return handler(payload)  # type: ignore[no-any-return]
