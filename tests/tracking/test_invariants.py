"""`celeriac verify` finds nothing wrong with healthy rows, sees one instant and writes nothing."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from sqlalchemy import NullPool, create_engine, make_url, text
from sqlalchemy.exc import InternalError

from tests.holding import fill, limited
from tests.tracked import Tracked, wish
from tests.verifying import NAMES, broken, findings, live_through_everything
from tracking import jobs
from tracking.admission.rule import Limits
from tracking.db import Database
from tracking.models import Fence
from tracking.reads import invariants
from tracking.reads.invariants import CHECKS, Check, Finding, Position

BRIEFLY = timedelta(milliseconds=200)


def test_healthy_rows_break_nothing(pool: Database, tracked: Tracked) -> None:
    """A hundred jobs that have lived through everything break no check of verify."""
    live_through_everything(tracked, 5)
    found = findings(pool)
    assert [finding.name for finding in found] == NAMES
    assert all(finding == Finding(finding.name, finding.guarantee, finding.sentence, 0) for finding in found)


def test_an_empty_database_breaks_nothing(pool: Database, tracked: Tracked) -> None:
    """An empty database breaks no check of verify."""
    assert broken(pool) == {}


def test_the_documented_checks_are_the_checks() -> None:
    """docs/operations.md has a row for each, and no other."""
    document = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    rows = [f"| `{check.name}` | {check.guarantee} | {check.sentence} |" for check in CHECKS]
    assert re.findall(r"^\| `\w+` \| \d+ \|.*$", document, re.MULTILINE) == rows


def test_counts_that_miss_a_row_are_caught(database: Database, database_url: str) -> None:
    """Verify finds an index that has lost a row."""
    administrator = create_engine(
        make_url(database_url).set(username="postgres"), isolation_level="AUTOCOMMIT", poolclass=NullPool
    )
    forget = text("UPDATE pg_index SET indisready = :ready WHERE indrelid = 'jobs'::regclass AND NOT indisunique")
    with database.autocommit() as connection:
        live_through_everything(Tracked(connection), 1)
    assert broken(database) == {}
    with administrator.connect() as connection:
        connection.execute(forget, {"ready": False})
    database.close()
    with database.autocommit() as connection:
        Tracked(connection).submit()
    with administrator.connect() as connection:
        connection.execute(forget, {"ready": True})
    database.close()
    found = [finding for finding in findings(database) if not finding.holds]
    assert [(finding.name, finding.violations, finding.examples) for finding in found] == [("stats", 1, ("acme",))]


def test_what_the_limit_was_lowered_under_may_go_on(pool: Database, tracked: Tracked) -> None:
    """Verify accepts running jobs above a limit that was lowered, but no start above it."""
    two = limited(pool, tracked, 2)
    two.start(2)
    two.set_limit(1)
    assert broken(pool, two.limits) == {}
    jobs.claim(tracked.connection, [wish(Fence(job_id, 1)) for job_id in fill(tracked, 1)])
    assert broken(pool, two.limits) == {"limit": 1}


def test_a_body_that_is_still_stopping_counts_as_running(pool: Database, tracked: Tracked) -> None:
    """Verify counts a stopping body as running."""
    tracked.put_into("stopping")
    tracked.put_into("running")
    assert broken(pool, Limits(2)) == {}
    assert broken(pool, Limits(1)) == {"limit": 2}


def test_without_a_limit_any_number_may_run(pool: Database, tracked: Tracked) -> None:
    """With a limit of 0 verify accepts any number of running jobs."""
    for _ in range(10):
        tracked.put_into("running")
    assert broken(pool, Limits(0)) == {}


def test_five_examples_are_enough(pool: Database, tracked: Tracked) -> None:
    """Verify names at most five examples of a broken check."""
    for _ in range(7):
        tracked.submit()
    tracked.connection.execute(text("DELETE FROM history"))
    found = next(finding for finding in findings(pool) if not finding.holds)
    assert (found.name, found.violations, len(set(found.examples))) == ("created_once", 7, 5)


def test_jobs_that_run_meanwhile_break_nothing(pool: Database, tracked: Tracked) -> None:
    """What is written while verify looks makes it report nothing: it sees a job and its history at one instant."""
    stop = Event()

    def run_on() -> int:
        count = 0
        with pool.autocommit() as connection:
            while not stop.is_set():
                live_through_everything(Tracked(connection), 1)
                count += 1
        return count

    with ThreadPoolExecutor(2) as threads:
        runs = [threads.submit(run_on) for _ in range(2)]
        found = [broken(pool) for _ in range(8)]
        stop.set()
        assert min(run.result() for run in runs) > 0
    assert found == [{}] * 8


def test_single_jobs_are_looked_at_by_ranges(pool: Database, tracked: Tracked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify walks over all jobs a few at a time, finds what breaks a check in any, and goes on where it was."""
    monkeypatch.setattr(invariants, "JOBS", 3)
    ids = sorted(tracked.submit().id for _ in range(10))
    tracked.connection.execute(text("DELETE FROM history WHERE job_id = ANY(:ids)"), {"ids": [ids[1], ids[8]]})
    places: list[Position] = []
    found = findings(pool, show=places.append)
    assert [place.next_id for place in places] == [ids[3], ids[6], ids[9], None]
    assert {each.name: each.violations for each in found if not each.holds} == {"created_once": 2}
    resumed: list[Position] = []
    assert findings(pool, begin=places[1], show=resumed.append) == found
    assert resumed == places[2:]


