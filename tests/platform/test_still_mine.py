"""A handler asks, before an effect that must not happen twice, whether its attempt is still the job's."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from tasks import app, current
from tasks.attempt import job
from tasks.persistence import DatabaseAway
from tasks.progress import Reporter
from tests.handling import workplace
from tests.live import LivePlatform, eventually
from tests.platform.test_cancel import cancel_row
from tests.tracked import reap
from tracking.models import Attempt, Fence, Owner

ATTEMPT = Attempt(Fence(uuid4(), 1), 1, Owner("acme", "u1"), None, "doubting", 0, 3, None, None)


def test_a_cancelled_attempt_is_not_the_jobs_any_more(running: LivePlatform, tmp_path: Path) -> None:
    """`still_mine` is false after a cancel, from the row alone."""
    job_id = running.submit("doubting", str(witness := tmp_path / "answers"))
    running.wait_for(job_id, "running")
    assert not witness.exists(), "until then it was"
    cancel_row(running, job_id)
    eventually(lambda: witness.exists() and witness.read_text(), within=20, what="the answer")
    assert witness.read_text() == "False\n"


def test_an_attempt_whose_worker_was_given_up_is_not_the_jobs_any_more(running: LivePlatform, tmp_path: Path) -> None:
    """`still_mine` is false in a body whose worker's lease was lost."""
    job_id = running.submit("doubting", str(witness := tmp_path / "answers"))
    running.wait_for(job_id, "running")
    with running.database.autocommit() as connection:
        reap(connection, timedelta(0), 10)
    job = running.wait_for(job_id)
    assert (job.status, job.attempt, job.result) == ("succeeded", 2, True)
    eventually(lambda: "False" in witness.read_text(), within=20, what="the answer of the first attempt")


def test_a_plain_call_is_always_mine() -> None:
    """`still_mine` is true in a plain call of the handler."""
    assert app.tasks["doubting"].still_mine() is True  # type: ignore[attr-defined]  # tasks.attempt.job.Job


def test_without_the_database_there_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`still_mine` raises DatabaseAway while the database is away."""
    monkeypatch.setattr(job, "ANSWER_PATIENCE", 0.1)
    task = app.tasks["doubting"]
    task.push_request()
    current.keep(task.request, current.Running(ATTEMPT, Reporter(ATTEMPT, lambda _: True), since=0.0))
    try:
        with workplace("postgresql://postgres@127.0.0.1:1/none", tmp_path), pytest.raises(DatabaseAway) as raised:
            task.still_mine()  # type: ignore[attr-defined]  # tasks.attempt.job.Job
    finally:
        task.pop_request()
    assert str(raised.value) == "the database could not be reached in time"
