"""What the log says of messages that are not run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from tasks.app import JobApp
from tests.attempting import app_on, attempt, submitted
from tracking.db import Database
from tracking.errors import JobNotFound
from tracking.models import JobRecord
from tracking.states import Status


@pytest.fixture
def app(database: Database) -> Iterator[JobApp]:
    """An app with a task."""
    with app_on(database) as app:

        @app.task(name="fit")
        def fit() -> None: ...

        yield app


def refusals(app: JobApp, job: JobRecord) -> list[dict[str, Any]]:
    """What is logged of a refusal when a message for the job comes."""
    with capture_logs() as logged, suppress(JobNotFound):
        attempt(app, job)
    return [dict(line) for line in logged if line["event"] == "claim.refused"]


def test_a_late_message_is_no_warning(app: JobApp) -> None:
    """A message that is refused since its job has moved on is routine: brokers repeat them, and so does admission."""
    job = submitted(app, "fit")
    assert attempt(app, job).status is Status.SUCCEEDED
    assert [(line["reason"], line["log_level"]) for line in refusals(app, job)] == [("finished", "info")]
    other = job._replace(dispatch=job.dispatch + 1)
    assert [(line["reason"], line["log_level"]) for line in refusals(app, other)] == [("stale", "info")]


def test_a_message_of_nobody_is_a_warning(app: JobApp) -> None:
    """A message that no accepted job explains is a warning."""
    stranger = submitted(app, "fit")._replace(id=uuid4())
    assert [(line["reason"], line["log_level"]) for line in refusals(app, stranger)] == [("unknown", "warning")]
