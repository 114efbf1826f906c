"""Any sequence of jobs, events, removals and resumes: what a stream has missed is told whole, or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from tests.aged import DAY, POLICY
from tests.properties import ON_ONE_DATABASE
from tests.tracked import Tracked, empty
from tracking import events, jobs, partitions, retention, thinning
from tracking.db import Database
from tracking.models import Owner, Scope
from tracking.reads import tail
from tracking.reads.tail import Narrowed

ORGANIZATIONS = ("acme", "globex")
USERS = ("u1", "u2")
PROJECTS = (None, "p1")
TYPES = ("count_words", "other")
AGES = st.sampled_from([0, 40, 50, 120]).map(lambda days: days * DAY)
OLD_WEEKS = (50 * DAY, 120 * DAY)  # that may be thinned, or dropped

STEPS = st.one_of(
    st.tuples(
        st.just("job"),
        st.fixed_dictionaries(
            {
                "owner": st.builds(Owner, st.sampled_from(ORGANIZATIONS), st.sampled_from(USERS)),
                "project_id": st.sampled_from(PROJECTS),
                "job_type": st.sampled_from(TYPES),
            }
        ),
        st.sampled_from(["queued", "succeeded", "failed"]),
        AGES,
    ),
    st.tuples(st.just("event"), st.sampled_from(ORGANIZATIONS), st.sampled_from(USERS), AGES),
    st.tuples(st.just("delete"), st.integers(0, 20)),
    st.tuples(st.sampled_from(["prune", "thin", "forget"])),
    st.tuples(
        st.just("resume"),
        st.builds(Scope, st.sampled_from(ORGANIZATIONS), st.sampled_from((None, *USERS))),
        st.builds(
            Narrowed,
            st.sampled_from((None, *TYPES)),
            st.sampled_from(PROJECTS),
        ),
        st.integers(0, 40),
    ),
)
WRITTEN = text(
    """
    SELECT history.id, history.organization_id, history.user_id, history.job_type, project_id, job_id
    FROM history JOIN jobs ON jobs.id = job_id
    UNION ALL SELECT id, organization_id, user_id, job_type, project_id, NULL FROM events"""
)
LEFT = text("SELECT id FROM history UNION ALL SELECT id FROM events")
JOBS = text("SELECT id FROM jobs")
MONDAY = text("SELECT date_trunc('week', now() - CAST(:age AS interval), 'UTC')")
OCCUR = text(
    """
    INSERT INTO events (id, organization_id, user_id, job_type, event, subject_id, at)
    VALUES (nextval('history_id_seq'), :organization, :user, 'other', 'schedule.fired', :subject,
            clock_timestamp() - CAST(:age AS interval))"""
)


@dataclass
class Story:
    """What was ever written, by its id, whatever became of it; `first`: the number before all of it."""

    database: Database
    tracked: Tracked
    first: int
    written: dict[int, Any] = field(default_factory=dict)
    jobs: list[Any] = field(default_factory=list)

    def step(self, name: str, *asked: Any) -> None:
        getattr(self, name)(*asked)
        if name in ("job", "event"):
            self.written |= {row.id: row for row in self.tracked.connection.execute(WRITTEN)}

    def job(self, changes: dict[str, Any], situation: str, age: timedelta) -> None:
        """A job that came so far, that long ago."""
        job = self.tracked.bring(self.tracked.submit(**changes), situation)
        self.jobs.append(job if situation == "queued" else self.tracked.finished_ago(job, age))

    def event(self, organization: str, user: str, age: timedelta) -> None:
        """A schedule has made a job that long ago."""
        said = {"organization": organization, "user": user, "age": age, "subject": uuid4()}
        self.tracked.connection.execute(OCCUR, said)

    def delete(self, number: int) -> None:
        """Somebody deletes a job, which is refused while it goes on."""
        if self.jobs:
            job = self.jobs[number % len(self.jobs)]
            with self.database.begin() as connection:
                jobs.delete_each(connection, [job.id], Scope(job.organization_id, None))

    def prune(self) -> None:
        """The leader removes old jobs."""
        with self.database.begin() as connection:
            retention.prune(connection, POLICY, limit=None)

    def thin(self) -> None:
        """The leader makes old weeks anew, or drops them."""
        while found := thinning.next_to_thin(self.tracked.connection, POLICY.of_most, POLICY.longest):
            assert list(thinning.thin(self.database, found))[-1].is_done

    def forget(self) -> None:
        """The leader removes old events."""
        with self.database.begin() as connection:
            events.forget(connection, POLICY.longest, 100)

    def resume(self, scope: Scope, narrowed: Narrowed, back: int) -> None:
        """A stream comes back, and is told all that it should have heard; or that it cannot be told, with a reason."""
        connection = self.tracked.connection
        until = tail.last_number(connection)
        after = max(self.first, until - back)
        told = tail.missed(connection, scope, narrowed, after=after, until=until)
        if told is not None:
            expected = [row.id for row in self._since(after) if _is_heard(row, scope, narrowed)]
            assert [happening.id for happening in told] == expected
            return
        left, jobs_left = _ids(connection, LEFT), _ids(connection, JOBS)
        assert any(
            row.organization_id == scope.organization_id
            and (row.id not in left or (narrowed.project_id and row.job_id and row.job_id not in jobs_left))
            for row in self._since(after)
        ), "nothing was removed"

    def _since(self, after: int) -> list[Any]:
        return [self.written[number] for number in sorted(self.written) if number > after]


def _ids(connection: Connection, statement: Any) -> set[int | UUID]:
    return set(connection.execute(statement).scalars())


def _is_heard(row: Any, scope: Scope, narrowed: Narrowed) -> bool:
    return (
        row.organization_id == scope.organization_id
        and scope.user_id in (None, row.user_id)
        and narrowed.job_type in (None, row.job_type)
        and narrowed.project_id in (None, row.project_id)
    )


@ON_ONE_DATABASE
@given(steps=st.lists(STEPS, min_size=8, max_size=25))
def test_a_resumed_stream_has_no_gap_that_it_is_not_told_of(database: Database, steps: Sequence[Any]) -> None:
    """Whatever is removed, a stream that comes back hears all that it has missed, or that it cannot be told."""
    empty(database)
    with database.begin() as connection:
        for age in OLD_WEEKS:
            monday = connection.execute(MONDAY, {"age": age}).scalar_one()
            if monday not in [week.since for week in partitions.partitions(connection)]:
                partitions.add(connection, monday)
    with database.autocommit() as connection:
        story = Story(database, Tracked(connection), tail.last_number(connection))
        for step in steps:
            story.step(*step)
        for back in range(tail.last_number(connection) - story.first + 1):
            story.resume(Scope("acme", None), Narrowed(project_id=PROJECTS[back % 2]), back)
