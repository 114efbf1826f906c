"""`celeriac verify` tells what does not hold, to people and to programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from celeriac.commands.cli import command
from tests.tracked import Tracked
from tests.verifying import NAMES, live_through_everything
from tracking.db import Database
from tracking.models import JobRecord
from tracking.reads import invariants
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


@pytest.mark.usefixtures("configured")
def test_a_run_that_was_stopped_goes_on_where_it_was(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`celeriac verify --resume` leaves in the file how far it was when it was stopped, goes on, and removes it."""
    monkeypatch.setattr(invariants, "JOBS", 2)
    job, file = spoil(database), tmp_path / "progress.json"
    with database.autocommit() as connection:
        ids = sorted([job.id, *(Tracked(connection).submit().id for _ in range(4))])
    said = {"nextId": str(ids[2]), "jobs": 2, "found": {"path": [1, ["x"]]}}
    file.write_text(json.dumps(said))
    result = run("verify", "--resume", str(file), "--json")
    found = {each["name"]: each["violations"] for each in json.loads(result.output) if not each["holds"]}
    assert found == {"path": 1} | ({"created_once": 1} if job.id in ids[2:] else {})
    assert not file.exists()
    with database.begin() as connection:
        connection.execute(text("LOCK TABLE history IN ACCESS EXCLUSIVE MODE"))
        assert run("verify", "--resume", str(file), "--timeout", "1").exit_code == 1
    assert not file.exists()
    file.write_text("{}")
    assert "does not say how far" in run("verify", "--resume", str(file)).output


@pytest.mark.usefixtures("configured")
def test_only_what_has_changed_lately_may_be_asked_for(database: Database) -> None:
    """`celeriac verify --since` leaves out the jobs that have not changed for so long."""
    job = spoil(database)
    with database.autocommit() as connection:
        connection.execute(text("UPDATE jobs SET updated_at = updated_at - interval '2 hours'"))
    assert str(job.id) in run("verify", "--since", "3h").output
    assert run("verify", "--since", "1h").exit_code == 0
    assert "30m, 1h or 7d" in run("verify", "--since", "soon").output
