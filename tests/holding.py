"""The verbs under a limit, each in a transaction of its own as the platform runs them, and the turns of its leader."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, select, text

from tasks.broker.admitting import Admission
from tasks.limiting import Limiting
from tests.tracked import ACME, LEASE_TIMEOUT, Tracked, new_job
from tracking import jobs
from tracking.admission import circuits, holds, job_limits, line, pauses, weights
from tracking.admission.job_limits import JobLimit, Per, Wanted
from tracking.admission.rule import Limits
from tracking.db import Database
from tracking.models import Failure, JobRecord, Owner, Scope
from tracking.schema import IN_FLIGHT
from tracking.schema import jobs as table
from tracking.states import WAITING, Hold, Status

GLOBEX = Owner("globex", "u1")
MINUTE = timedelta(minutes=1)
LIFTS = (holds.lift_due, holds.lift_gated, holds.lift_dependents)

# A body runs from its start until its outcome, or, when it was cancelled meanwhile, until it has stopped.
EXECUTING = """
    SELECT organization_id, CASE event WHEN 'started' THEN 1 ELSE -1 END AS change
    FROM history
    WHERE event IN ('started', 'stopped')
       OR from_status = 'running' AND to_status <> 'running'
          AND NOT EXISTS (SELECT FROM history AS later
                          WHERE later.job_id = history.job_id AND later.event = 'stopped'
                            AND later.attempt = history.attempt)
    ORDER BY at, id"""


@dataclass(frozen=True)
class Limited:
    pool: Database
    tracked: Tracked
    limits: Limits

    def submit(self, **changes: Any) -> JobRecord:
        with self.pool.begin() as connection:
            job = new_job(**changes)
            return jobs.submit(connection, job, self.limits, scope=Scope(job.owner.organization_id, None)).job

    def submit_many(self, number: int, **changes: Any) -> list[JobRecord]:
        """Accept several of the same kind, one after the other."""
        return [self.submit(**changes) for _ in range(number)]

    def start(self, number: int, **changes: Any) -> list[JobRecord]:
        """Accept jobs that find a slot, and let them run."""
        return [self.tracked.start(job) for job in self.submit_many(number, **changes)]

    def retry(self, job: JobRecord) -> JobRecord:
        with self.pool.autocommit() as connection:
            return jobs.retry(connection, job.id, ACME, actor="u1", force=True, limits=self.limits).job

    def admit(self, organization_id: str = "acme", batch: int = 100) -> list[UUID]:
        """Give the free slots of an organization away."""
        with self.pool.begin() as connection:
            return [job.id for job in line.admit(connection, organization_id, self.limits, batch)]

    def set_limit(self, concurrency: int, organization_id: str = "acme") -> list[UUID]:
        """Give an organization a limit of its own; the jobs that go back into the line."""
        with self.pool.begin() as connection:
            return [job.id for job in line.set_limit(connection, organization_id, concurrency, actor="admin")]

    def bound(self, per: str = "organization", job_type: str | None = "count_words", **wanted: Any) -> JobLimit:
        """Set a limit of jobs: `concurrency`, or `rate` and `period`; of an `organization_id`; by a `key_path`."""
        given = dict.fromkeys(("organization_id", "key_path", "concurrency", "rate", "period")) | wanted
        with self.pool.begin() as connection:
            return job_limits.put(
                connection, uuid4(), Wanted(job_type=job_type, per=Per(per), **given), actor="admin", origin=None
            )

    def unbound(self, limit: JobLimit) -> None:
        with self.pool.begin() as connection:
            assert job_limits.remove(connection, limit.id, actor="admin", origin=None) == limit

    def weigh(self, organization_id: str, weight: int | None) -> None:
        """Give an organization a weight."""
        with self.pool.begin() as connection:
            weights.set_weight(connection, organization_id, weight, actor="admin", origin=None)

    def turn(self) -> list[UUID]:
        """What the leader lets through in one turn that looks at everything."""
        admission = self.admission
        looks = (admission.due, admission.probes, admission.undepending, admission.ungated, admission.next_in_line)
        admission.take_back_unserved()
        admission.take_back_crowd()
        admission.take_back_excess()
        return [job.id for job in line.in_turns([job for look in looks for job in look()])]

    def lift_all_but(self, job: JobRecord) -> None:
        """Lift whatever is over, but let no job through that is in line, and leave this one as it is."""
        with self.pool.begin() as apart:
            apart.execute(select(table.c.id).where(table.c.id == job.id).with_for_update())
            while self._lift():
                pass

    def _lift(self) -> bool:
        connection = self.tracked.connection
        moved = [
            circuits.judge(connection),
            circuits.probe(connection, self.limits),
            holds.cancel_dependents(connection, 100),
            *(lift(connection, self.limits, 100) for lift in LIFTS),
        ]
        return any(moved)

    def look_at_the_lines(self) -> list[UUID]:
        """What the leader lets through when it looks at the lines alone."""
        return [job.id for job in self.admission.next_in_line()]

    def after(self, job: JobRecord) -> list[UUID]:
        """What is let through at once when something has happened to a job."""
        return [sent.id for sent in self.admission.after(job.id, job.organization_id)]

    def refilled(self, job: JobRecord) -> list[UUID]:
        """What is let through at once when a job has started and left its place."""
        return [sent.id for sent in self.admission.refilled(job.organization_id)]

    @property
    def admission(self) -> Admission:
        """What lets jobs through under these limits, on this database."""
        return Admission(self.pool, self.limits, Limiting(self.pool))

    def pause(self, organization_id: str | None = None, job_type: str | None = None) -> bool:
        """Pause a type, an organization, or both."""
        return pauses.pause(
            self.tracked.connection,
            organization_id=organization_id,
            job_type=job_type,
            actor="admin",
            reason="maintenance",
        )

    def resume(self, organization_id: str | None = None, job_type: str | None = None) -> bool:
        connection = self.tracked.connection
        return pauses.resume(connection, organization_id=organization_id, job_type=job_type, actor="admin")

    def trip(self, job: JobRecord, failures: int = 3) -> bool:
        """Open the circuit of a job if its last attempts say so."""
        return circuits.trip(self.tracked.connection, job.id, failures=failures, pause=MINUTE) is not None

    def break_circuit(self, job_type: str = "count_words", owner: Owner | None = None, circuit_key: str = "") -> None:
        """Let three attempts of the type fail in an organization, acme by default: its circuit opens."""
        what = {"job_type": job_type, "owner": owner or Owner("acme", "u1"), "circuit_key": circuit_key}
        for _ in range(3):
            job = self.tracked.fail(self.tracked.start(self.tracked.submit(**what, max_retries=0)))
        assert self.trip(job)

    def blame_payload(self, job: JobRecord) -> JobRecord:
        """Let the job's attempt fail for good, by the fault of its payload."""
        return self.tracked.end(job, "failed", failure=Failure("PayloadError", "no such export", blames_payload=True))

    def let_circuits_rest(self) -> None:
        """Let time pass until a probe may try."""
        self.execute("UPDATE circuits SET probe_at = clock_timestamp() - interval '1 second'")

    def probe(self) -> list[UUID]:
        """Name the probes that may try now."""
        return circuits.probe(self.tracked.connection, self.limits)

    def holds(self, of: Iterable[JobRecord] | None = None) -> list[str | None]:
        """What these jobs, or all that are not finished, wait for."""
        found = [self.tracked.get(job.id) for job in of] if of is not None else self.tracked.all()
        return [job.hold for job in found if of is not None or job.status in (*WAITING, Status.RUNNING)]

    def in_flight(self, organization_id: str = "acme") -> list[UUID]:
        """The jobs that hold a slot of the organization, oldest first."""
        of = table.c.organization_id == organization_id
        found = select(table.c.id).where(of, text(IN_FLIGHT)).order_by(table.c.created_at, table.c.id)
        return list(self.tracked.connection.execute(found).scalars())

    def in_line(self, organization_id: str = "acme") -> list[UUID]:
        """The jobs in line for a slot of the organization, oldest first."""
        rows = self.tracked.all()
        return [
            job.id for job in rows if job.organization_id == organization_id and job.hold is Hold.ORGANIZATION_LIMIT
        ]

    def most_executing(self) -> dict[str, int]:
        """How many bodies of each organization ran at once at most, by the intervals of the history."""
        return most_executing(self.tracked.connection)

    def execute(self, sql: str, **parameters: Any) -> None:
        self.tracked.connection.execute(text(sql), parameters)


