"""What others have waiting costs nobody anything: what the verbs and the leader read does not grow with it.

Rows and entries of indexes are counted, as PostgreSQL counts them. The first half is the minute in which many jobs have
come and nothing has looked at the table since: what was planned before is used for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, text

from tasks.broker.admitting import BATCH
from tests.holding import Limited
from tests.servers import patient
from tests.tracked import ACME, Tracked, new_job, submit_all, wish
from tests.tracking.test_batch_plans import TIMES
from tests.weeks import vacuum
from tracking import jobs
from tracking.admission import holds, line
from tracking.admission.rule import UNLIMITED, Limits
from tracking.db import BY_INDEX, Database
from tracking.models import Attempt, JobRecord, Outcome, Submitted
from tracking.workflows import filling

EACH = 10_000  # jobs of each of two organizations, one before and one after acme
FEW = 2000  # rows and entries that a verb of seven jobs may read, those of deleted jobs among them
SOME = 4 * holds.WINDOW  # that a look of the leader may read: it takes a window, or a batch of each kind

WAITING: Mapping[str, tuple[str, str, str, str]] = {  # status, hold, due, sent
    "sent": ("queued", "NULL", "NULL", "now()"),
    "unsent": ("queued", "NULL", "NULL", "NULL"),
    "in line": ("queued", "'organization_limit'", "NULL", "NULL"),
    "at a limit": ("queued", "'limit'", "NULL", "NULL"),
    "scheduled": ("queued", "'schedule'", "now() + interval '1 hour'", "NULL"),
    "backing off": ("retrying", "'backoff'", "now() + interval '1 hour'", "NULL"),
    "paused": ("queued", "'paused'", "NULL", "NULL"),
    "broken": ("queued", "'circuit'", "NULL", "NULL"),
    "dependent": ("queued", "'dependency'", "NULL", "NULL"),
    "to be filled in": ("queued", "'dependency'", "NULL", "NULL"),
}
FILL = """
    INSERT INTO jobs (id, organization_id, user_id, job_type, status, hold, queue, max_retries, due_at, dispatched_at,
                      depends_on, unresolved)
    SELECT gen_random_uuid(), organization, 'user', 'kind', '{status}', {hold}, 'elsewhere', 3, {due}, {sent},
           CASE WHEN {hold} = 'dependency' THEN ARRAY[(SELECT id FROM jobs WHERE organization_id = 'z')]
                ELSE '{{}}' END, '{kind}' = 'to be filled in'
    FROM generate_series(1, :each), unnest(ARRAY['aaa', 'zzz']) AS organization"""
GATES = (
    "INSERT INTO pauses (job_type, paused_by) VALUES ('kind', 'admin')",
    """INSERT INTO circuits (job_type, organization_id, key, failures, pause, probe_at)
       VALUES ('kind', '', '', 5, '1 minute', now() + interval '1 hour')""",
    """INSERT INTO jobs (id, organization_id, user_id, job_type, status, hold, due_at, queue, max_retries)
       VALUES (gen_random_uuid(), 'z', 'user', 'wanted', 'queued', 'schedule', now() + interval '1 hour', 'a', 3)""",
)
READ = """
    SELECT sum(number)::int FROM (
        SELECT seq_tup_read AS number FROM pg_stat_xact_user_tables WHERE relname = 'jobs'
        UNION ALL
        SELECT pg_stat_get_xact_tuples_returned(indexrelid) FROM pg_index WHERE indrelid = 'jobs'::regclass) AS each"""


@pytest.fixture
def young(database_url: str) -> Iterator[Database]:
    """A database that nothing looks at, with the options of a worker and of the API."""
    database = patient(database_url, options=BY_INDEX)
    with database.autocommit() as connection:
        connection.execute(text("ALTER TABLE jobs SET (autovacuum_enabled = false)"))
        Tracked(connection).register_worker()
        for statement in GATES:
            connection.execute(text(statement))
    yield database
    database.close()


@pytest.fixture
def unlimited(pool: Database, tracked: Tracked) -> Limited:
    return Limited(pool, tracked, UNLIMITED)


class Reading:
    """What was done on a connection, with how many rows and entries it has read."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.found: dict[str, int] = {}

    def of(self, name: str, deed: Callable[[], Any]) -> Any:
        before = self._read()
        answer = deed()
        self.found[name] = self._read() - before
        return answer

    def more_than(self, most: int) -> dict[str, int]:
        """What has read more."""
        return {name: number for name, number in self.found.items() if number > most}

    def _read(self) -> int:
        return int(self.connection.execute(text(READ)).scalar_one())


