"""What every worker does besides its jobs: it says that it lives, and one of them looks after the rows.

Both run in threads of their own in the worker's main process, so that neither a job nor the broker holds them up.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from celery import bootsteps
from celery.worker.components import Pool
from uuid_utils.compat import uuid7

from tasks import external
from tasks.attempt.succession import SWEEP_INTERVAL, left_behind, of_incomplete_headers
from tasks.attempt.telling import LOST
from tasks.broker.publisher import Publisher
from tasks.current import Lease
from tasks.failures import alone
from tasks.leader.counting import Counting
from tasks.leader.duties import Duties, Duty
from tasks.leader.lost_messages import Resending
from tasks.leader.operating import Operating
from tasks.leader.pruning import Pruning
from tasks.leader.schedules import Scheduling
from tasks.leader.webhooks import Telling, close_circuits
from tasks.leader.weeks import Weeks
from tasks.leader.workflows import Concluding
from tasks.persistence import persist
from tasks.platform import Platform
from tasks.worker.batcher import Batcher
from tasks.worker.losses import settle_elsewhere
from tasks.worker.reconciling import Reconciling
from tasks.worker.shutdown import HandingBack
from tasks.worker.stopping import Stopping
from tracking import fingerprints, jobs, leadership, workers
from tracking.admission import holds
from tracking.db import Connection, SQLAlchemyError, ping
from tracking.models import JobRecord, Outcome

log = structlog.get_logger(__name__)

ELECTION_INTERVAL = 2.0  # seconds between two tries to become the leader
DISPATCH_GRACE = timedelta(seconds=3)  # the submitting process sends its own messages; later they are ours
BATCH = 500
REAP_INTERVAL = 2.0
GATES_INTERVAL = 1.0  # seconds between two looks at pauses, circuits and dependencies
FORGET_INTERVAL = 60.0
ABANDONED_INTERVAL = 5.0  # seconds between two looks for jobs on which nobody reports any more
LOST_WORKERS = "lost workers"
ACTOR = "upkeep"
RECONCILING_INTERVAL = 3.0  # seconds between two looks for rows without a body
STOPPING_INTERVAL = 1.0  # seconds between two looks for cancelled bodies
FORGET_AFTER = timedelta(days=1)
# Seconds without a statement after which PostgreSQL ends the leader's session, and with it the lock: a process that is
# stopped, or a machine that is cut off, would keep it. Its longest wait, for a broker, is half of this.
LEADER_SILENCE = 10.0
STOP_TIMEOUT = 10.0


class Upkeep(bootsteps.StartStopStep):
    """The worker's bootstep: it starts before the pool, whose children inherit the lease, and stops after it."""

    label = "Upkeep"

    def __init__(self, worker: Any, lease: UUID | None = None, instead_of: Sequence[UUID] = (), **_: Any) -> None:
        self._instead_of = instead_of
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._platform: Platform = worker.app.platform
        self._lease = lease or uuid7()
        worker.app.lease = Lease(self._lease, worker.soft_time_limit)
        worker.batcher = Batcher(self._platform, self._lease, worker.hostname)
        self._handing_back = HandingBack(worker, self._lease)

    def start(self, parent: Any) -> None:
        """Register the worker, then begin. Raises DatabaseAway without a database for CELERIAC_START_PATIENCE."""
        worker = parent
        persist(lambda: self._beat(worker), patience=self._platform.settings.start_patience, worker=worker.hostname)
        self._take_back()
        if worker.lookahead is not None:
            worker.batcher.start()
        loops: dict[str, Callable[[], None]] = {
            "heartbeat": lambda: self._keep_beating(worker),
            "stopping": lambda: self._keep_turning("stopping", Stopping(worker, self._lease).turn, STOPPING_INTERVAL),
            "reconciling": lambda: self._keep_turning(
                "reconciling", Reconciling(worker, self._lease).turn, RECONCILING_INTERVAL
            ),
            "upkeep": Leader(worker, self._stop).run,
        }
        for name, loop in loops.items():
            thread = threading.Thread(target=loop, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)
        log.info("worker.registered", worker=worker.hostname, lease=str(self._lease))

    def close(self, parent: Any) -> None:
        """The worker begins to stop."""
        if parent.lookahead is not None:
            parent.lookahead.close()
        self._handing_back.begin()

    def stop(self, parent: Any) -> None:
        """Write what is left to write, hand back what is left to run, and take the worker off the list."""
        self._handing_back.end()
        self._stop.set()
        if parent.lookahead is not None:
            parent.batcher.close(STOP_TIMEOUT)
            parent.lookahead.apply()
        if not self._platform.recorder.flush(STOP_TIMEOUT):
            log.error("recorder.unwritten", worker=parent.hostname, writes=self._platform.recorder.backlog)
        self._handing_back.release()
        self._platform.last_words(STOP_TIMEOUT)
        for thread in self._threads:
            thread.join(STOP_TIMEOUT)
        try:
            with self._platform.database.autocommit() as connection:
                workers.leave(connection, self._lease)
        except SQLAlchemyError as error:  # its lease will run out instead
            log.warning("worker.leave_failed", worker=parent.hostname, error=type(error).__name__)

    def terminate(self, parent: Any) -> None:
        """The same at a cold shutdown."""
        self.stop(parent)

    def _take_back(self) -> None:
        """Release what the dead ran whose place this worker takes: nobody has to wait until their leases run out."""
        if not self._instead_of:
            return
        try:
            with self._platform.database.autocommit() as connection:
                for lease in self._instead_of:
                    workers.leave(connection, lease)
            _release(self._platform, FORGET_AFTER)
        except SQLAlchemyError as error:  # the leader does it as soon as it can
            log.warning("worker.take_back_failed", lease=str(self._lease), error=type(error).__name__)

    def _keep_beating(self, worker: Any) -> None:
        while not self._stop.wait(self._platform.settings.heartbeat):
            try:
                self._beat(worker)
            except SQLAlchemyError as error:
                log.warning("heartbeat.failed", worker=worker.hostname, error=type(error).__name__)

    def _keep_turning(self, name: str, turn: Callable[[], None], interval: float) -> None:
        while not self._stop.wait(interval):
            try:
                turn()
            except Exception as error:  # noqa: BLE001 - without the event loop Celery's own state may move under us
                log.warning("turn.failed", turn=name, lease=str(self._lease), error=type(error).__name__)

    def _beat(self, worker: Any) -> None:
        with self._platform.database.autocommit() as connection:
            at = workers.beat(
                connection,
                self._lease,
                name=worker.hostname,
                pid=os.getpid(),
                queues=sorted(worker.app.amqp.queues.consume_from),
                concurrency=_concurrency(worker),
            )
        worker.app.clock_difference = at - datetime.now(UTC)


