"""The weeks of the history: made ahead, never in anybody's way, and gone when the jobs of their rows are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from tasks import app
from tasks.leader.pruning import Pruning
from tasks.leader.weeks import Weeks
from tests.aged import DAY, POLICY, removed
from tests.handling import workplace
from tests.tracked import Tracked
from tests.verifying import broken
from tests.weeks import add_weeks
from tracking import audit, partitions, retention, thinning
from tracking.audit import Sought
from tracking.db import Database, is_locked
from tracking.models import JobRecord
from tracking.origins import Origin, Source
from tracking.partitions import AHEAD, DEFAULT, WEEK, Partition
from tracking.reads import lists
from tracking.reads.tail import Tail
from tracking.states import Status
from tracking.thinning import Thinned

CAME = Origin(Source.API, "acme", "10.0.0.1", "r-1")
LIES_IN = text("SELECT DISTINCT tableoid::regclass::text FROM history WHERE job_id = :id ORDER BY 1")
PARTS = text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'history'::regclass ORDER BY 1")


@pytest.fixture
def own(database: Database) -> Iterator[Tracked]:
    """Jobs on a database of this test alone, whose partitions it changes."""
    with database.autocommit() as connection:
        yield Tracked(connection)


def weeks(database: Database, count: int) -> list[Partition]:
    """So many more, before the others."""
    with database.begin() as connection:
        return add_weeks(connection, count)


def ran_in(own: Tracked, week: Partition, situation: str = "succeeded", **changes: object) -> JobRecord:
    """A job that came to its end in the middle of that week."""
    assert week.since is not None
    job = own.bring(own.submit(**changes), situation)
    now = own.connection.execute(text("SELECT now()")).scalar_one()
    return own.finished_ago(job, now - week.since - WEEK / 2)


def places(own: Tracked, job: JobRecord) -> list[str]:
    """The partitions that have rows of a job."""
    return list(own.connection.execute(LIES_IN, {"id": job.id}).scalars())


def thin_all(database: Database) -> list[str]:
    """Thin what is to be thinned; the names of those partitions."""
    thinned: list[str] = []
    while True:
        with database.autocommit() as connection:
            found = thinning.next_to_thin(connection, POLICY.of_most, POLICY.longest)
        if found is None:
            return thinned
        *_, end = thinning.thin(database, found)
        assert end.is_done
        thinned.append(found.name)


def test_weeks_are_there_before_they_begin(own: Tracked) -> None:
    """A migrated database has a partition for this week and for each of the next four, one after another."""
    found = partitions.partitions(own.connection)
    assert [each.until for each in found[:-1]] == [each.since for each in found[1:]]
    now = own.connection.execute(text("SELECT now()")).scalar_one()
    assert found[0].since is not None
    assert found[0].since <= now < found[0].until
    assert len(found) == 1 + AHEAD
    assert partitions.missing(own.connection) == []
    assert places(own, own.run()) == [found[0].name]


def test_rows_without_a_week_are_caught_and_moved(own: Tracked, database: Database) -> None:
    """Rows for whose week there is no partition go to the default one, and from there to the week once it is made."""
    week = partitions.partitions(own.connection)[0]
    own.connection.execute(text(f"DROP TABLE {week.name}"))
    job = own.run()
    before = lists.timeline(own.connection, job.id)
    assert places(own, job) == [DEFAULT]
    [monday] = partitions.missing(own.connection)
    assert monday == week.since
    with database.begin() as connection:
        assert partitions.add(connection, monday) == 3
    assert partitions.missing(own.connection) == []
    assert places(own, job) == [week.name]
    assert lists.timeline(own.connection, job.id) == before


def test_too_many_rows_are_not_moved_while_others_wait(
    own: Tracked, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More rows than can be moved in a moment stay in the default partition."""
    own.connection.execute(text(f"DROP TABLE {partitions.partitions(own.connection)[0].name}"))
    job = own.run()
    monkeypatch.setattr(partitions, "MOST_MOVED", 2)
    [monday] = partitions.missing(own.connection)
    with pytest.raises(partitions.TooManyRows), database.begin() as connection:
        partitions.add(connection, monday)
    assert places(own, job) == [DEFAULT]


