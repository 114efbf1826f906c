"""No row holds a time or an object that cannot be read: an older database is mended when it is migrated."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import DateTime, text, update
from sqlalchemy.exc import IntegrityError

from tests.api.conftest import serving
from tests.tracked import Tracked
from tests.tracking.test_migrations import SCRIPTS
from tests.verifying import broken
from tracking import retention
from tracking.admission import holds
from tracking.admission.rule import UNLIMITED
from tracking.db import Database, migrate
from tracking.schema import jobs, metadata
from tracking.settings import settings
from tracking.values import EARLIEST, LATEST

BEFORE = "0012"
HOSTILE = [
    "infinity",
    "-infinity",
    "11533-01-01Z",
    "9999-12-31 23:59:59.999999Z",
    "3000-01-01Z",
    "0001-01-01 BC",
    "1969-12-31 23:59:59Z",
]
DUE = ("scheduled_at", "due_at")
HAPPENED = ("created_at", "updated_at", "started_at", "completed_at", "dispatched_at", "cancel_requested_at")
JOB = text(
    """
    WITH made AS (
        INSERT INTO jobs (id, task_id, organization_id, user_id, job_type, status, hold, due_at, scheduled_at, queue,
                          max_retries, created_at, started_at, completed_at, progress)
        SELECT id, id, 'acme', 'u1', 'noop', :status, :hold, :due_at, :due_at, 'default', 3, :at,
               CASE WHEN :status IN ('running', 'failed') THEN CAST(:at AS timestamptz) END,
               CASE :status WHEN 'failed' THEN CAST(:at AS timestamptz) END, 0
        FROM (SELECT CAST(:id AS uuid) AS id) AS new
        RETURNING *
    )
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, to_status, attempt, task_id, actor, at)
    SELECT id, organization_id, user_id, job_type, 'created', 'queued', 0, task_id, 'u1', created_at FROM made"""
)


@pytest.fixture
def older(database_url: str) -> Iterator[Database]:
    """A database of the version before."""
    database = Database(database_url, settings())
    config = Config()
    config.set_main_option("script_location", SCRIPTS)
    with database.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, BEFORE)
    yield database
    database.close()


def _insert(database: Database, status: str, hold: str | None, *, at: str, due_at: str | None = None) -> UUID:
    job_id = uuid4()
    with database.begin() as connection:
        connection.execute(JOB, {"id": job_id, "status": status, "hold": hold, "at": at, "due_at": due_at})
    return job_id


def test_hostile_times_of_an_older_database_are_mended(older: Database, database_url: str, tmp_path: Path) -> None:
    """The migration mends hostile times, and all reads and duties work afterwards."""
    now = "now"
    ids = [_insert(older, "queued", "schedule", at=now, due_at=time) for time in HOSTILE]
    ids += [_insert(older, status, None, at=time) for time in HOSTILE for status in ("queued", "running", "failed")]
    migrate(database_url)
    with serving(database_url, "redis://127.0.0.1:1/0", tmp_path) as api:
        caller = api.caller("acme")
        for path in ("", "/recent", "/stats", "/history"):
            assert caller.get(f"/v1/jobs{path}").status_code == 200, path
        for job_id in ids:
            for path in ("", "/status", "/explain"):
                answer = caller.get(f"/v1/jobs/{job_id}{path}", include="attempts,history")
                assert answer.status_code == 200 or path, answer.text
                assert answer.status_code < 500, answer.text
    with older.autocommit() as connection:
        tracked = Tracked(connection)
        for job in tracked.all():
            for name in (*DUE, *HAPPENED):
                moment: datetime | None = getattr(job, name)
                assert moment is None or EARLIEST <= moment < LATEST, name
                assert moment is None or name in DUE or moment <= datetime.now(UTC) + timedelta(seconds=5), name
        lifted = holds.lift_due(connection, UNLIMITED, 100)
        assert {job.id for job in lifted} == {ids[HOSTILE.index(time)] for time in HOSTILE if time[0] in "-01"} - {
            ids[HOSTILE.index("11533-01-01Z")]
        }
        for job in tracked.all():
            if job.status == "queued" and job.hold is None:
                tracked.start(job)
    with older.begin() as connection:
        retention.prune(connection, retention.Policy.configured(settings()), limit=1000)
    assert "times" not in broken(older)


@pytest.mark.parametrize(
    ("column", "mended"), [("payload", {"args": [5], "kwargs": {}}), ("metadata", {}), ("delivery", {})]
)
def test_what_is_no_object_is_mended(older: Database, database_url: str, column: str, mended: object) -> None:
    """The migration turns a payload that is no object into the one argument of a call."""
    job_id = _insert(older, "queued", None, at="now")
    with older.autocommit() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job_id).values({column: 5}))
        migrate(database_url)
        assert getattr(Tracked(connection).get(job_id), column) == mended


def test_what_was_in_order_is_left_alone(older: Database, database_url: str) -> None:
    """The migration leaves valid times as they are, to the microsecond."""
    _insert(older, "queued", "schedule", at="2026-01-02 03:04:05.678901Z", due_at="2999-12-31 23:59:59.999999Z")
    with older.autocommit() as connection:
        rows = connection.execute(text("SELECT created_at, due_at, updated_at FROM jobs")).all()
        migrate(database_url)
        assert connection.execute(text("SELECT created_at, due_at, updated_at FROM jobs")).all() == rows


@pytest.mark.parametrize("name", ["jobs", "history", "workers", "groups"])
def test_every_table_with_times_has_one_range_for_them(tracked: Tracked, name: str) -> None:
    """The database refuses times out of range in every table."""
    tracked.start(tracked.submit(), lease=tracked.register_worker())
    tracked.connection.execute(text("INSERT INTO groups (id) VALUES ('g') ON CONFLICT DO NOTHING"))
    times = [column for column in metadata.tables[name].columns if isinstance(column.type, DateTime)]
    assert times
    for column in times:
        for time in ("infinity", "3000-01-01Z", "1969-12-31Z"):
            with pytest.raises(IntegrityError, match="violates check constraint"):
                tracked.connection.execute(update(metadata.tables[name]).values({column.name: text(f"'{time}'")}))
