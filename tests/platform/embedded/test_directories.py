"""`celeriac data`: which data directories there are, and that none is removed which somebody needs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from api.secrets import SECRET_FILE
from celeriac.commands.cli import command
from celeriac.embedded import directories, postgres, valkey
from celeriac.embedded.processes import hold, own_directory
from tasks.handlers.notification import LOG_FILE
from tests.embedded import as_root, started
from tracking.exit_status import Exit
from tracking.settings import Settings

Spoil = Callable[[Path], Path]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state files of a user of this test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def noted(data_dir: Path) -> Path:
    """A data directory as `up` leaves it, with a database."""
    directories.note(data_dir)
    return data_dir


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """One as `up` leaves it that was given DATABASE_URL."""
    directory = own_directory(tmp_path / "private" / "data")
    valkey.open_broker(directory)
    (directory / "jwt_secret").touch()
    directories.note(directory)
    return directory


def celeriac_data(*arguments: str | Path, said: str | None = None) -> Result:
    return CliRunner().invoke(command, ["data", *map(str, arguments)], input=said)


def listed(data_dir: Path) -> dict[str, object] | None:
    """What the list tells of a directory; None: it is not in it."""
    lines = celeriac_data("list", "--json").stdout.splitlines()
    return next((each for each in map(json.loads, lines) if each["path"] == str(data_dir)), None)


def test_a_data_directory_is_listed_and_removed_whole(noted: Path) -> None:
    """A data directory is listed with its version and size; removed, neither it nor its database is there."""
    home, made = postgres.home_of(noted), postgres.version_of(postgres._cluster(noted).data)
    seen = listed(noted)
    assert seen is not None
    assert (seen["postgres"], seen["isRunning"], seen["isGone"]) == (made, False, False)
    assert 20_000_000 < int(str(seen["size"])) < 200_000_000
    assert celeriac_data("remove", noted, "--yes").exit_code == Exit.FINE
    assert home is not None
    assert (noted.exists(), home.exists(), listed(noted)) == (False, False, None)


@pytest.mark.parametrize(("said", "status", "stays"), [("y\n", Exit.FINE, False), ("n\n", 2, True), ("", 2, True)])
def test_it_asks_before_it_removes(small: Path, said: str, status: int, *, stays: bool) -> None:
    """Without --yes it asks, and nothing is removed for an answer other than yes, or for none."""
    end = celeriac_data("remove", small, said=said)
    assert f"Remove {small}, " in end.stderr
    assert (end.exit_code, small.exists()) == (status, stays), end.stderr


def test_one_that_runs_is_not_removed(noted: Path) -> None:
    """A data directory that an `up` holds, or on which a server runs, is listed as running and is not removed."""
    with hold(noted):
        refused(noted, "is in use by a `celeriac up`")
        assert (listed(noted) or {})["isRunning"] is True
    cluster = postgres.open_cluster(noted)
    with started(postgres.part(cluster)):
        refused(noted, "is in use by a `celeriac up`")
    assert cluster.data.exists()


def linked(data_dir: Path) -> Path:
    """A symbolic link to it."""
    link = data_dir.with_name("link")
    link.symlink_to(data_dir)
    return link


def with_a_file(data_dir: Path) -> Path:
    """It, with a file of somebody's in it."""
    (data_dir / "thesis.tex").touch()
    return data_dir


def with_a_link(data_dir: Path) -> Path:
    """It, with a link for its exports."""
    (data_dir / "exports").symlink_to(data_dir.parent)
    return data_dir


def a_file(data_dir: Path) -> Path:
    return data_dir / "jwt_secret"


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (linked, "is a symbolic link"),
        (with_a_file, "holds what `celeriac up` has not made, and stays: thesis.tex"),
        (with_a_link, "holds what `celeriac up` has not made, and stays: exports"),
        (a_file, "is no data directory"),
        (lambda data_dir: data_dir.parent, "is no data directory"),
        (lambda data_dir: data_dir / "valkey", "is no data directory"),
        (lambda data_dir: data_dir / "nothing", "is no data directory"),
    ],
)
def test_what_is_no_smallectory_stays(small: Path, spoil: Spoil, why: str) -> None:
    """A link, a file, another directory and one with something else in it are not removed, and neither is any file."""
    path = spoil(small)
    before = sorted(small.parent.rglob("*"))
    refused(path, why)
    assert sorted(small.parent.rglob("*")) == before


@as_root
def test_the_database_of_a_deleted_directory_is_found(noted: Path) -> None:
    """As root, a database whose data directory was deleted by hand is listed, and removed by that path."""
    home = postgres.home_of(noted)
    shutil.rmtree(noted)
    assert (listed(noted) or {})["isGone"] is True
    assert celeriac_data("remove", noted, "--yes").exit_code == Exit.FINE
    assert home is not None
    assert (home.exists(), listed(noted)) == (False, None)


@as_root
def test_a_copy_does_not_take_the_database_of_the_original(noted: Path) -> None:
    """A copy of a data directory, which leads to the same database, is not removed while the original is there."""
    copy = noted.with_name("copy")
    shutil.copytree(noted, copy)
    os.chmod(copy, 0o700)  # noqa: PTH101 - whatever copytree has kept
    refused(copy, f"is that of {noted}, of which it is a copy")
    assert postgres.home_of(noted) is not None


def refused(path: Path, why: str) -> None:
    """It is not removed, for a reason in one line."""
    end = celeriac_data("remove", path, "--yes")
    assert (end.exit_code, end.stderr.count("\n")) == (Exit.MISUSED, 1), end.stderr
    assert why in end.stderr


def test_every_file_of_ours_is_known() -> None:
    """The files that API and workers keep in a data directory are known as ours, so that it can be removed."""
    assert {LOG_FILE, SECRET_FILE, Settings().exports.name} <= directories.OURS