class Leader:
    """The worker that holds the lock: it does the duties that one must do for all."""

    def __init__(self, worker: Any, stop: threading.Event) -> None:
        self._stop = stop
        self._platform: Platform = worker.app.platform
        self._settings = self._platform.settings
        self._sending = Sending(self._platform)
        self._resending = Resending(worker)
        self._dependent = holds.FIRST  # after it, the jobs that the next look at dependencies is for
        self._duties = Duties(self.duties(), str(worker.hostname))

    def duties(self) -> list[Duty]:
        sweep, now_and_then = self._settings.sweep_interval, GATES_INTERVAL
        platform, admission, pruning = self._platform, self._platform.admission, Pruning(self._platform)
        operating, scheduling = Operating(platform), Scheduling(platform)
        return [
            Duty("due", sweep, lambda: self._let(admission.due)),
            Duty("next in line", sweep, lambda: self._let(admission.next_in_line), sooner=admission.seconds_to_room),
            Duty("unsent", sweep, self._sending.unsent),
            Duty("circuits", now_and_then, lambda: self._let(admission.probes)),
            Duty("pauses", now_and_then, lambda: self._let(admission.ungated)),
            Duty("dependencies", now_and_then, self._undepend),
            Duty("successors", SWEEP_INTERVAL, lambda: self._let(left_behind, platform)),
            Duty(
                "headers",
                SWEEP_INTERVAL,
                lambda: self._let(of_incomplete_headers, platform),
            ),
            Duty("unserved queues", now_and_then, admission.take_back_unserved),
            Duty("crowds", now_and_then, admission.take_back_crowd),
            Duty("limits", now_and_then, admission.take_back_excess),
            Duty("rates", now_and_then, admission.forget_expired, breath=sweep),
            Duty(LOST_WORKERS, REAP_INTERVAL, lambda: _reap(platform)),
            Duty("abandoned", ABANDONED_INTERVAL, lambda: _abandon(platform)),
            Duty("fingerprints", FORGET_INTERVAL, lambda: _take_fingerprints(platform), breath=sweep),
            Duty("forgotten workers", FORGET_INTERVAL, lambda: _forget_workers(platform)),
            Duty("lost messages", sweep, self._resending.turn),
            Duty("bulk operations", sweep, operating.turn, rest=1.0),
            Duty("retention of operations", pruning.INTERVAL, operating.forget, breath=sweep),
            Duty("workflows", Concluding.INTERVAL, Concluding(platform).turn),
            Duty("schedules", scheduling.INTERVAL, scheduling.turn),
            Duty("webhooks", Telling.INTERVAL, Telling(platform).turn),
            Duty("circuits of webhooks", now_and_then, lambda: close_circuits(platform)),
            Duty("totals", Counting.INTERVAL, Counting(platform).turn, rest=1.0),
            Duty("time zones", scheduling.ZONES_INTERVAL, scheduling.zones),
            *pruning.duties(breath=sweep),
            *Weeks(platform, pruning).duties(),
        ]

    def run(self) -> None:
        """Stand for election until stopped; lead while the lock's connection lives."""
        while not self._stop.is_set():
            try:
                with self._platform.direct.autocommit() as connection:
                    self._stand(connection)
            except SQLAlchemyError as error:
                log.warning("upkeep.database_away", error=type(error).__name__)
            self._stop.wait(ELECTION_INTERVAL)
        self._duties.close(STOP_TIMEOUT / 2)
        self._sending.close()
        self._resending.close()

    def _stand(self, connection: Connection) -> None:
        while not self._stop.is_set():
            if leadership.try_to_lead(connection):
                log.info("upkeep.leading")
                try:
                    leadership.lose_it_after(connection, max(LEADER_SILENCE, 4 * self._settings.sweep_interval))
                    self._lead(connection)
                finally:
                    self._duties.pause()
                    leadership.resign(connection)
                return
            self._stop.wait(ELECTION_INTERVAL)

    def _lead(self, connection: Connection) -> None:
        # After an outage of the database every heartbeat is old: let the living be heard before the dead are counted.
        self._duties.postpone(LOST_WORKERS, min(self._settings.lease_timeout, 2 * self._settings.heartbeat))
        while not self._stop.is_set():
            ping(connection)  # raises when the session, and the lock with it, is gone
            self._duties.turn()
            self._stop.wait(self._duties.rest(self._settings.sweep_interval))

    def _undepend(self) -> bool:
        """Let through what one window has; the next look is for the next one, unless there is more in this."""
        with self._platform.database.autocommit() as connection:
            end = holds.end_of_window(connection, self._dependent)
        is_full = self._let(self._platform.admission.undepending, self._dependent)
        if not is_full and not self._sending.is_held_up:
            self._dependent = end
        return is_full

    def _let(self, through: Callable[..., list[JobRecord]], *of: Any) -> bool:
        """Send what is let through; whether there may be more. While the broker is away, nothing leaves its line."""
        if self._sending.is_held_up:
            return False
        records = through(*of)
        for record in records:
            self._platform.dispatcher.send(record)
        return len(records) >= BATCH


