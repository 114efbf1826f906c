"""Threads that do something to the same jobs at the same moment."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import Random
from threading import Barrier
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from tests.tracked import ACME, HOUR, LEASE_TIMEOUT, accepted, new_job, outcome, reap, wish
from tracking import jobs
from tracking.admission.rule import UNLIMITED
from tracking.db import Database
from tracking.errors import TrackingError
from tracking.models import JobRecord, Report

ROUNDS = 30
THREADS = 8
PATIENCE = 20.0  # seconds for one round
HANDICAP = 0.002  # seconds at most

Action = Callable[[Connection], Any]
ActionOnJob = Callable[[Connection, UUID], Any]


class Racers:
    """Threads with a connection each, which start at once, give or take a statement's time: so that each may win."""

    def __init__(self, pool: Database, threads: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._threads = threads
        self._random = Random(7)

    def race(self, *actions: Action) -> list[Any]:
        """The answers, in the order of the actions; a refusal is the answer as well."""
        line = Barrier(len(actions), timeout=PATIENCE)

        def run(action: Action, handicap: float) -> Any:
            with self._pool.autocommit() as connection:
                line.wait()
                time.sleep(handicap)
                try:
                    return action(connection)
                except TrackingError as refusal:
                    return refusal

        runs = [self._threads.submit(run, action, self._random.uniform(0, HANDICAP)) for action in actions]
        return [future.result(PATIENCE) for future in runs]


def report(job: JobRecord, **said: Any) -> Action:
    """Somebody elsewhere says how far it is."""
    return lambda connection: jobs.track(connection, job.id, ACME, Report(**said), actor="u1")


def claim(job: JobRecord) -> Action:
    """A worker wants to run it."""
    claim = wish(job.fence)
    return lambda connection: jobs.claim(connection, [claim])[0]


def settle(job: JobRecord, kind: Any) -> Action:
    ended = outcome(job, kind, delay=HOUR)
    return lambda connection: accepted(connection, [ended])


def cancel(job: JobRecord) -> Action:
    return lambda connection: jobs.cancel(connection, job.id, ACME, actor="u1")


def retry(job: JobRecord) -> Action:
    return lambda connection: jobs.retry(connection, job.id, ACME, actor="u1", force=True, limits=UNLIMITED)


def stopped(job: JobRecord) -> Action:
    """The worker has stopped its body."""
    return lambda connection: jobs.stopped(connection, job.fence, actor="worker-1", how="interrupted")


def reaping(connection: Connection) -> Any:
    """The leader looks for attempts of workers that have died."""
    return reap(connection, LEASE_TIMEOUT, 100)


def submit(key: str, request: str) -> Action:
    """Somebody submits a job with this key."""
    new = new_job(idempotency_key=key, request_hash=request)
    return lambda connection: jobs.submit(connection, new, UNLIMITED)


def kinds(answers: list[Any]) -> Counter[type]:
    """How many answers there are of each type."""
    return Counter(type(answer) for answer in answers)
