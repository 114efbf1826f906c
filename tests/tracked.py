"""Jobs on a database of the tests' own: brought into any situation by the verbs, and what must be true of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, get_args
from uuid import UUID, uuid4

from sqlalchemy import Connection, func, select, text, update

from tests.live import eventually
from tests.servers import TEMPLATE, Servers, new_database
from tracking import jobs, workers
from tracking.admission import holds
from tracking.admission.rule import UNLIMITED, Limits
from tracking.db import Database
from tracking.errors import TrackingError
from tracking.models import Attempt, Claim, Failure, Fence, JobRecord, NewJob, Outcome, Owner, Scope, Settled, Submitted
from tracking.reads import lists
from tracking.reads.answers import HistoryEntry
from tracking.schema import history
from tracking.schema import jobs as table
from tracking.settings import settings
from tracking.sql import record
from tracking.states import FINISHED, MOVES, Event, OutcomeKind, Status, is_legal

ACME = Scope("acme", None)
OTHERS = (Scope("globex", None), Scope("globex", "u1"), Scope("acme", "u2"))  # who may not see the job of acme's u1
HOUR = timedelta(hours=1)
LEASE_TIMEOUT = timedelta(seconds=20)
KINDS: tuple[OutcomeKind, ...] = get_args(OutcomeKind)

# Every state, and the variations of it that a verb may tell apart.
SITUATIONS = (
    "queued",
    "scheduled",
    "running",
    "retrying",
    "backoff",
    "succeeded",
    "failed",
    "exhausted",
    "cancelled",
    "stopping",
)

STATUS_KEPT = (
    *(Event.PROGRESS, Event.DUE, Event.EDITED, Event.SEEN, Event.STOPPED, Event.DUPLICATE_REFUSED, Event.HELD),
    Event.RETRIED_ANEW,
)


@contextmanager
def own_pool(servers: Servers, template: str = TEMPLATE) -> Iterator[Database]:
    """A pool on a new database, by default with the newest schema and no rows, dropped at the end."""
    with new_database(servers, template) as url:
        pool = Database(url, settings())
        yield pool
        pool.close()


def empty(pool: Database) -> None:
    with pool.autocommit() as connection:
        connection.execute(text(_DELETE_ALL))  # of a few rows: much faster than TRUNCATE


def new_job(**changes: Any) -> NewJob:
    """A job of acme's u1."""
    job = NewJob(id=uuid4(), owner=Owner("acme", "u1"), job_type="count_words", queue="default")
    return replace(job, **changes)


def wish(fence: Fence, **changes: Any) -> Claim:
    """A delivery of that dispatch's message to worker-1."""
    return replace(Claim(fence, claim_id=uuid4(), worker="worker-1", lease=None), **changes)


def outcome(job: JobRecord, kind: OutcomeKind, **details: Any) -> Outcome:
    """How the job's current attempt ended."""
    return Outcome(job.fence, kind, "worker-1", job.attempt, **details)


def reap(connection: Connection, lease_timeout: timedelta, limit: int, **options: Any) -> list[Settled]:
    """Release the jobs of workers that are dead, as upkeep does; what became of them."""
    running, stopping = jobs.orphans(connection, lease_timeout, limit)
    for fence in stopping:
        jobs.stopped(connection, fence, actor="upkeep", how="worker lost")
    lost = [Outcome(fence, "lost", "upkeep") for fence in running]
    return accepted(connection, lost, **options)


def submit_all(
    connection: Connection, new: Sequence[NewJob], limits: Limits, *, user: str | None = "u1"
) -> list[Submitted | TrackingError]:
    """Submit jobs at once, which may depend on those of acme's u1, or of another user of acme; None: of all of them."""
    return jobs.submit_all(connection, new, limits, scope=lambda _: Scope("acme", user))


def accepted(connection: Connection, outcomes: Sequence[Outcome], **options: Any) -> list[Settled]:
    """Settle attempts; those of the outcomes that were expected."""
    return [settled for settled in jobs.settle(connection, outcomes, **options) if settled]


def ids(found: Sequence[JobRecord]) -> list[UUID]:
    """The ids of jobs, in their order."""
    return [job.id for job in found]