class Sending:
    """Sends what was accepted or admitted and has not reached the broker, on a connection of its own."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._publisher = Publisher(platform)
        self._broker_back_at = 0.0

    @property
    def is_held_up(self) -> bool:
        """Whether the broker did not answer a moment ago, or has not taken yet what it was sent."""
        return time.monotonic() < self._broker_back_at or self._platform.dispatcher.backlog > BATCH

    def unsent(self) -> bool:
        """Send one batch; whether there may be more. Raises the broker's errors: the rows are found again."""
        if time.monotonic() < self._broker_back_at:
            return False
        with self._platform.database.autocommit() as connection:
            records = jobs.undispatched(connection, DISPATCH_GRACE, BATCH)
        try:
            self._publisher.publish(records)
        except SQLAlchemyError:
            raise
        except Exception:
            self._broker_back_at = time.monotonic() + ELECTION_INTERVAL
            raise
        return len(records) >= BATCH

    def close(self) -> None:
        self._publisher.close()


def _reap(platform: Platform) -> None:
    _release(platform, timedelta(seconds=platform.settings.lease_timeout))


def _release(platform: Platform, timeout: timedelta) -> None:
    """End what workers run that were not heard of for `timeout`, or have left."""
    with platform.database.autocommit() as connection:
        running, stopping = jobs.orphans(connection, timeout, BATCH)
    for fence in running:
        with alone("worker.lost_refused", job_id=str(fence.job_id)):
            lost = settle_elsewhere(platform, Outcome(fence, "lost", ACTOR))
            if lost is not None:
                log.error("worker.lost", job_id=str(lost.job_id), status=str(lost.status), error=LOST)
    for fence in stopping:
        with alone("worker.lost_refused", job_id=str(fence.job_id)), platform.database.autocommit() as connection:
            jobs.stopped(connection, fence, actor=ACTOR, how="worker lost")


def _abandon(platform: Platform) -> bool:
    silence, of_types = timedelta(seconds=platform.settings.tracked_timeout), external.patience(platform.app)
    with platform.database.autocommit() as connection:
        abandoned = jobs.abandon(connection, silence, of_types, actor=ACTOR, limit=BATCH)
    for job in abandoned:
        log.warning("job.abandoned", job_id=str(job.id), job_type=job.job_type, organization=job.organization_id)
        platform.dispatcher.follow(job.id, job.organization_id)
    return len(abandoned) >= BATCH


def _forget_workers(platform: Platform) -> None:
    with platform.database.autocommit() as connection:
        workers.forget_dead(connection, FORGET_AFTER)


def _concurrency(worker: Any) -> int:
    """How many bodies it can run at once; its pool, once it runs, may have been told to grow or shrink.

    One that scales by itself grows with what it is given: told of what runs now, nobody would give it more.
    """
    autoscaler = getattr(worker, "autoscaler", None)
    if autoscaler is not None:
        return int(autoscaler.max_concurrency)
    try:
        return int(worker.pool.num_processes)
    except (AttributeError, TypeError):  # it has not begun, or has ended
        return int(worker.concurrency)


# Celery starts a step after those that it requires, and stops it before them: while the pool finishes its jobs, and the
# main process writes the outcome of those that died, the worker must not look dead.
_required: Any = Pool.requires
Pool.requires = (*_required, Upkeep)


def _take_fingerprints(platform: Platform) -> bool:
    with platform.database.autocommit() as connection:
        return fingerprints.take(connection, BATCH) >= BATCH