def live(connection: Connection, limits: Limits) -> Reading:
    """Let jobs of acme go through all that happens to many, one after the other; none is left."""
    reading, tracked = Reading(connection), Tracked(connection)

    def submit(number: int) -> list[JobRecord]:
        answers = submit_all(connection, [new_job() for _ in range(number)], limits)
        return [each.job for each in answers if isinstance(each, Submitted)]

    def settle(kind: Any, *attempts: Attempt) -> None:
        ended = [Outcome(each.fence, kind, "worker-1", each.attempt) for each in attempts]
        assert all(reading.of(kind, lambda: jobs.settle(connection, ended)))

    several = [*reading.of("submit several", lambda: submit(6)), *reading.of("submit", lambda: submit(1))]
    admit = partial(line.admit, connection, ACME.organization_id, limits, 10)
    reading.of("admit", admit)
    ready = [job for job in map(tracked.get, [job.id for job in several]) if job.hold is None]
    reading.of("mark", lambda: jobs.mark_dispatched(connection, [job.fence for job in ready]))
    claimed = reading.of("claim", lambda: jobs.claim(connection, [wish(job.fence) for job in ready]))
    attempts = [each for each in claimed if isinstance(each, Attempt)]
    assert len(attempts) == len(ready) >= 2
    settle("failed", attempts[0])
    settle("succeeded", *attempts[1:])
    reading.of("fill", lambda: line.fill(connection, {ACME.organization_id: 2}, limits, 10))
    reading.of("admit the next", admit)
    again: dict[str, Any] = {"actor": "u1", "limits": limits, "force": True}
    reading.of("retry", lambda: jobs.retry(connection, ready[0].id, ACME, **again))
    reading.of("cancel", lambda: jobs.cancel(connection, submit(1)[0].id, ACME, actor="u1"))
    connection.execute(text("DELETE FROM jobs WHERE organization_id = 'acme'"))
    return reading


def look(connection: Connection, limits: Limits) -> Reading:
    """Do what the leader does every second or oftener."""
    reading = Reading(connection)
    given: dict[str, Any] = {"limits": limits, "batch": 200}
    duties: dict[str, Callable[[Connection], Any]] = {
        "due": partial(holds.lift_due, **given),
        "gated": partial(holds.lift_gated, **given),
        "cancelled dependents": partial(holds.cancel_dependents, batch=200),
        "dependents": partial(holds.lift_dependents, **given),
        "end of a window": partial(holds.end_of_window, after=holds.FIRST),
        "to be filled in": partial(filling.unfilled, batch=200),
        "with room": partial(line.with_room, limits=limits),
        "unserved": partial(line.take_back_unserved, **given),
        "crowd": partial(line.take_back_crowd, **given),
    }
    for name, duty in duties.items():
        reading.of(name, partial(duty, connection))
    return reading


@pytest.mark.parametrize("kind", WAITING)
def test_a_backlog_of_others_costs_nobody_anything(young: Database, kind: str) -> None:
    """A verb reads a few rows, and a look of the leader a batch, whatever others wait for and in whatever number."""
    with young.begin() as connection:
        for limits in (Limits(0), Limits(2)):
            for _ in range(TIMES):
                live(connection, limits)
        status, hold, due, sent = WAITING[kind]
        backlog = FILL.format(kind=kind, status=status, hold=hold, due=due, sent=sent)
        connection.execute(text(backlog), {"each": EACH})
        found = [live(connection, limits).more_than(FEW) for limits in (Limits(0), Limits(2))]
    # Until somebody looks at the table, what an index of arrays costs is guessed: an end reads all that wait for any.
    assert found == [{}, {}] or hold == "'dependency'"
    with young.autocommit() as connection:
        vacuum(connection, "jobs")
    for limits in (Limits(0), Limits(2)):
        with young.begin() as connection:
            found = [live(connection, limits).more_than(FEW), look(connection, limits).more_than(SOME)]
            connection.rollback()
        assert found == [{}, {}]


def wait_for(connection: Connection, dependency: JobRecord, number: int) -> None:
    """Let so many jobs wait for this one."""
    waiting = """
        INSERT INTO jobs (id, organization_id, user_id, job_type, status, hold, queue, max_retries, depends_on)
        SELECT gen_random_uuid(), 'acme', 'u1', 'kind', 'queued', 'dependency', 'default', 3, ARRAY[CAST(:id AS uuid)]
        FROM generate_series(1, :number)"""
    connection.execute(text(waiting), {"id": dependency.id, "number": number})


def test_all_that_wait_for_one_job_are_let_through_when_it_ends(unlimited: Limited) -> None:
    """The end of a job lets through all of those that wait for it, more than a batch of them as well, and each once."""
    first = unlimited.submit()
    wait_for(unlimited.tracked.connection, first, BATCH + 10)
    unlimited.tracked.end(unlimited.tracked.start(first))
    assert len(set(unlimited.after(first))) == BATCH + 10
    assert unlimited.after(first) == []


def test_the_leader_comes_to_each_that_waits_for_another(unlimited: Limited) -> None:
    """A walk over all that wait, a window at a time, lets through whatever the end of a dependency has missed."""
    never, ended = unlimited.submit(), unlimited.submit()
    wait_for(unlimited.tracked.connection, never, 2 * holds.WINDOW)
    wait_for(unlimited.tracked.connection, ended, 20)
    unlimited.tracked.end(unlimited.tracked.start(ended))
    let_through: list[JobRecord] = []
    after, windows = holds.FIRST, 0
    while windows == 0 or after != holds.FIRST:
        end = holds.end_of_window(unlimited.tracked.connection, after)
        let_through += unlimited.admission.undepending(after)
        after, windows = end, windows + 1
    assert (len({job.id for job in let_through}), windows) == (20, 3)
