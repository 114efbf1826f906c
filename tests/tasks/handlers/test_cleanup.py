"""cleanup: it removes the files of its own organization that nobody can want any more."""

from __future__ import annotations

import os
import time
from pathlib import Path
from uuid import uuid4

from tasks.exports.files import DRAFTS
from tasks.handlers.cleanup import CleanUp, cleanup
from tests.exporting import DAY, add_export, add_file
from tests.handling import call
from tracking.db import Database


def test_cleanup_removes_expired_invalid_and_orphaned_files_of_ones_own(place: Path, database: Database) -> None:
    """Cleanup removes expired, invalid and orphaned files of its own organization, and counts them."""
    kept = add_export(database, days_old=29)
    running = add_export(database, outcome=None, days_old=1)
    foreign = [add_export(database, organization="globex", days_old=days, outcome="failed") for days in (1, 400)]
    fresh_failure = add_export(database, outcome="failed")
    young_orphan = add_file(uuid4(), [[1, "x"]], days_old=1)
    gone = [
        add_export(database, days_old=31),
        add_export(database, outcome="failed", days_old=0.1),
        add_file(uuid4(), [[1, "x"]], days_old=31),
    ]
    size = sum((place / name).stat().st_size for name in gone)
    result = call(cleanup, CleanUp(older_than_days=30))
    removed = {"expiredExports": 1, "invalidExports": 1, "orphanedExports": 1, "drafts": 0, "freedBytes": size}
    assert result == {**removed, "keptExports": 3}
    left = {path.name for path in place.iterdir()} - {DRAFTS}
    assert left == {kept, running, *foreign, fresh_failure, young_orphan}


def test_cleanup_removes_drafts_that_nobody_has_written_to_for_a_day(place: Path) -> None:
    """Cleanup removes drafts that were not written to for a day, and keeps those of running exports."""
    for name, age in (("old", DAY + 60), ("busy", DAY + 60), ("new", 0)):
        draft = place / DRAFTS / name
        draft.mkdir(parents=True)
        (draft / "file").touch()
        now = time.time()
        os.utime(draft / "file", (now - age * (name == "old"),) * 2)
        os.utime(draft, (now - age,) * 2)
    assert call(cleanup, CleanUp())["drafts"] == 1
    assert {path.name for path in (place / DRAFTS).iterdir()} == {"busy", "new"}


def test_cleanup_without_any_export_finds_nothing(place: Path) -> None:
    """Cleanup without a directory of exports finds nothing."""
    assert set(call(cleanup, CleanUp()).values()) == {0}
