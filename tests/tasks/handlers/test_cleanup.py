"""cleanup: it removes the files of its own organization that nobody can want any more."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from tasks import app
from tasks.exports.keeping import upload_store
from tasks.exports.stores import DRAFTS
from tasks.handlers.cleanup import CleanUp, cleanup
from tests.exporting import DAY, add_export, add_file
from tests.handling import call
from tests.tracked import Tracked
from tracking import uploads
from tracking.db import Database
from tracking.models import Owner
from tracking.origins import By
from tracking.uploads import NewFile


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
    would = call(cleanup, CleanUp(older_than_days=30, dry_run=True))
    assert {path.name for path in place.iterdir()} - {DRAFTS} >= set(gone)
    result = call(cleanup, CleanUp(older_than_days=30))
    assert {**would, "dryRun": False} == result
    removed = {"expiredExports": 1, "invalidExports": 1, "orphanedExports": 1, "drafts": 0, "freedBytes": size}
    assert {name: result[name] for name in (*removed, "keptExports")} == {**removed, "keptExports": 3}
    assert {each["name"] for each in result["removed"]} == set(gone)
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
    assert {value for value in call(cleanup, CleanUp()).values() if value != []} == {0}


def test_cleanup_removes_uploads_that_have_expired_and_orphans(place: Path, database: Database) -> None:
    """Cleanup removes expired uploads, contents without a row and rows without a content, of its organization alone."""
    kept, expired, orphan, young, bare, foreign = (uuid4() for _ in range(6))
    for file_id, organization, age in (
        *((kept, "acme", 0), (expired, "acme", 0), (orphan, "acme", 0.1), (young, "acme", 0)),
        (foreign, "globex", 0.1),
    ):
        store = upload_store(app.platform.settings, organization)
        (store.drafts / "x").write_bytes(b"12345")
        store.keep(store.drafts / "x", str(file_id), "application/octet-stream")
        path = app.platform.settings.uploads / organization / str(file_id)
        os.utime(path, (time.time() - age * DAY,) * 2)
    lifetimes = {kept: timedelta(days=1), expired: timedelta(seconds=-1), bare: timedelta(days=1)}
    with database.begin() as connection:
        for file_id, lifetime in lifetimes.items():
            new = NewFile(file_id, "x.csv", 5, "")
            uploads.add(connection, Owner("acme", "u1"), new, most=9, lifetime=lifetime, by=By("u1", None))
    would = call(cleanup, CleanUp(dry_run=True))
    done = call(cleanup, CleanUp())
    assert {**would, "dryRun": False} == done
    assert (done["expiredFiles"], done["orphanedFiles"], done["keptFiles"], done["freedBytes"]) == (1, 2, 1, 10)
    left = {path.name for path in app.platform.settings.uploads.rglob("*") if path.is_file()}
    assert left == {str(kept), str(young), str(foreign)}
    with database.autocommit() as connection:
        assert uploads.known(connection, "acme") == [(kept, False)]
    assert call(cleanup, CleanUp())["removed"] == []


def test_cleanup_names_jobs_whose_file_is_gone(place: Path, database: Database) -> None:
    """Cleanup reports results whose file is gone before its time, and changes nothing of them."""
    with database.autocommit() as connection:
        tracked = Tracked(connection)
        for organization in ("globex", "acme"):
            job = tracked.start(tracked.submit(job_type="export_report", owner=Owner(organization, "u1")))
            mine = tracked.end(job, result={"downloadUrl": f"/v1/exports/{job.id}-1.csv"})
    done = call(cleanup, CleanUp())
    assert (done["missingExports"], done["missing"]) == (1, [str(mine.id)])
    add_file(mine.id, [[1, "x"]])
    assert call(cleanup, CleanUp())["missingExports"] == 0


def test_cleanup_forgets_old_keys_only_when_it_is_told_to(place: Path, database: Database) -> None:
    """Idempotency keys of jobs that ended long ago are forgotten when that was asked for, others stay."""
    with database.autocommit() as connection:
        tracked = Tracked(connection)
        old, new, other = (
            tracked.finished_ago(
                tracked.run(owner=Owner(organization, "u1"), idempotency_key=str(days), request_hash="h"),
                timedelta(days=days),
            )
            for organization, days in (("acme", 9), ("acme", 1), ("globex", 8))
        )
    assert call(cleanup, CleanUp())["forgottenKeys"] == 0
    assert call(cleanup, CleanUp(keys_older_than_days=5, dry_run=True))["forgottenKeys"] == 1
    assert call(cleanup, CleanUp(keys_older_than_days=5))["forgottenKeys"] == 1
    assert call(cleanup, CleanUp(keys_older_than_days=5))["forgottenKeys"] == 0
    with database.autocommit() as connection:
        again = Tracked(connection).submit(idempotency_key="9", request_hash="other")
        assert again.id != old.id
        same = Tracked(connection).submit(idempotency_key="1", request_hash="h")
        assert same.id == new.id
        assert other.id not in (again.id, same.id)
