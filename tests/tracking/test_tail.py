"""The tail of the history, step by step: what it waits for, and what it does not wait for."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, text

from tests.tracked import ACME, Tracked
from tracking import jobs
from tracking.db import Database
from tracking.event_tables import EventType
from tracking.models import Owner, Scope
from tracking.reads import tail
from tracking.reads.tail import MOST_MARKS, Narrowed, SequenceReset, Tail
from tracking.states import Event

EVERYTHING = Narrowed()
OCCUR = text(
    """
    INSERT INTO events (id, organization_id, user_id, job_type, event, subject_id)
    VALUES (nextval('history_id_seq'), :organization, :user, 'count_words', 'schedule.fired', :subject)"""
)


@pytest.fixture
def follower(tracked: Tracked) -> Tail:
    """A tail that has begun."""
    follower = Tail()
    assert follower.poll(tracked.connection) == ()
    assert follower.position is not None
    return follower


def ids(follower: Tail, tracked: Tracked) -> list[UUID | None]:
    """The jobs that it tells of now."""
    return [happening.job_id for happening in follower.poll(tracked.connection)]


@pytest.fixture
def writing(pool: Database) -> Iterator[Tracked]:
    """A transaction that is open for the whole test."""
    with pool.begin() as connection:
        yield Tracked(connection)


def test_it_tells_what_was_committed_after_it_began(follower: Tail, tracked: Tracked) -> None:
    """A tail tells what is committed after it has begun, once, with whose job it is about."""
    job = tracked.submit(project_id="p1", priority=3)
    (told,) = follower.poll(tracked.connection)
    assert (told.job_id, told.organization_id, told.user_id, told.project_id) == (job.id, "acme", "u1", "p1")
    assert (told.event, told.detail["priority"]) == (Event.CREATED, 3)
    assert follower.poll(tracked.connection) == ()


def test_what_nobody_wants_is_passed_by(follower: Tail, tracked: Tracked) -> None:
    """While nobody listens the tail moves on without reading a row; what is committed after that is told."""
    tracked.submit()
    assert follower.poll(tracked.connection, is_wanted=False) == ()
    job = tracked.submit()
    assert ids(follower, tracked) == [job.id]


def test_it_waits_for_what_was_being_written(follower: Tail, tracked: Tracked, pool: Database) -> None:
    """A row that commits after a younger one is told before it: the tail waits for its transaction."""
    with pool.begin() as connection:
        first = Tracked(connection).submit()
        second = tracked.submit()
        assert ids(follower, tracked) == []
        assert follower.is_held
    assert ids(follower, tracked) == [first.id, second.id]
    assert not follower.is_held


def test_it_does_not_wait_for_what_began_later(follower: Tail, tracked: Tracked, pool: Database) -> None:
    """Writers one after another do not keep the tail waiting for ever: it waits for those that were there."""
    with pool.begin() as one:
        first = Tracked(one).submit()
        assert ids(follower, tracked) == []
        with pool.begin() as other:
            Tracked(other).submit()
            one.commit()
            assert ids(follower, tracked) == [first.id]


def test_what_was_rolled_back_is_not_waited_for(follower: Tail, tracked: Tracked, pool: Database) -> None:
    """The numbers of rows that were rolled back leave no hole that a tail waits for."""
    with pool.begin() as connection:
        Tracked(connection).submit()
        connection.rollback()
    job = tracked.submit()
    assert ids(follower, tracked) == [job.id]


def test_a_new_tail_begins_behind_what_is_being_written(writing: Tracked, tracked: Tracked) -> None:
    """A tail that begins while a row is written begins when that is over: it has left out nothing that came later."""
    writing.submit()
    follower = Tail()
    assert follower.poll(tracked.connection) == ()
    assert follower.position is None
    writing.connection.commit()
    assert follower.poll(tracked.connection) == ()
    assert follower.position == tail.last_number(tracked.connection)


def test_its_marks_are_bounded(follower: Tail, writing: Tracked, tracked: Tracked) -> None:
    """While one transaction keeps a tail waiting, what it remembers stays small, and nothing is left out."""
    first = writing.submit()
    others = []
    for _ in range(MOST_MARKS + 10):
        others.append(tracked.submit().id)
        assert ids(follower, tracked) == []
    writing.connection.commit()
    told = ids(follower, tracked) + ids(follower, tracked)
    assert told == [first.id, *others]


def test_who_keeps_it_waiting_can_be_told(follower: Tail, writing: Tracked, tracked: Tracked) -> None:
    """The process of the database that keeps the tail waiting is named."""
    writing.submit()
    pid = writing.connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    follower.poll(tracked.connection)
    assert pid in tail.holders(tracked.connection)


def test_a_restored_database_is_noticed(database: Database) -> None:
    """A tail of a database whose numbers have gone back says so, instead of waiting for them to grow."""
    with database.autocommit() as connection:
        follower = Tail()
        for _ in range(2):
            Tracked(connection).submit()
        follower.poll(connection)
        connection.execute(text("ALTER SEQUENCE history_id_seq RESTART"))
        with pytest.raises(SequenceReset):
            follower.poll(connection)


def missed(
    tracked: Tracked, after: int, scope: Scope = ACME, narrowed: Narrowed = EVERYTHING
) -> list[UUID | None] | None:
    """The jobs that a resumed stream hears of."""
    until = tail.last_number(tracked.connection)
    found = tail.missed(tracked.connection, scope, narrowed, after=after, until=until)
    return None if found is None else [happening.job_id for happening in found]


def test_what_was_missed_is_what_the_caller_sees(tracked: Tracked) -> None:
    """A resumed stream hears of jobs of its organization and user alone, narrowed as it asks."""
    before = tracked.submit()
    start = tail.last_number(tracked.connection)
    mine = tracked.submit(project_id="p1")
    others = tracked.submit(owner=Owner("acme", "u2"), job_type="other")
    tracked.submit(owner=Owner("globex", "u1"))
    assert missed(tracked, start) == [mine.id, others.id]
    assert missed(tracked, start, Scope("acme", "u1")) == [mine.id]
    assert missed(tracked, start, narrowed=Narrowed(job_type="other")) == [others.id]
    assert missed(tracked, start, narrowed=Narrowed(project_id="p1")) == [mine.id]
    assert missed(tracked, start, narrowed=Narrowed(job_id=others.id)) == [others.id]
    assert missed(tracked, start, narrowed=Narrowed(job_id=before.id)) == []
    assert missed(tracked, tail.last_number(tracked.connection)) == []


def occur(connection: Connection, user: str = "u1", organization: str = "acme") -> None:
    """A schedule has made a job."""
    said = {"organization": organization, "user": user, "subject": uuid4()}
    connection.execute(OCCUR, said)


def test_what_happens_to_workflows_and_schedules_is_told_between(
    follower: Tail, tracked: Tracked, pool: Database
) -> None:
    """An event that commits late is waited for as a row of history is, and comes in the order of the ids."""
    with pool.begin() as connection:
        occur(connection)
        job = tracked.submit()
        assert ids(follower, tracked) == []
        assert follower.is_held
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        assert pid in tail.holders(tracked.connection)
    first, second = follower.poll(tracked.connection)
    assert (first.event, second.job_id) == (EventType.SCHEDULE_FIRED, job.id)
    assert first.id < second.id
    assert follower.poll(tracked.connection) == ()


def test_a_full_batch_of_both_leaves_nothing_out(
    follower: Tail, tracked: Tracked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When there are more of both than one read returns, the next reads return the rest, in order and once."""
    monkeypatch.setattr(tail, "BATCH", 4)
    for _ in range(7):
        occur(tracked.connection)
        tracked.submit()
    reads = [[each.id for each in follower.poll(tracked.connection)] for _ in range(5)]
    found = [each for read in reads for each in read]
    assert [len(read) for read in reads] == [4, 4, 4, 2, 0]
    assert found == sorted(set(found))


