"""`celeriac verify` tells what does not hold, to people and to programs."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from celeriac.commands.cli import command
from tests.tracked import Tracked
from tests.verifying import NAMES, live_through_everything
from tracking.db import Database
from tracking.models import JobRecord
from tracking.settings import settings


@pytest.fixture
def configured(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The command works on the database of the test."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("CELERIAC_ORGANIZATION_LIMIT", "0")
    settings.cache_clear()
    yield
    monkeypatch.undo()
    settings.cache_clear()


def run(*arguments: str) -> Result:
    """The command, in this process."""
    return CliRunner().invoke(command, arguments)


def spoil(database: Database) -> JobRecord:
    """A job without history."""
    with database.autocommit() as connection:
        job = Tracked(connection).submit()
        connection.execute(text("DELETE FROM history"))
    return job


@pytest.mark.usefixtures("configured")
def test_the_command_leaves_with_0_when_all_is_well(database: Database) -> None:
    """`celeriac verify` exits 0 when all is well, with a plain line for each check without a terminal."""
    with database.autocommit() as connection:
        live_through_everything(Tracked(connection), 1)
    result = run("verify")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert [line.split()[:3] for line in lines] == [["ok", "0", name] for name in NAMES]


@pytest.mark.usefixtures("configured")
def test_the_command_leaves_with_1_when_something_is_broken(database: Database) -> None:
    """`celeriac verify` exits 1 and names the job when a check is broken; later checks are made too."""
    job = spoil(database)
    result = run("verify")
    assert result.exit_code == 1
    first, *others = result.output.splitlines()
    assert first.split()[:3] == ["broken", "1", "created_once"]
    assert str(job.id) in first
    assert len(others) == len(NAMES) - 1


@pytest.mark.usefixtures("configured")
def test_the_command_leaves_with_1_when_something_could_not_be_checked(database: Database) -> None:
    """`celeriac verify` exits 1 when a check did not finish."""
    with database.begin() as connection:
        connection.execute(text("LOCK TABLE organizations IN ACCESS EXCLUSIVE MODE"))
        result = run("verify", "--timeout", "1")
    assert result.exit_code == 1
    assert [line.split()[0] for line in result.output.splitlines() if " path " in line] == ["ok"]
    assert [line.split()[:4] for line in result.output.splitlines() if " limit " in line] == [
        ["timed", "out", "?", "limit"]
    ]


@pytest.mark.usefixtures("configured")
def test_json_says_the_same(database: Database) -> None:
    """`celeriac verify --json` tells what the plain lines tell."""
    job = spoil(database)
    result = run("verify", "--json")
    assert result.exit_code == 1
    findings = json.loads(result.output)
    assert [finding["name"] for finding in findings] == NAMES
    assert findings[0] == {
        "name": "created_once",
        "guarantee": 1,
        "sentence": "Every job was created exactly once.",
        "violations": 1,
        "examples": [str(job.id)],
        "holds": False,
    }


@pytest.mark.usefixtures("configured")
def test_a_terminal_gets_a_table(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """`celeriac verify` on a terminal shows a table with every check, and the same exit status."""
    job = spoil(database)
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # rich believes these more than the stream
    monkeypatch.setenv("COLUMNS", "80")
    result = run("verify")
    assert result.exit_code == 1
    assert all(name in result.output for name in NAMES)
    assert str(job.id) in result.output
