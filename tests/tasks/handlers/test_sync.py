"""sync: it copies the exports of its organization to another directory, and checks the copies."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path
from typing import Any

import pytest

from tasks.exports.files import ExportNotFound
from tasks.handlers.sync import CopyDamaged, SyncExports, sync
from tests.exporting import add_export
from tests.handling import call, workplace
from tracking.db import Database
from tracking.errors import ConfigurationError


def test_sync_copies_all_valid_exports_of_the_organization(place: Path, database: Database, tmp_path: Path) -> None:
    """Sync copies the organization's valid exports byte for byte into its own private directory."""
    name = add_export(database)
    add_export(database, outcome="failed")
    add_export(database, organization="globex")
    result = call(sync, SyncExports())
    copy = tmp_path / "mirror" / "acme" / name
    digest = hashlib.sha256((place / name).read_bytes()).hexdigest()
    size = copy.stat().st_size
    assert result == {"copied": 1, "unchanged": 0, "copiedBytes": size, "files": [{"name": name, "sha256": digest}]}
    assert copy.read_bytes() == (place / name).read_bytes()
    assert [path.name for path in copy.parent.iterdir()] == [name]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600


def test_sync_again_changes_nothing(place: Path, database: Database, tmp_path: Path) -> None:
    """A repeated sync copies only what is missing or damaged."""
    names = [add_export(database) for _ in range(3)]
    call(sync, SyncExports())
    (tmp_path / "mirror" / "acme" / names[0]).write_text("damaged")
    (tmp_path / "mirror" / "acme" / names[1]).unlink()
    result = call(sync, SyncExports())
    assert (result["copied"], result["unchanged"]) == (2, 1)
    assert call(sync, SyncExports(exports=(names[0],)))["unchanged"] == 1


@pytest.mark.parametrize("organization", ["../escape", "..", ".", "a/b", "/etc", "Ümläut & Co"])
def test_sync_stays_in_its_directory_whatever_the_organization_is_called(
    organization: str, place: Path, database: Database, tmp_path: Path
) -> None:
    """An organization's id leads sync to no other directory."""
    add_export(database, organization=organization)
    call(sync, SyncExports(), organization)
    (directory,) = (tmp_path / "mirror").iterdir()
    assert len(list(directory.iterdir())) == 1
    assert not (tmp_path / "escape").exists()


def test_sync_does_not_copy_another_organizations_export(place: Path, database: Database) -> None:
    """Sync does not copy another organization's export, even by its name."""
    with pytest.raises(ExportNotFound):
        call(sync, SyncExports(exports=(add_export(database, organization="globex"),)))


def test_sync_without_a_destination_says_what_to_set(
    place: Path, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sync without CELERIAC_SYNC_DIR fails once and names the setting."""
    monkeypatch.delenv("CELERIAC_SYNC_DIR")
    with workplace(database_url, tmp_path), pytest.raises(ConfigurationError, match="CELERIAC_SYNC_DIR is not set"):
        call(sync, SyncExports())


def test_sync_to_a_missing_mount_is_worth_another_attempt(place: Path, database: Database, tmp_path: Path) -> None:
    """Sync to a missing directory is retried and does not make the directory."""
    (tmp_path / "mirror").rmdir()
    with pytest.raises(OSError, match="is not there"):
        call(sync, SyncExports())
    assert not (tmp_path / "mirror").exists()


def test_sync_notices_a_damaged_copy(
    place: Path, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sync reads a copy back and compares it before the file gets its name."""
    add_export(database)
    monkeypatch.setattr("tasks.handlers.sync.shutil.copyfileobj", add_noise)
    with pytest.raises(CopyDamaged):
        call(sync, SyncExports())
    assert list((tmp_path / "mirror" / "acme").iterdir()) == []


def add_noise(_reader: Any, writer: Any, _size: int) -> None:
    """A copy that goes wrong."""
    writer.write(b"noise")