@dataclass(frozen=True)
class Tracked:
    """The verbs and the reads, on one connection."""

    connection: Connection

    def submit(self, **changes: Any) -> JobRecord:
        job = new_job(**changes)
        return jobs.submit(self.connection, job, UNLIMITED, scope=Scope(job.owner.organization_id, None)).job

    def start(self, job: JobRecord, **changes: Any) -> JobRecord:
        granted = jobs.claim(self.connection, [wish(job.fence, **changes)])[0]
        assert isinstance(granted, Attempt), granted
        return self.get(job.id)

    def settle(self, job: JobRecord, kind: OutcomeKind, **details: Any) -> list[Settled]:
        """End the job's attempt; nothing comes back when it is not expected any more."""
        return accepted(self.connection, [outcome(job, kind, **details)])

    def end(self, job: JobRecord, kind: OutcomeKind = "succeeded", **details: Any) -> JobRecord:
        """End the job's attempt, successfully."""
        assert len(self.settle(job, kind, **details)) == 1
        return self.get(job.id)

    def fail(self, job: JobRecord) -> JobRecord:
        """Let the job's attempt fail for good."""
        return self.end(job, "failed", failure=Failure("ValueError", "wrong", "Traceback …"))

    def back_off(self, job: JobRecord) -> JobRecord:
        """Let the job's attempt fail, to be repeated in an hour."""
        return self.end(job, "retry", failure=Failure("ConnectionError", "away"), delay=HOUR)

    def run(self, kind: OutcomeKind = "succeeded", **changes: Any) -> JobRecord:
        """Accept a job, run one attempt of it, and end that."""
        return self.end(self.start(self.submit(**changes)), kind)

    def cancel(self, job: JobRecord) -> JobRecord:
        return jobs.cancel(self.connection, job.id, ACME, actor="u1").job

    def retry(self, job: JobRecord, *, force: bool = False) -> JobRecord:
        return jobs.retry(self.connection, job.id, ACME, actor="u1", force=force, limits=UNLIMITED).job

    def release(self, job: JobRecord) -> JobRecord:
        """Let the hold of the job end now.

        Somebody who lifts what is due at the same time may have it in hand: then theirs has it lifted when it commits.
        """
        self.make_due(job)

        def lifted() -> JobRecord | None:
            holds.lift_due(self.connection, UNLIMITED, 1000)
            released = self.get(job.id)
            return released if released.hold is None else None

        released: JobRecord = eventually(lifted, what="the end of the hold")
        return released

    def waits_for_lock(self) -> bool:
        """Whether somebody waits for a lock in this database."""
        asked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        return bool(self.connection.execute(text(asked)).scalar_one())

    def make_due(self, job: JobRecord) -> None:
        """Let time pass until the job is due."""
        past = func.clock_timestamp() - timedelta(seconds=1)
        self.connection.execute(update(table).where(table.c.id == job.id).values(due_at=past))

    def finished_ago(self, job: JobRecord, age: timedelta) -> JobRecord:
        """Move everything that happened to a finished job into the past."""
        then = func.now() - age
        values = {"created_at": then, "started_at": then, "completed_at": then, "updated_at": then}
        self.connection.execute(update(table).where(table.c.id == job.id).values(values))
        self.connection.execute(update(history).where(history.c.job_id == job.id).values(at=then))
        return self.get(job.id)

    def created_at(self, job: JobRecord, at: datetime) -> JobRecord:
        """Let the job have been created then."""
        self.connection.execute(update(table).where(table.c.id == job.id).values(created_at=at))
        return self.get(job.id)

    def pass_a_minute(self, job: JobRecord) -> None:
        """Let a minute pass since the job's last change."""
        earlier = table.c.updated_at - timedelta(minutes=1)
        self.connection.execute(update(table).where(table.c.id == job.id).values(updated_at=earlier))

    def register_worker(self, seen: timedelta = timedelta(0), concurrency: int = 2) -> UUID:
        """The lease of a worker whose last heartbeat was that long ago."""
        lease = uuid4()
        workers.beat(self.connection, lease, name="worker-1", pid=1, queues=["default"], concurrency=concurrency)
        self.age_heartbeat(lease, seen)
        return lease

    def age_heartbeat(self, lease: UUID, seen: timedelta) -> None:
        """Let the last heartbeat of a worker be that long ago."""
        parameters = {"lease": lease, "seen": seen}
        statement = text(
            "UPDATE workers SET seen_at = clock_timestamp() - CAST(:seen AS interval) WHERE lease = :lease"
        )
        self.connection.execute(statement, parameters)

    def put_into(self, situation: str) -> JobRecord:
        """A new job in one of SITUATIONS, brought there by the verbs."""
        if situation == "scheduled":
            return self.submit(delay=HOUR)
        return self.bring(self.submit(max_retries=0 if situation == "exhausted" else 3), situation)

    def bring(self, job: JobRecord, situation: str) -> JobRecord:
        """A queued job brought into one of SITUATIONS."""
        for step in _STEPS[situation]:
            job = step(self, job)
        return self.get(job.id)

    def get(self, job_id: UUID) -> JobRecord:
        job = lists.find(self.connection, job_id)
        assert job is not None
        return job

    def all(self) -> list[JobRecord]:
        rows = self.connection.execute(select(table).order_by(table.c.created_at, table.c.id))
        return [record(row) for row in rows]

    def history(self, job: JobRecord) -> Sequence[HistoryEntry]:
        """The job's history, oldest first."""
        return lists.timeline(self.connection, job.id)

    def last_detail(self, job: JobRecord) -> dict[str, Any]:
        """What the newest entry of the job's history says beside its event."""
        return dict(self.history(job)[-1].detail)

    def events(self, job: JobRecord) -> list[str]:
        """The names of the job's events, oldest first."""
        return [str(entry.event) for entry in self.history(job)]


