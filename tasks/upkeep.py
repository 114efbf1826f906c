"""What every worker does besides its jobs: it says that it lives, and one of them looks after the rows.

Both run in threads of their own in the worker's main process, so that neither a job nor the broker holds them up.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import structlog
from celery import bootsteps
from celery.worker.components import Pool
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from tasks import admitting, lease, succession
from tasks.dispatch import Publisher
from tasks.handing_back import HandingBack
from tasks.pruning import Pruning
from tasks.recording import persist, recorder
from tasks.resending import Resending
from tasks.stopping import Stopping
from tracking import jobs, workers
from tracking.db import database
from tracking.settings import settings

log = structlog.get_logger(__name__)

LEADER_LOCK = 0x63656C65_72696163  # "celeriac"; any constant will do, it only has to be ours
ELECTION_INTERVAL = 2.0  # seconds between two tries to become the leader
DISPATCH_GRACE = timedelta(seconds=3)  # the submitting process sends its own messages; later they are ours
BATCH = 500
REAP_INTERVAL = 2.0
STOPPING_INTERVAL = 1.0  # seconds between two looks for cancelled bodies
FORGET_AFTER = timedelta(days=1)
# Seconds without a statement after which PostgreSQL ends the leader's session, and with it the lock: a process that is
# stopped, or a machine that is cut off, would keep it. Its longest wait, for a broker, is half of this.
LEADER_SILENCE = 10.0
SILENCE = text("SELECT set_config('idle_session_timeout', :milliseconds, false)")
STOP_TIMEOUT = 10.0


class Upkeep(bootsteps.StartStopStep):
    """The worker's bootstep: it starts before the pool, whose children inherit the lease, and stops after it."""

    label = "Upkeep"

    def __init__(self, worker: Any, **_: Any) -> None:
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._lease = lease.take(worker.soft_time_limit)
        self._handing_back = HandingBack(worker, self._lease)

    def start(self, parent: Any) -> None:
        """Register the worker, then begin. Raises DatabaseAway without a database for CELERIAC_START_PATIENCE."""
        worker = parent
        persist(lambda: self._beat(worker), patience=settings().start_patience, worker=worker.hostname)
        loops: dict[str, Callable[[], None]] = {
            "heartbeat": lambda: self._keep_beating(worker),
            "stopping": lambda: self._keep_stopping(worker),
            "upkeep": Leader(worker, self._stop).run,
        }
        for name, loop in loops.items():
            thread = threading.Thread(target=loop, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)
        log.info("worker.registered", worker=worker.hostname, lease=str(self._lease))

    def close(self, _parent: Any) -> None:
        """The worker begins to stop."""
        self._handing_back.begin()

    def stop(self, parent: Any) -> None:
        """Write what is left to write and take the worker off the list: what it still runs is released at once."""
        self._handing_back.end()
        self._stop.set()
        recorder().flush(STOP_TIMEOUT)
        for thread in self._threads:
            thread.join(STOP_TIMEOUT)
        try:
            with database().autocommit() as connection:
                workers.leave(connection, self._lease)
        except SQLAlchemyError as error:  # its lease will run out instead
            log.warning("worker.leave_failed", worker=parent.hostname, error=type(error).__name__)

    def terminate(self, parent: Any) -> None:
        """The same at a cold shutdown."""
        self.stop(parent)

    def _keep_beating(self, worker: Any) -> None:
        while not self._stop.wait(settings().heartbeat):
            try:
                self._beat(worker)
            except SQLAlchemyError as error:
                log.warning("heartbeat.failed", worker=worker.hostname, error=type(error).__name__)

    def _keep_stopping(self, worker: Any) -> None:
        stopping = Stopping(worker, self._lease)
        while not self._stop.wait(STOPPING_INTERVAL):
            try:
                stopping.turn()
            except Exception as error:  # noqa: BLE001 - without the event loop Celery's own state may move under us
                log.warning("stopping.failed", worker=worker.hostname, error=type(error).__name__)

    def _beat(self, worker: Any) -> None:
        with database().autocommit() as connection:
            workers.beat(
                connection,
                self._lease,
                name=worker.hostname,
                pid=os.getpid(),
                queues=sorted(worker.app.amqp.queues.consume_from),
                concurrency=worker.concurrency,
            )


class Leader:
    """The worker that holds the lock: it sends what is due or was never sent, and releases the jobs of the dead."""

    def __init__(self, worker: Any, stop: threading.Event) -> None:
        self._stop = stop
        self._publisher = Publisher(worker.app)
        self._broker_back_at = 0.0
        self._reap_at = 0.0
        self._pruning = Pruning()
        self._resending = Resending(worker)
        self._admission = admitting.Turns()
        self._successors = succession.Sweep()

    def run(self) -> None:
        """Stand for election until stopped; lead while the lock's connection lives."""
        while not self._stop.is_set():
            try:
                with database().autocommit() as connection:
                    self._stand(connection)
            except SQLAlchemyError as error:
                log.warning("upkeep.database_away", error=type(error).__name__)
            self._stop.wait(ELECTION_INTERVAL)
        self._publisher.close()
        self._resending.close()

    def _stand(self, connection: Connection) -> None:
        # After an outage of the database every heartbeat is old: let the living be heard before the dead are counted.
        self._reap_at = time.monotonic() + min(settings().lease_timeout, 2 * settings().heartbeat)
        while not self._stop.is_set():
            if connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": LEADER_LOCK}).scalar_one():
                log.info("upkeep.leading")
                try:
                    connection.execute(SILENCE, {"milliseconds": _milliseconds_of_silence()})
                    self._lead(connection)
                finally:
                    if not connection.invalidated:
                        connection.execute(SILENCE, {"milliseconds": "0"})
                        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": LEADER_LOCK})
                return
            self._stop.wait(ELECTION_INTERVAL)

    def _lead(self, connection: Connection) -> None:
        while not self._stop.is_set():
            sent = self._dispatch(connection)
            self._reap(connection)
            self._resending.turn()
            self._pruning.turn()
            if sent < BATCH:
                self._stop.wait(settings().sweep_interval)

    def _dispatch(self, connection: Connection) -> int:
        if time.monotonic() < self._broker_back_at:
            return 0
        due = {job.id: job for job in [*self._admission.turn(connection), *self._successors.turn(connection)]}
        unsent = {job.id: job for job in jobs.undispatched(connection, DISPATCH_GRACE, BATCH)}
        records = list((due | unsent).values())
        if records:
            try:
                self._publisher.dispatch(records)
            except SQLAlchemyError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever the broker's client raises: the rows are found again
                log.warning("upkeep.broker_away", count=len(records), error=type(error).__name__)
                self._broker_back_at = time.monotonic() + ELECTION_INTERVAL
        return len(records)

    def _reap(self, connection: Connection) -> None:
        if time.monotonic() < self._reap_at:
            return
        self._reap_at = time.monotonic() + REAP_INTERVAL
        timeout = timedelta(seconds=settings().lease_timeout)
        for lost in jobs.reap(connection, timeout, BATCH, max_losses=settings().max_losses):
            log.error("worker.lost", job_id=str(lost.job_id), status=str(lost.status))
        workers.forget_dead(connection, FORGET_AFTER)


def _milliseconds_of_silence() -> str:
    return str(round(1000 * max(LEADER_SILENCE, 4 * settings().sweep_interval)))


# Celery starts a step after those that it requires, and stops it before them: while the pool finishes its jobs, and the
# main process writes the outcome of those that died, the worker must not look dead.
_required: Any = Pool.requires
Pool.requires = (*_required, Upkeep)