def most_executing(connection: Connection) -> dict[str, int]:
    """How many bodies of each organization ran at once at most, by the intervals of the history."""
    running: dict[str, int] = {}
    most: dict[str, int] = {}
    for row in connection.execute(text(EXECUTING)):
        running[row.organization_id] = running.get(row.organization_id, 0) + row.change
        most[row.organization_id] = max(most.get(row.organization_id, 0), running[row.organization_id])
    return most


def fill(tracked: Tracked, number: int, **columns: Any) -> list[UUID]:
    """The ids of that many new jobs of acme's u1, made in one statement; `columns` as in the table."""
    values = {"organization_id": "acme", "job_type": "count_words", "hold": None, "delay": timedelta(0), "priority": 0}
    values |= {"payload": "{}", **columns}
    return list(tracked.connection.execute(FILL, {"number": number, **values}).scalars())


FILL = text(
    """
    WITH made AS (
        INSERT INTO jobs (id, organization_id, user_id, job_type, status, queue, max_retries, hold, due_at,
                          priority, payload)
        SELECT id, :organization_id, 'u1', :job_type, 'queued', 'default', 3, :hold,
               CASE :hold WHEN 'schedule' THEN clock_timestamp() + CAST(:delay AS interval) END, :priority,
               CAST(:payload AS jsonb)
        FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, :number)) AS new
        RETURNING *
    ), logged AS (
        INSERT INTO history (job_id, organization_id, user_id, job_type, event, to_status, attempt, dispatch, actor)
        SELECT id, organization_id, user_id, job_type, 'created', 'queued', 0, 1, 'u1' FROM made
    )
    SELECT id FROM made"""
)


def limited(pool: Database, tracked: Tracked, concurrency: int) -> Limited:
    """The platform with this limit for every organization."""
    return Limited(pool, tracked, Limits(concurrency, LEASE_TIMEOUT))
