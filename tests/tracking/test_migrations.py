"""The migrations build what tracking/schema.py describes, from several processes at once, and can be undone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, NullPool, create_engine, inspect, text

from tests.commands import python
from tests.migrating import PARTITION, differences
from tests.tracked import Tracked
from tracking import db
from tracking.db import Database, migrate
from tracking.errors import ConfigurationError
from tracking.schema import metadata

SCRIPTS = str(Path(db.__file__).parent / "migrations")
VERSIONS = "alembic_version"
MIGRATE = "import sys; from tracking.db import migrate; migrate(sys.argv[1])"

# Everything of a schema that PostgreSQL can spell out; a name stands for its table or index.
CATALOGUE = {
    "columns": """
        SELECT table_name, column_name, data_type, is_nullable, column_default, is_identity, identity_generation,
               col_description(format('%I.%I', table_schema, table_name)::regclass, ordinal_position) AS comment
        FROM information_schema.columns WHERE table_schema = :schema""",
    "indexes": """
        SELECT relname, indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition
        FROM pg_index JOIN pg_class ON pg_class.oid = indrelid WHERE relnamespace = CAST(:schema AS regnamespace)""",
    "constraints": """
        SELECT conrelid::regclass::text AS name, conname, pg_get_constraintdef(oid) AS definition
        FROM pg_constraint WHERE connamespace = CAST(:schema AS regnamespace) AND contype <> 'n'""",
    "options": """
        SELECT relname, relkind, reloptions, pg_get_partkeydef(oid) AS partitioned_by FROM pg_class
        WHERE relnamespace = CAST(:schema AS regnamespace) AND relkind IN ('r', 'p')""",
}


@pytest.fixture
def config() -> Config:
    """Alembic's configuration, as `migrate` makes it."""
    config = Config()
    config.set_main_option("script_location", SCRIPTS)
    return config


def _downgrade(database: Database, config: Config) -> None:
    with database.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")


def _tables(database: Database) -> set[str]:
    with database.autocommit() as connection:
        return {name for name in inspect(connection).get_table_names() if not PARTITION.match(name)}


def _described(connection: Connection, what: str, schema: str) -> list[tuple[Any, ...]]:
    """One part of CATALOGUE without the name of the schema."""
    rows = connection.execute(text(CATALOGUE[what]), {"schema": schema})
    plain = [tuple(str(value).replace(f"{schema}.", "") for value in row) for row in rows]
    return sorted(row for row in plain if VERSIONS not in row[0] and not PARTITION.match(row[0]))


def test_the_migrated_database_is_the_schema_to_alembic(database: Database) -> None:
    """Alembic finds no difference between the migrated database and the schema."""
    with database.autocommit() as connection:
        assert differences(connection, compare_type=True, compare_server_default=True) == []


@pytest.mark.parametrize("what", CATALOGUE)
def test_the_migrated_database_is_the_schema_to_postgresql(database: Database, what: str) -> None:
    """The catalog of the migrated database equals that of the schema, with predicates and storage."""
    with database.begin() as connection:
        connection.execute(text("CREATE SCHEMA described"))
        connection.execute(text("SET LOCAL search_path TO described, public"))
        metadata.create_all(connection, checkfirst=False)  # public has them, and the extensions
        described = _described(connection, what, "described")
        connection.execute(text("SET LOCAL search_path TO public"))
        migrated = _described(connection, what, "public")
    assert len(described) >= len(metadata.tables)
    assert migrated == described


def test_there_is_one_line_of_migrations(config: Config) -> None:
    """The migrations have one head."""
    assert len(ScriptDirectory.from_config(config).get_heads()) == 1


def test_migrating_again_changes_nothing(database: Database, database_url: str) -> None:
    """Migrating again changes nothing, and the rows stay."""
    with database.autocommit() as connection:
        job = Tracked(connection).run()
        migrate(database_url)
        assert Tracked(connection).all() == [job]


def test_every_migration_can_be_undone_and_done_again(database: Database, database_url: str, config: Config) -> None:
    """Every migration can be undone, and done again to the same schema."""
    _downgrade(database, config)
    assert _tables(database) == {VERSIONS}
    migrate(database_url)
    assert _tables(database) == {VERSIONS, *metadata.tables}
    with database.autocommit() as connection:
        assert differences(connection) == []


