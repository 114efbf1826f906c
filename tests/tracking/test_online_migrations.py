"""A migration of a database that is in use: it holds up no writer, and one that was killed can be done again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import text

from tests.live import eventually
from tests.tracked import Tracked
from tracking import db
from tracking.db import Database, migrate
from tracking.schema import metadata

MIGRATE = "import sys; from tracking.db import migrate; migrate(sys.argv[1])"
BEFORE = "0016"
ASKING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND query LIKE 'SELECT pg_try_advisory_lock%' AND pid <> pg_backend_pid()"""
# As any release writes: the verbs of this one want all of its columns.
WRITES = (
    """INSERT INTO jobs (id, organization_id, user_id, job_type, status, queue, max_retries)
       VALUES (gen_random_uuid(), 'globex', 'u1', 'count_words', 'queued', 'default', 3)""",
    "UPDATE jobs SET status = 'running', started_at = clock_timestamp() WHERE organization_id = 'globex'",
    """UPDATE jobs SET status = 'succeeded', progress = 100, completed_at = clock_timestamp()
       WHERE organization_id = 'globex'""",
)
INVALID = "SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE NOT indisvalid"


@pytest.fixture
def older(database: Database) -> Database:
    """A database as the version before has left it, with a job."""
    config = Config()
    config.set_main_option("script_location", str(Path(db.__file__).parent / "migrations"))
    with database.begin() as connection:
        Tracked(connection).run()
        config.attributes["connection"] = connection
        command.downgrade(config, BEFORE)
    return database


@contextmanager
def snapshot(database: Database) -> Iterator[None]:
    """Hold a snapshot, for which whoever builds an index CONCURRENTLY has to wait."""
    with database.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        connection.execute(text("SELECT count(*) FROM jobs"))
        yield


@contextmanager
def migrating(url: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that migrates; killed with the block."""
    process = subprocess.Popen([sys.executable, "-c", MIGRATE, url])
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def invalid(database: Database) -> list[str]:
    """The indexes that are being built, or were left half built."""
    with database.autocommit() as connection:
        return list(connection.execute(text(INVALID)).scalars())


def asking(database: Database) -> bool:
    """Whether anybody is waiting for the end of a migration; who migrates has gone on to other statements."""
    with database.autocommit() as connection:
        return bool(connection.execute(text(ASKING)).scalar_one())


def test_jobs_are_accepted_and_run_while_an_index_is_built(older: Database, database_url: str) -> None:
    """While an index is built, what accepts a job, starts it and ends it waits less than a second each."""
    with snapshot(older), migrating(database_url) as process:
        eventually(lambda: invalid(older), what="the first index")
        with older.autocommit() as connection:
            connection.execute(text("SET lock_timeout = '1s'"))
            for statement in WRITES:
                assert connection.execute(text(statement)).rowcount == 1
            connection.execute(text("RESET lock_timeout"))
        assert process.poll() is None
    migrate(database_url)


def test_a_migration_that_was_killed_is_done_again(older: Database, database_url: str) -> None:
    """A migration that was killed while it built an index is done again."""
    with snapshot(older), migrating(database_url):
        assert eventually(lambda: invalid(older), what="the first index") == ["jobs_listed"]
    migrate(database_url)
    assert invalid(older) == []
    with older.autocommit() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert len(Tracked(connection).all()) == 1


def test_those_who_wait_for_a_migration_do_not_hold_it_up(older: Database, database_url: str) -> None:
    """A process that waits for another one's migration holds no snapshot."""
    with ExitStack() as processes:
        with snapshot(older):
            first = processes.enter_context(migrating(database_url))
            eventually(lambda: invalid(older), what="the first index")
            second = processes.enter_context(migrating(database_url))
            eventually(lambda: asking(older), what="the second process")
        assert [first.wait(30), second.wait(30)] == [0, 0]
    assert invalid(older) == []
