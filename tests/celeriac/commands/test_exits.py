"""Whatever goes wrong with a command is an exit status that a supervisor can trust, and one line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from celeriac.commands.cli import command
from tests.commands import PROGRAM, python
from tests.exiting import BRIEF, COMMANDS, SECRET, WITHOUT_SETTINGS, check, ended, failing
from tests.servers import Servers, new_database
from tracking.exit_status import MEANINGS, Exit

WRONG_SETTINGS = {
    "unknown": ("CELERIAC_POOL_SIZ", "3", "CELERIAC_POOL_SIZ is not a setting: did you mean CELERIAC_POOL_SIZE?"),
    "value": ("CELERIAC_HEARTBEAT", "often", "CELERIAC_HEARTBEAT: Input should be a valid number"),
    "dialect": ("DATABASE_URL", f"mysql://root:{SECRET}@127.0.0.1/d", "DATABASE_URL: mysql:// is not supported"),
    "driver": ("DATABASE_URL", f"postgresql+psycopg2://u:{SECRET}@h/d", "DATABASE_URL: postgresql+psycopg2:// is"),
    "port": ("DATABASE_URL", f"postgresql://u:{SECRET}@h:99999/d", "DATABASE_URL: its port is not a number"),
    "broker": ("BROKER_URL", f"kafka://u:{SECRET}@h", "BROKER_URL: kafka:// is not supported; supported: amqp://"),
}


@pytest.fixture(scope="module")
def read_only(servers: Servers) -> Iterator[str]:
    """A database with the newest schema in which nothing can be changed."""
    with new_database(servers) as url:
        owner = make_url(url).set(username="postgres")
        engine = create_engine(owner, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"ALTER DATABASE {owner.database} SET default_transaction_read_only = on"))
        engine.dispose()
        yield url


def test_every_command_is_in_the_table() -> None:
    """Every command is in the table of exit statuses of these tests."""
    assert COMMANDS.keys() | WITHOUT_SETTINGS == command.table.keys()


@pytest.mark.parametrize("fault", WRONG_SETTINGS)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_wrong_setting_is_status_2(name: str, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong setting ends every command with status 2 and one line that names the variable."""
    variable, value, line = WRONG_SETTINGS[fault]
    monkeypatch.setenv(variable, value)
    end = failing(*COMMANDS[name])
    check(end, Exit.MISUSED, line)
    assert end.err.count("\n") == 1


@pytest.mark.parametrize("wrong", [*WRONG_SETTINGS, "handlers"])
def test_celerys_own_command_tells_a_wrong_setting_alike(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`celery -A tasks worker` ends a wrong setting with one line and status 2."""
    handlers = ("CELERIAC_IMPORTS", "nowhere", "CELERIAC_IMPORTS: there is no module 'nowhere'")
    variable, value, line = {**WRONG_SETTINGS, "handlers": handlers}[wrong]
    monkeypatch.setenv(variable, value)
    end = python(str(Path(PROGRAM).with_name("celery")), "-A", "tasks", "worker")
    check(end, Exit.MISUSED, line)
    assert end.err.count("\n") == 1


@pytest.mark.parametrize("name", [*COMMANDS, *sorted(WITHOUT_SETTINGS)])
def test_a_wrong_argument_is_status_2(name: str) -> None:
    """A wrong argument ends every command with status 2 and one line that names its help."""
    end = failing(name, "--nonsense")
    check(end, Exit.MISUSED, "No such option")
    assert end.err.endswith(f"{name} --help`.\n")
    assert end.err.count("\n") == 1


@pytest.mark.parametrize("name", [*BRIEF, "worker", "up"])
def test_a_database_that_is_away_is_status_3(name: str, closed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is away ends every command but the API with status 3."""
    monkeypatch.setenv("DATABASE_URL", f"postgresql://u:{SECRET}@127.0.0.1:{closed}/d")
    check(ended(name), Exit.AWAY, "the database is away: ")


@pytest.mark.parametrize("name", [*BRIEF, "worker", "api"])
def test_a_database_that_does_not_exist_is_status_2(
    name: str, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that does not exist ends every command with status 2."""
    monkeypatch.setenv("CELERIAC_START_PATIENCE", "60")
    monkeypatch.setenv("DATABASE_URL", servers.database("nobody_made_it"))
    check(ended(name), Exit.MISUSED, 'database "nobody_made_it" does not exist')


@pytest.mark.parametrize("name", sorted({*BRIEF, "worker", "api"} - {"migrate", "roles"}))
def test_a_database_without_a_schema_is_status_2(name: str, servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database without a schema ends every command with status 2, and names `celeriac migrate`."""
    monkeypatch.setenv("DATABASE_URL", servers.database("postgres"))
    check(ended(name), Exit.MISUSED, "run `celeriac migrate`")


def test_a_database_with_an_older_schema_is_status_2(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older schema ends every command with status 2 before its first statement."""
    engine = create_engine(database_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0005'"))
    engine.dispose()
    monkeypatch.setenv("DATABASE_URL", database_url)
    check(ended("api"), Exit.MISUSED, "the schema is not the newest (0005, not 0")


@pytest.mark.parametrize("name", ["limit", "pause", "worker"])
def test_a_read_only_database_is_status_3_for_what_writes(
    name: str, read_only: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read-only database ends the commands that write with status 3."""
    monkeypatch.setenv("DATABASE_URL", read_only)
    check(ended(name), Exit.AWAY, "it takes no writes")


def test_the_doctor_says_what_makes_a_primary_read_only(read_only: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A primary that takes no writes has a default to turn off; DATABASE_URL names no other server than it should."""
    monkeypatch.setenv("DATABASE_URL", read_only)
    found = next(line for line in ended("doctor").out.splitlines() if "takes no writes" in line)
    assert "turn default_transaction_read_only off" in found


@pytest.mark.parametrize("arguments", [("verify",), ("dead-letters",), ("limit", "acme"), ("migrate",)])
def test_what_only_reads_is_content_with_a_read_only_database(
    arguments: tuple[str, ...], read_only: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands that only read succeed on a read-only database."""
    monkeypatch.setenv("DATABASE_URL", read_only)
    assert failing(*arguments).status == Exit.FINE


@pytest.mark.parametrize("name", list(command.table))
def test_help_tells_the_exit_statuses(name: str) -> None:
    """The help of every command tells its exit statuses."""
    end = failing(name, "--help")
    assert end.status == Exit.FINE
    for status, meaning in MEANINGS.items():
        assert re.search(rf"^ +{int(status)} +{re.escape(meaning)}$", end.out, re.MULTILINE)