def test_a_lost_job_is_found_wherever_its_id_lies(pool: Database, tracked: Tracked) -> None:
    """History without a job is found below the first id, between two and above the last one."""
    ids = sorted(tracked.submit().id for _ in range(5))
    gone = [ids[0], ids[2], ids[4]]
    tracked.connection.execute(text("DELETE FROM jobs WHERE id = ANY(:ids)"), {"ids": gone})
    assert broken(pool) == {"not_lost": 3}


def test_history_may_outlive_a_job_that_ended_a_week_ago(pool: Database, tracked: Tracked) -> None:
    """History without its job is in order when that ended more than a week ago, whatever was added to it since."""
    old, young = tracked.run(), tracked.run()
    tracked.finished_ago(old, timedelta(days=8))
    tracked.finished_ago(young, timedelta(days=6))
    jobs.claim(tracked.connection, [wish(old.fence)])
    tracked.connection.execute(text("DELETE FROM jobs"))
    assert broken(pool) == {"not_lost": 1}


def test_only_what_has_changed_since_then_is_looked_at(pool: Database, tracked: Tracked) -> None:
    """With `since`, jobs that have not changed since then are left out."""
    old, young = tracked.run(), tracked.run()
    tracked.finished_ago(old, timedelta(days=8))
    tracked.connection.execute(text("UPDATE history SET from_status = 'retrying' WHERE event = 'started'"))
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    assert [each.violations for each in findings(pool) if each.name == "path"] == [2]
    assert [each.examples for each in findings(pool, since=an_hour_ago) if each.name == "path"] == [(str(young.id),)]


def test_verification_cannot_write(pool: Database, tracked: Tracked, monkeypatch: pytest.MonkeyPatch) -> None:
    """The transaction of verify is read-only."""
    tracked.submit()

    def delete_all(connection: Any, *_: Any) -> tuple[int, tuple[str, ...]]:
        connection.execute(text("DELETE FROM jobs"))
        return 0, ()

    monkeypatch.setattr(invariants, "CHECKS", (CHECKS[0], Check("any", 1, "Any.", find=delete_all)))
    with pytest.raises(InternalError, match="read-only"):
        findings(pool)
    assert len(tracked.all()) == 1


def test_a_check_that_takes_too_long_is_said_to_be_unchecked(pool: Database, tracked: Tracked) -> None:
    """A check of verify that takes too long is neither ok nor broken, and the others are made."""
    with pool.begin() as connection:
        connection.execute(text("LOCK TABLE history IN ACCESS EXCLUSIVE MODE"))
        found = {finding.name: finding for finding in findings(pool, timeout=BRIEFLY)}
    assert (found["path"].violations, found["path"].holds) == (None, False)
    assert found["keys"].holds
    assert found["stats"].holds


def test_counts_of_what_is_due_later_are_those_of_the_rows(pool: Database, tracked: Tracked) -> None:
    """`verify` counts queued jobs whether they are pending, scheduled, or held up by something else."""
    tracked.submit(scheduled_at=datetime.now(UTC) + timedelta(days=365))
    tracked.submit()
    assert {finding.name: finding.holds for finding in findings(pool)}["stats"]