def test_what_was_missed_of_workflows_and_schedules_is_what_the_caller_sees(tracked: Tracked) -> None:
    """A resumed stream hears of its own organization and user alone, of a type if asked, and beside one job of none."""
    start = tail.last_number(tracked.connection)
    for user, organization in (("u1", "acme"), ("u2", "acme"), ("u1", "globex")):
        occur(tracked.connection, user, organization)
    assert missed(tracked, start) == [None, None]
    assert missed(tracked, start, Scope("acme", "u1")) == [None]
    assert missed(tracked, start, narrowed=Narrowed(job_type="other")) == []
    assert missed(tracked, start, narrowed=Narrowed(job_type="count_words")) == [None, None]
    assert missed(tracked, start, narrowed=Narrowed(job_id=tracked.submit().id)) is not None


def test_too_much_is_not_told(tracked: Tracked, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that has missed more than is looked through is told that it cannot be told."""
    start = tail.last_number(tracked.connection)
    monkeypatch.setattr(tail, "MOST_SCANNED", 2)
    for _ in range(2):
        tracked.submit()
    assert len(missed(tracked, start) or ()) == 2
    tracked.submit()
    assert missed(tracked, start) is None


def test_what_was_removed_is_not_told(tracked: Tracked) -> None:
    """A stream that was away while a job was removed is told so, however young all is that is left behind it."""
    start = tail.last_number(tracked.connection)
    tracked.submit(owner=Owner("globex", "u1"))
    gone = tracked.run()
    end = tail.last_number(tracked.connection)
    left = tracked.submit()
    jobs.delete_each(tracked.connection, [gone.id], ACME)
    assert missed(tracked, start) is None
    assert missed(tracked, end - 1) is None
    assert missed(tracked, end) == [left.id]
    assert len(missed(tracked, start, Scope("globex", None)) or ()) == 1


def test_of_what_is_old_all_is_told_that_is_left(tracked: Tracked) -> None:
    """A stream that was away for long, while nothing was removed, is told all of it."""
    start = tail.last_number(tracked.connection)
    job = tracked.submit()
    tracked.connection.execute(text("UPDATE history SET at = at - interval '2 years'"))
    assert missed(tracked, start) == [job.id]


def test_of_a_project_is_told_what_is_known(tracked: Tracked) -> None:
    """Narrowed to a project, a stream is told of no gap only while the projects of all that it missed are known."""
    start = tail.last_number(tracked.connection)
    tracked.submit(project_id="p1")
    gone = tracked.submit(project_id="p1")
    assert len(missed(tracked, start, narrowed=Narrowed(project_id="p1")) or ()) == 2
    tracked.connection.execute(text("DELETE FROM jobs WHERE id = :id"), {"id": gone.id})  # its history goes later
    assert missed(tracked, start, narrowed=Narrowed(project_id="p1")) is None
    assert len(missed(tracked, start) or ()) == 2


def test_what_is_narrowed_to_another_job_is_not_wanted(follower: Tail, tracked: Tracked) -> None:
    """Narrowed to a type, a project or a job, only what is about it is wanted."""
    tracked.submit(project_id="p1")
    (told,) = follower.poll(tracked.connection)
    assert EVERYTHING.wants(told)
    assert Narrowed("count_words", "p1", told.job_id).wants(told)
    for other in (Narrowed("x"), Narrowed(project_id="x"), Narrowed(job_id=uuid4())):
        assert not other.wants(told)
