"""What restored rows say of jobs, and the numbers of events after a restore."""

from __future__ import annotations

from datetime import timedelta

from tests.tracked import Tracked
from tracking.db import Database
from tracking.models import Scope
from tracking.reads import restored, tail
from tracking.reads.tail import Narrowed, missed
from tracking.renumbering import AHEAD, renumber

EVERYTHING = Narrowed()


def test_after_a_renumbering_streams_begin_anew_and_later_ones_miss_nothing(tracked: Tracked) -> None:
    """A stream that resumes behind a number from before a renumbering begins anew; behind later ones it goes on."""
    acme = Scope("acme", None)
    tracked.submit()
    before = tail.last_number(tracked.connection)
    number = renumber(tracked.connection)
    assert number == before + AHEAD
    job = tracked.submit()
    until = tail.last_number(tracked.connection)
    assert until > number
    for known in (before, before + 500, number - 1):
        assert missed(tracked.connection, acme, EVERYTHING, after=known, until=until) is None
    found = missed(tracked.connection, acme, EVERYTHING, after=number, until=until)
    assert [each.job_id for each in found or ()] == [job.id]


def test_jobs_of_workers_that_are_not_alive_are_found(tracked: Tracked) -> None:
    """Jobs that run on no living worker are found, those that wait or are over are not."""
    jobs = {situation: tracked.put_into(situation) for situation in ("queued", "running", "succeeded", "cancelled")}
    found = restored.running(tracked.connection, timedelta(seconds=20))
    assert [each.id for each in found] == [jobs["running"].id]
    assert {each.id for each in restored.sent(tracked.connection)} <= {jobs["queued"].id}
    assert restored.newest(tracked.connection) is not None


def test_an_empty_database_has_nothing_to_say(database: Database) -> None:
    """Of an empty database every answer is empty."""
    with database.autocommit() as connection:
        assert restored.newest(connection) is None
        assert restored.untold(connection) == 0
        assert not [*restored.sent(connection), *restored.overdue(connection), *restored.going_on(connection)]
        assert list(restored.organizations(connection)) == []