_DELETE_ALL = """
    WITH a AS (DELETE FROM jobs), b AS (DELETE FROM history), c AS (DELETE FROM workers),
         d AS (DELETE FROM organizations), e AS (DELETE FROM pauses), f AS (DELETE FROM circuits),
         e2 AS (DELETE FROM paused_queues),
         g AS (DELETE FROM revocations), h AS (DELETE FROM external_types),
         i AS (DELETE FROM audit), j AS (DELETE FROM operations), k AS (DELETE FROM operation_jobs),
         l AS (DELETE FROM schedules), m AS (DELETE FROM schedule_outcomes), n AS (DELETE FROM clean_ups),
         o AS (DELETE FROM templates), p AS (DELETE FROM workflows), q AS (DELETE FROM workflow_jobs),
         r AS (DELETE FROM job_limits), s AS (DELETE FROM organization_weights), t AS (DELETE FROM waiting_limits),
         u AS (DELETE FROM files), v AS (DELETE FROM collections),
         w AS (DELETE FROM totals), x AS (DELETE FROM totals_position), y AS (DELETE FROM events),
         z AS (DELETE FROM removals), aa AS (DELETE FROM denied_tokens), ab AS (DELETE FROM error_marks),
         ac AS (DELETE FROM saved_views)
    DELETE FROM groups"""

_STEPS: dict[str, tuple[Callable[[Tracked, JobRecord], JobRecord], ...]] = {
    "queued": (),
    "running": (Tracked.start,),
    "retrying": (Tracked.start, Tracked.back_off, Tracked.release),
    "backoff": (Tracked.start, Tracked.back_off),
    "succeeded": (Tracked.start, Tracked.end),
    "failed": (Tracked.start, Tracked.fail),
    "exhausted": (Tracked.start, Tracked.fail),
    "cancelled": (Tracked.cancel,),
    "stopping": (Tracked.start, Tracked.cancel),
}


def check_rows(tracked: Tracked) -> None:
    """The invariants 3, 4, 5, 8 and 9 of the platform's guarantees, for every job."""
    histories: dict[UUID, list[HistoryEntry]] = {}
    for row in tracked.connection.execute(select(history).order_by(history.c.id)):
        histories.setdefault(row.job_id, []).append(_entry(row._mapping))
    for job in tracked.all():
        check_job(job, histories[job.id])


def _entry(row: Mapping[Any, Any]) -> HistoryEntry:
    values = {each.name: row[each.name] for each in fields(HistoryEntry)}
    source = Status(row["from_status"]) if row["from_status"] else None
    return replace(
        HistoryEntry(**values), event=Event(row["event"]), from_status=source, to_status=Status(row["to_status"])
    )


def check_job(job: JobRecord, entries: Sequence[HistoryEntry]) -> None:
    """The invariants of one row and its history."""
    _check_path(job, entries)
    _check_attempts(job, entries)
    _check_progress(job, entries)
    _check_times(job, entries)


def _check_path(job: JobRecord, entries: Sequence[HistoryEntry]) -> None:
    assert (entries[0].event, entries[0].from_status, entries[0].to_status) == (Event.CREATED, None, Status.QUEUED)
    moves = {(move.source, move.target, move.event) for move in MOVES}
    for before, entry in pairwise(entries):
        assert entry.from_status is before.to_status, entry
        if entry.event in STATUS_KEPT:
            assert entry.to_status is entry.from_status, entry
        else:
            assert entry.from_status is not None
            assert is_legal(entry.from_status, entry.to_status), entry
            assert (entry.from_status, entry.to_status, entry.event) in moves, entry
    assert entries[-1].to_status is job.status


def _check_attempts(job: JobRecord, entries: Sequence[HistoryEntry]) -> None:
    started = [entry for entry in entries if entry.event is Event.STARTED]
    assert [entry.attempt for entry in started] == list(range(1, job.attempt + 1))
    dispatches = {entry.attempt: entry.dispatch for entry in started}
    assert list(dispatches.values()) == sorted(set(dispatches.values())), "an attempt of an old dispatch"
    ended = [entry for entry in entries if entry.from_status is Status.RUNNING and entry.event not in STATUS_KEPT]
    assert len({entry.attempt for entry in ended}) == len(ended), "an attempt that ended twice"
    assert all(entry.dispatch == dispatches[entry.attempt] for entry in ended)


def _check_progress(job: JobRecord, entries: Sequence[HistoryEntry]) -> None:
    reached: dict[int, int] = {}
    for entry in entries:
        if entry.event is Event.PROGRESS:
            percentage = entry.detail["percentage"]
            assert reached.get(entry.attempt, 0) <= percentage <= 99, entry
            reached[entry.attempt] = percentage
    assert (job.progress == 100) is (job.status is Status.SUCCEEDED)
    assert 0 <= job.progress <= 100


def _check_times(job: JobRecord, entries: Sequence[HistoryEntry]) -> None:
    times: list[datetime] = [at for at in (job.created_at, job.started_at, job.completed_at) if at is not None]
    assert times == sorted(times)
    assert (job.completed_at is not None) is (job.status in FINISHED)
    assert job.duration is None or job.duration >= timedelta(0)
    assert [entry.at for entry in entries] == sorted(entry.at for entry in entries)
