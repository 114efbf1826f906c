"""The leader's work on bulk operations: it goes on where it was, also after a crash at any point."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from tasks import app
from tasks.leader.operating import Operating
from tests.commands import python
from tests.handling import workplace
from tests.tracked import ACME, Tracked
from tracking.db import Database, SQLAlchemyError
from tracking.operated import Action, State
from tracking.operations import reads
from tracking.operations.begin import begin
from tracking.operations.values import NewOperation
from tracking.reads.answers import Filters
from tracking.states import Hold, Status

AWAY = "redis://127.0.0.1:1/0"  # nothing listens there
LEAD = """
from tasks import app
from tasks.leader.operating import Operating
leader = Operating(app.platform, 2)
while leader.turn():
    pass
"""


def retry_all(pool: Database) -> UUID:
    """A retry of all failed jobs of acme."""
    new = NewOperation(uuid4(), Action.RETRY, ACME, "u1", {"filter": {}})
    with pool.begin() as connection:
        failed = Filters(statuses=(Status.FAILED,))
        begin(connection, new, failed, at_once=9, judge=lambda _: {}, origin=None)
    return new.id


@pytest.mark.parametrize("point", ["operation.worked", "operation.committed"])
def test_after_a_crash_it_goes_on_where_it_was(pool: Database, tracked: Tracked, tmp_path: Path, point: str) -> None:
    """A leader that is killed in each of its batches does no job twice, and leaves none without its outcome."""
    found = [tracked.put_into("failed") for _ in range(7)]
    operation = retry_all(pool)
    url = pool.engine.url.render_as_string(hide_password=False)
    own: dict[str, Any] = {"DATABASE_URL": url, "BROKER_URL": AWAY, "CELERIAC_DATA_DIR": str(tmp_path)}
    statuses = [python("-c", LEAD, CELERIAC_CRASH_AT=f"{point}:{chance}", **own).status for chance in (1, 0.5)]
    assert python("-c", LEAD, **own).status == 0
    assert statuses in ([-9, 0], [-9, -9])
    done = reads.get(tracked.connection, operation, ACME)
    assert (done.state, done.succeeded, done.done) == (State.COMPLETED, 7, 7)
    assert [tracked.events(job).count("retried") for job in found] == [1] * 7
    assert {tracked.get(job.id).retry_count for job in found} == {1}


def test_what_is_retried_is_let_through(pool: Database, tracked: Tracked, tmp_path: Path) -> None:
    """Retried jobs go into the line, and as many of them as there are free slots are let through at once."""
    tracked.register_worker()
    url = pool.engine.url.render_as_string(hide_password=False)
    with workplace(url, tmp_path, BROKER_URL=AWAY, CELERIAC_ORGANIZATION_LIMIT="2"):
        leader = Operating(app.platform)
        found = [tracked.put_into("failed") for _ in range(4)]
        retry_all(pool)
        assert leader.turn()
        assert not leader.turn()
        assert app.platform.dispatcher.flush(10)
        held = [tracked.get(job.id).hold for job in found]
    assert sorted(map(str, held)) == ["None", "None", *["organization_limit"] * 2]
    assert Hold.ORGANIZATION_LIMIT in held


def test_an_operation_that_cannot_be_written_holds_up_no_other(
    pool: Database, tracked: Tracked, tmp_path: Path
) -> None:
    """An operation whose outcomes the database refuses waits, and another one has its turn meanwhile."""
    job = tracked.put_into("failed")
    broken, sound = retry_all(pool), retry_all(pool)
    refuse = f"CHECK (operation_id <> '{broken}' OR outcome IS NULL)"
    tracked.connection.execute(text(f"ALTER TABLE operation_jobs ADD CONSTRAINT no_outcome {refuse}"))
    try:
        with workplace(pool.engine.url.render_as_string(hide_password=False), tmp_path, BROKER_URL=AWAY):
            leader = Operating(app.platform)
            with pytest.raises(SQLAlchemyError, match="no_outcome"):
                leader.turn()
            assert leader.turn()
            assert not leader.turn()
    finally:
        tracked.connection.execute(text("ALTER TABLE operation_jobs DROP CONSTRAINT no_outcome"))
    assert reads.get(tracked.connection, sound, ACME).state is State.COMPLETED
    assert reads.get(tracked.connection, broken, ACME).state is State.RUNNING
    assert tracked.events(job).count("retried") == 1


def test_old_operations_are_removed(pool: Database, tracked: Tracked, tmp_path: Path) -> None:
    """The leader removes operations that ended longer ago than the setting says, and only those."""
    url = pool.engine.url.render_as_string(hide_password=False)
    old, new = retry_all(pool), retry_all(pool)
    aged = "UPDATE operations SET completed_at = now() - interval '3 d', state = 'completed' WHERE id = :id"
    tracked.connection.execute(text(aged), {"id": old})
    with workplace(url, tmp_path, BROKER_URL=AWAY, CELERIAC_RETENTION_BULK_DAYS="2"):
        leader = Operating(app.platform)
        assert leader.forget()
        assert not leader.forget()
    assert tracked.connection.execute(text("SELECT id FROM operations")).scalars().all() == [new]