def test_a_week_that_cannot_be_made_now_holds_nobody_up(own: Tracked, database: Database) -> None:
    """While somebody reads the history a week is not made, which takes a moment to find out; writers go on."""
    week = partitions.partitions(own.connection)[-1]
    own.connection.execute(text(f"DROP TABLE {week.name}"))
    with reading(database):
        with database.begin() as connection, pytest.raises(OperationalError) as refused:
            partitions.add(connection, week.until - WEEK)
        own.run()
    assert is_locked(refused.value)
    with database.begin() as connection:
        partitions.add(connection, week.until - WEEK)
    assert partitions.missing(own.connection) == []


@contextmanager
def reading(database: Database) -> Iterator[None]:
    """A report, or pg_dump, that reads the history all the time."""
    with database.begin() as connection:
        connection.execute(text("SELECT count(*) FROM history"))
        yield


def is_over(own: Tracked, week: Partition) -> bool:
    """Whether all of its succeeded jobs are old enough to be removed."""
    now = own.connection.execute(text("SELECT now()")).scalar_one()
    return bool(week.until + POLICY.of_most < now)


def test_the_rows_of_removed_jobs_go_with_their_week(own: Tracked, database: Database) -> None:
    """The history of a removed job goes with its week, in which the rows of other jobs stay as they were."""
    past = weeks(database, 8)
    old, kept = ran_in(own, past[0], origin=CAME), ran_in(own, past[0], "failed")
    started = ran_in(own, past[0])
    ended_later = text("UPDATE history SET at = at + interval '7 days' WHERE job_id = :id AND event = 'completed'")
    own.connection.execute(ended_later, {"id": started.id})
    own.connection.execute(text("UPDATE jobs SET completed_at = now() WHERE id = :id"), {"id": started.id})
    before = {job.id: lists.timeline(own.connection, job.id) for job in (kept, started)}
    told = audit.find(own.connection, Sought("acme"), before_id=None, size=10)

    assert (removed(database).total, places(own, old)) == (1, [past[0].name])
    assert lists.timeline(own.connection, old.id) == []
    assert broken(database) == {"weeks": sum(is_over(own, week) for week in past)}
    assert audit.find(own.connection, Sought("acme"), before_id=None, size=10) == told

    over = [week.name for week in past if is_over(own, week)]
    assert thin_all(database) == over
    assert places(own, old) == []
    assert {job.id: lists.timeline(own.connection, job.id) for job in (kept, started)} == before
    assert audit.find(own.connection, Sought("acme"), before_id=None, size=10) == told
    assert [each.name for each in partitions.partitions(own.connection)[:3]] == [
        past[0].name,
        past[1].name,
        past[len(over)].name,  # three weeks are over at the beginning of a week, four later in it
    ]
    assert broken(database) == {}


def test_what_is_removed_later_takes_its_rows_along(own: Tracked, database: Database) -> None:
    """From a week that was thinned the rows of a job go with it; without rows the week is dropped."""
    past = weeks(database, 14)
    kept = ran_in(own, past[8], "failed")
    assert past[8].name in thin_all(database)
    assert places(own, kept) == [past[8].name]
    assert removed(database).total == 0
    policy = retention.Policy({**POLICY.by_status, Status.FAILED: 31 * DAY})
    assert removed(database, policy=policy).history == 3
    assert thin_all(database) == [past[8].name]
    assert past[8].name not in own.connection.execute(PARTS).scalars().all()


def test_a_job_that_is_removed_while_its_week_is_thinned_leaves_no_rows(own: Tracked, database: Database) -> None:
    """The rows of a job that is removed after they were copied go all the same, and the audit keeps what it did."""
    past = weeks(database, 8)
    gone, kept = ran_in(own, past[0], "failed", origin=CAME), ran_in(own, past[0], "failed", job_type="other")
    told = audit.find(own.connection, Sought("acme"), before_id=None, size=10)
    steps = thinning.thin(database, past[0])
    assert next(steps) == Thinned(past[0].name, kept=6, removed=0)
    policy = retention.Policy(POLICY.by_status, {gone.job_type: 31 * DAY})
    assert (removed(database, policy=policy).total, removed(database, policy=policy).history) == (1, 0)
    *_, end = steps
    assert end == Thinned(past[0].name, kept=3, removed=3, is_done=True)
    assert (places(own, gone), places(own, kept)) == ([], [past[0].name])
    assert audit.find(own.connection, Sought("acme"), before_id=None, size=10) == told