def test_several_processes_may_migrate_at_once(database: Database, database_url: str, config: Config) -> None:
    """Of processes that migrate at once one works, and the others wait."""
    _downgrade(database, config)
    with ThreadPoolExecutor(3) as threads:
        runs = [threads.submit(python, "-c", MIGRATE, database_url) for _ in range(3)]
    assert [(run.result().err, run.result().status) for run in runs] == [("", 0)] * 3
    assert _tables(database) == {VERSIONS, *metadata.tables}


# A job that was tried twice, lost its worker, and waits; and one that was never touched. Each dispatch had a task id.
BEFORE_DISPATCHES = """
    INSERT INTO jobs (id, task_id, organization_id, user_id, job_type, status, queue, max_retries, dispatched_at,
                      completed_at)
    VALUES (:tried, :third, 'acme', 'u1', 'noop', 'queued', 'default', 3, now(), NULL),
           (:new, :new, 'acme', 'u1', 'noop', 'queued', 'default', 3, now(), NULL),
           (:done, :second, 'acme', 'u1', 'noop', 'failed', 'default', 3, now(), now() + interval '1 minute')"""
HISTORY_BEFORE = """
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status, attempt, task_id,
                         actor)
    SELECT CAST(:tried AS uuid), 'acme', 'u1', 'noop', event, was, becomes, 0, CAST(task_id AS uuid), 'u1'
    FROM (VALUES ('created', NULL, 'queued', :tried), ('started', 'queued', 'running', :tried),
                 ('released', 'running', 'queued', :tried), ('started', 'queued', 'running', :second),
                 ('released', 'running', 'queued', :second)) AS steps (event, was, becomes, task_id)
    UNION ALL VALUES (CAST(:new AS uuid), 'acme', 'u1', 'noop', 'created', NULL, 'queued', 0, CAST(:new AS uuid), 'u1'),
                     (:done, 'acme', 'u1', 'noop', 'created', NULL, 'queued', 0, :done, 'u1')"""


def test_task_ids_become_numbers_and_what_waits_is_sent_anew(
    database: Database, database_url: str, config: Config
) -> None:
    """The migration turns task ids into dispatch numbers, and waiting jobs are sent anew."""
    ids = {name: str(uuid4()) for name in ("tried", "second", "third", "new", "done")}
    with database.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0015")
        connection.execute(text(BEFORE_DISPATCHES), ids)
        connection.execute(text(HISTORY_BEFORE), ids)
    migrate(database_url)
    with database.autocommit() as connection:
        rows = {str(job.id): job for job in Tracked(connection).all()}
        tried, new, done = (rows[ids[name]] for name in ("tried", "new", "done"))
        assert (tried.dispatch, new.dispatch, done.dispatch) == (3, 1, 2)
        assert (tried.dispatched_at, new.dispatched_at) == (None, None)
        assert done.dispatched_at is not None
        assert [entry.dispatch for entry in Tracked(connection).history(tried)] == [1, 1, 1, 2, 2]


def test_numbers_become_task_ids_again(database: Database, config: Config) -> None:
    """The downgrade turns dispatch numbers into task ids again."""
    with database.autocommit() as connection:
        job = Tracked(connection).start(
            Tracked(connection).end(Tracked(connection).start(Tracked(connection).submit()), "lost")
        )
    with database.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0015")
        kept = connection.execute(text("SELECT task_id FROM history ORDER BY id")).scalars().all()
        current = connection.execute(text("SELECT task_id FROM jobs")).scalar_one()
        command.upgrade(config, "0016")
    assert kept == [job.id, job.id, job.id, current]
    assert current != job.id


def test_a_role_that_may_not_create_an_extension_is_told_so(
    database: Database, database_url: str, config: Config
) -> None:
    """A migration that lacks an extension, and the right to create it, names both, and goes on once it is there."""
    with database.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0023")
    administrator = create_engine(database.engine.url.set(username="postgres"), poolclass=NullPool)
    name, role = database.engine.url.database, database.engine.url.username
    with administrator.begin() as connection:
        connection.execute(text("DROP EXTENSION pg_trgm CASCADE"))
        connection.execute(text("UPDATE alembic_version SET version_num = '0022'"))
        connection.execute(text(f"ALTER DATABASE {name} OWNER TO postgres"))
        connection.execute(text(f"GRANT CREATE ON SCHEMA public TO {role}"))
    with pytest.raises(ConfigurationError, match=r"CREATE EXTENSION pg_trgm .*permission denied"):
        migrate(database_url)
    with administrator.begin() as connection:
        connection.execute(text("CREATE EXTENSION pg_trgm"))
    migrate(database_url)
    with database.autocommit() as connection:
        assert differences(connection) == []
