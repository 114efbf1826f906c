"""The files of exports: complete or not there, readable by us alone, and found by their own names only."""

from __future__ import annotations

import stat
from pathlib import Path
from uuid import uuid4

import pytest

from tasks.exports.files import Export, ExportNotFound, drafting, export_of, find_export
from tasks.exports.stores import DRAFTS, Directory
from tests.exporting import everything_in, export, file_of
from tests.handling import add_job
from tracking.db import Database


def test_only_we_can_read_exports(place: Path) -> None:
    """Export files have mode 0600, in directories of mode 0700."""
    path = file_of(export("numbers"))
    modes = [stat.S_IMODE(entry.stat().st_mode) for entry in (path, place, place / DRAFTS, place.parent)]
    assert modes == [0o600, 0o700, 0o700, 0o700]


def test_a_directory_that_is_there_keeps_its_mode(place: Path) -> None:
    """A directory of exports that exists keeps its mode."""
    place.mkdir(parents=True)
    place.chmod(0o750)
    export("numbers")
    assert stat.S_IMODE(place.stat().st_mode) == 0o750


def test_what_a_killed_worker_left_is_removed_by_the_next_attempt(place: Path) -> None:
    """An attempt removes the drafts that killed attempts of the same job left."""
    mine, other = uuid4(), uuid4()
    for job_id in (mine, other):
        (place / DRAFTS / f"{job_id}-1.csv.x").mkdir(parents=True)
    with drafting(Directory(place), mine, 2, "csv"):
        assert sorted(path.name for path in (place / DRAFTS).glob("*-1.csv.x")) == [f"{other}-1.csv.x"]


def test_a_file_has_its_name_only_when_it_is_complete(place: Path) -> None:
    """An export has its name only after it was published."""
    job_id = uuid4()
    with drafting(Directory(place), job_id, 1, "csv") as draft:
        draft.file.write(b"x")
        draft.finish()
        assert find_export(Directory(place), f"{job_id}-1.csv") is None
        assert draft.publish() == 1
    assert find_export(Directory(place), f"{job_id}-1.csv") == Export(f"{job_id}-1.csv", job_id, 1)


def test_a_later_attempt_replaces_the_file_of_an_earlier_one(place: Path) -> None:
    """An attempt replaces the published file of an earlier attempt of its job."""
    job_id = uuid4()
    for attempt in (1, 2):
        with drafting(Directory(place), job_id, attempt, "csv") as draft:
            draft.publish()
    assert everything_in(place) == [f"{job_id}-2.csv"]


HOSTILE_NAMES = [
    "",
    ".",
    "..",
    ".drafts",
    "../secret",
    "../../etc/passwd",
    "/etc/passwd",
    "{id}-1.csv/",
    "./{id}-1.csv",
    "../exports/{id}-1.csv",
    "..%2fexports%2f{id}-1.csv",
    "{id}-1.csv\x00",
    "{id}-1.csv\n",
    "{id}-1.exe",
    "{id}-\u0661.csv",
    "{id}-1.CSV",
    "x{id}-1.csv",
    "{id}-1.csv.bak",
    "{id}-" + "1" * 300 + ".csv",
]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_only_the_servers_own_names_lead_to_a_file(name: str, place: Path) -> None:
    """Only a name that the server makes leads to an export."""
    job_id = uuid4()
    with drafting(Directory(place), job_id, 1, "csv") as draft:
        draft.publish()
    (place.parent / "secret").write_text("secret")
    assert find_export(Directory(place), f"{job_id}-1.csv") is not None
    assert find_export(Directory(place), name.format(id=job_id)) is None


def test_a_link_is_not_an_export(place: Path, tmp_path: Path) -> None:
    """A link or a directory with the name of an export is none."""
    place.mkdir(parents=True)
    link, directory = uuid4(), uuid4()
    (place / f"{link}-1.csv").symlink_to(tmp_path / "numbers.sql")
    (place / f"{directory}-1.csv").mkdir()
    assert [find_export(Directory(place), f"{name}-1.csv") for name in (link, directory, uuid4())] == [None, None, None]


@pytest.mark.parametrize(
    ("organization", "outcome", "attempt"),
    [("globex", "succeeded", 1), ("acme", "failed", 1), ("acme", "succeeded", 2)],
)
def test_only_the_accepted_file_of_ones_own_job_is_found(
    organization: str, outcome: str, attempt: int, place: Path, database: Database
) -> None:
    """Only the accepted file of the own organization's job is found."""
    job_id = add_job(database, organization, outcome=outcome)
    with drafting(Directory(place), job_id, attempt, "csv") as draft:
        draft.publish()
    with pytest.raises(ExportNotFound):
        export_of(database, Directory(place), "acme", f"{job_id}-{attempt}.csv")
