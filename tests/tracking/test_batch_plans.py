"""The plans of the verbs that change many jobs at once: made while the tables were empty, they must do later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection, text

from tests.tracked import ACME, new_job, submit_all, wish
from tests.tracking.test_admission_plans import FILL
from tracking import jobs
from tracking.admission.rule import UNLIMITED
from tracking.db import Database
from tracking.models import Attempt, Fence, Outcome, Progress, Submitted

TIMES = 8  # a statement has its last plan from the sixth time on
SIZES = (1, 64)


@pytest.fixture
def young(roomy: Database) -> Database:
    """A database that nothing has looked at: its tables have no statistics, and get none."""
    with roomy.autocommit() as connection:
        connection.execute(text("ALTER TABLE jobs SET (autovacuum_enabled = false)"))
    return roomy


def submit_some(connection: Connection, size: int) -> list[Fence]:
    """Submit as many jobs at once."""
    answers = submit_all(connection, [new_job() for _ in range(size)], UNLIMITED)
    return [answer.job.fence for answer in answers if isinstance(answer, Submitted)]


def run_some(connection: Connection, fences: Sequence[Fence]) -> None:
    """Claim jobs at once, end them, one with a failure, and claim them again in vain."""
    answers = jobs.claim(connection, [wish(fence) for fence in fences])
    attempts = [answer for answer in answers if isinstance(answer, Attempt)]
    assert len(attempts) == len(fences)
    ended = [Outcome(each.fence, "succeeded", "worker-1", each.attempt, result=[1]) for each in attempts]
    assert all(jobs.settle(connection, [*ended[1:], Outcome(attempts[0].fence, "failed", "worker-1")]))
    refused = jobs.claim(connection, [wish(each.fence) for each in attempts])
    assert not any(isinstance(answer, Attempt) for answer in refused)


def scans(connection: Connection) -> int:
    """How often this session has read the whole table of jobs lately."""
    counted = "SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = 'jobs'"
    return int(connection.execute(text(counted)).scalar_one())


def test_a_plan_that_was_made_while_the_tables_were_empty_reads_no_full_one(young: Database) -> None:
    """Verbs that were planned on an empty table find each row by its key in a full one."""
    with young.begin() as connection:
        for size in SIZES * TIMES:
            run_some(connection, submit_some(connection, size))
        waiting = [submit_some(connection, size) for size in SIZES]
        connection.execute(text(FILL))
        before = scans(connection)
        for fences in waiting:
            run_some(connection, fences)
            submit_some(connection, len(fences))
        assert scans(connection) == before


def operate_on(connection: Connection, fences: Sequence[Fence]) -> None:
    """Give jobs another priority, cancel, retry, cancel and delete them, each as a batch of a bulk operation."""
    ids, by = [fence.job_id for fence in fences], {"actor": "u1", "operation": uuid4()}
    retrying: dict[str, Any] = {**by, "limits": UNLIMITED, "force": True}
    done = [
        jobs.reprioritize_each(connection, ids, ACME, **retrying, priority=5),
        jobs.cancel_each(connection, ids, ACME, **by, reason=None),  # type: ignore[arg-type]
        jobs.retry_each(connection, ids, ACME, **retrying, priority=None),
        jobs.cancel_each(connection, ids, ACME, **by, reason=None),  # type: ignore[arg-type]
        jobs.delete_each(connection, ids, ACME),
    ]
    assert [len(each.done) for each in done] == [len(ids)] * len(done)


def test_a_plan_of_a_bulk_operation_that_was_made_while_the_tables_were_empty_reads_no_full_one(
    young: Database,
) -> None:
    """The verbs of bulk operations, planned on an empty table, find each row by its key in a full one."""
    with young.begin() as connection:
        for size in SIZES * TIMES:
            operate_on(connection, submit_some(connection, size))
        waiting = [submit_some(connection, size) for size in SIZES]
        connection.execute(text(FILL))
        before = scans(connection)
        for fences in waiting:
            operate_on(connection, fences)
        assert scans(connection) == before


def test_reports_change_no_index(young: Database) -> None:
    """A report with a message changes the row on its page, and no index: each would cost an entry at every report."""
    with young.begin() as connection:
        [fence] = submit_some(connection, 1)
        [attempt] = jobs.claim(connection, [wish(fence)])
        assert isinstance(attempt, Attempt)
        before = hot_updates(connection)
        for percent in range(10, 20):
            assert jobs.report(connection, Progress(fence, attempt.attempt, percent, message=f"row {percent}"))
        assert [now - then for then, now in zip(before, hot_updates(connection), strict=True)] == [10, 10]


def hot_updates(connection: Connection) -> tuple[int, int]:
    """How many rows of jobs this transaction has updated, and how many of them without an entry in any index."""
    counted = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = 'jobs'"
    row = connection.execute(text(counted)).one()
    return row.n_tup_upd, row.n_tup_hot_upd