def test_of_two_who_thin_a_week_at_once_one_gives_up(own: Tracked, database: Database) -> None:
    """Of two who thin a week at the same time one does it and the other gives up; no row is lost or there twice."""
    past = weeks(database, 8)
    kept = [ran_in(own, past[0], "failed") for _ in range(2)]
    before = [lists.timeline(own.connection, job.id) for job in kept]
    first, second = thinning.thin(database, past[0]), thinning.thin(database, past[0])
    assert next(first).kept == next(second).kept == 6
    with pytest.raises(ProgrammingError, match="does not exist"):  # its copy is gone
        list(first)
    [copy] = own.connection.execute(thinning.LEFT).scalars().all()
    own.connection.execute(text(f"ALTER TABLE {copy} RENAME TO aside"))
    assert thin_all(database)[0] == past[0].name
    own.connection.execute(text(f"ALTER TABLE aside RENAME TO {copy}"))
    with pytest.raises(thinning.Overtaken):
        list(second)
    assert [lists.timeline(own.connection, job.id) for job in kept] == before
    assert thinning.next_to_thin(own.connection, POLICY.of_most, POLICY.longest) is None


def test_a_week_that_is_written_to_while_it_is_thinned_stays(own: Tracked, database: Database) -> None:
    """A row that somebody adds to a week while it is thinned is not lost."""
    past = weeks(database, 8)
    ran_in(own, past[0])
    steps = thinning.thin(database, past[0])
    next(steps)
    late = ran_in(own, past[0])
    *_, end = steps
    assert (end.kept, places(own, late)) == (6, [past[0].name])


def test_a_week_is_dropped_when_nobody_reads_it(own: Tracked, database: Database) -> None:
    """While somebody reads the history no week is dropped, and whoever writes waits for less than a second."""
    past = weeks(database, 8)
    ran_in(own, past[0])
    removed(database)
    longest = 0.0
    with reading(database), ThreadPoolExecutor(1) as threads:
        steps = threads.submit(lambda: list(thinning.thin(database, past[0])))
        while not steps.done():
            began = time.monotonic()
            own.submit()
            longest = max(longest, time.monotonic() - began)
        assert is_locked(steps.exception())  # type: ignore[arg-type]
    assert longest < 1.0
    assert past[0] in partitions.partitions(own.connection)
    assert past[0].name in thin_all(database)


def test_the_leader_makes_and_removes_weeks(own: Tracked, database: Database, tmp_path: Path) -> None:
    """The leader makes the weeks that are missing, and thins one when all jobs that are old enough are removed."""
    past = weeks(database, 8)
    own.connection.execute(text(f"DROP TABLE {partitions.partitions(own.connection)[-1].name}"))
    kept = ran_in(own, past[0], "failed")
    for _ in range(3):
        ran_in(own, past[0])
    with workplace(database.engine.url.render_as_string(hide_password=False), tmp_path):
        pruning = Pruning(app.platform, most=2)
        leader = Weeks(app.platform, pruning)
        leader.add()
        assert partitions.missing(own.connection) == []
        assert (pruning.jobs(), leader.thin()) == (True, False)
        while pruning.jobs() or leader.thin():
            pass
    assert [each.name for each in partitions.partitions(own.connection) if each.thinned_at] == [past[0].name]
    assert own.events(kept) == ["created", "started", "failed"]


def test_a_tail_reads_over_weeks_in_the_order_of_ids(own: Tracked, database: Database) -> None:
    """A tail tells rows by their numbers, whichever week they lie in."""
    past = weeks(database, 2)
    ran = [ran_in(own, past[1]), ran_in(own, past[0]), own.run()]
    told = Tail(0).poll(own.connection)
    assert [each.id for each in told] == sorted(each.id for each in told)
    assert [each.job_id for each in told] == [job.id for job in ran for _ in range(3)]


def test_the_reads_of_a_job_leave_out_the_weeks_before_it(own: Tracked, database: Database) -> None:
    """What is read of a job's history is looked for from the week of its creation on."""
    past = weeks(database, 6)
    job = ran_in(own, past[5])
    executed: list[tuple[str, Any]] = []

    def record(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        executed.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", record)
    assert len(lists.timeline(own.connection, job.id)) == 3
    event.remove(database.engine, "before_cursor_execute", record)
    assert len(executed) == 2
    for statement, parameters in executed:
        plan = own.connection.exec_driver_sql(f"EXPLAIN ANALYZE {statement}", parameters).scalars().all()
        read = {line for line in plan if "history_2" in line and "never executed" not in line}
        assert read
        assert not [line for line in read for week in past[:5] if week.name in line]
