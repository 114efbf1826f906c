"""How long the leader's looks at the whole database take, which it has every half second."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection

from tasks.leader.counting import ROWS
from tracking import jobs, retention, totals, workers
from tracking.admission import circuits, holds, line
from tracking.admission.rule import Limits
from tracking.db import Database
from tracking.reads.measured import measured
from tracking.reads.tail import last_number
from tracking.retention import Policy
from tracking.settings import settings

LIMITS = Limits(5)
BATCH = 200  # as the leader takes them
SILENCE = timedelta(seconds=20)
ROUNDS = 5

Look = Callable[[Connection], Any]


def looks() -> Mapping[str, Look]:
    """What the leader asks, by the names of its duties."""
    given: dict[str, Any] = {"limits": LIMITS, "batch": BATCH}
    return {
        "due": partial(holds.lift_due, **given),
        "next in line": partial(line.with_room, limits=LIMITS),
        "unsent": partial(jobs.undispatched, older_than=timedelta(seconds=3), limit=BATCH),
        "circuits": lambda connection: (circuits.judge(connection), circuits.probe(connection, LIMITS)),
        "pauses": partial(holds.lift_gated, **given),
        "dependencies": lambda connection: (
            holds.lift_dependents(connection, **given),
            holds.cancel_dependents(connection, BATCH),
        ),
        "unserved queues": partial(line.take_back_unserved, **given),
        "crowds": partial(line.take_back_crowd, **given),
        "limits": partial(line.overbooked, limits=LIMITS),
        "lost workers": partial(jobs.orphans, lease_timeout=SILENCE, limit=BATCH),
        "forgotten workers": partial(workers.forget_dead, unseen_for=timedelta(days=1)),
        "lost messages": partial(jobs.waiting_queues, age=timedelta(seconds=10)),
        "totals of 2,000 events": _count,
        "metrics": partial(measured, lease_timeout=SILENCE),
        "retention, nothing to remove": partial(_prune, days=365),
    }


def measure(database: Database, show: Callable[[int], None]) -> dict[str, float]:
    """Milliseconds of each look, the median of a few; nothing of what they do is kept."""
    found = {}
    for done, (name, look) in enumerate(looks().items()):
        times = sorted(_time(database, look) for _ in range(ROUNDS))
        found[name] = times[ROUNDS // 2]
        show(done + 1)
    return found


def _time(database: Database, look: Look) -> float:
    with database.begin() as connection:
        return milliseconds(connection, look)


def milliseconds(connection: Connection, look: Look) -> float:
    """How long it takes; what it does is undone."""
    with connection.begin_nested() as savepoint:
        began = time.perf_counter()
        look(connection)
        spent = 1000 * (time.perf_counter() - began)
        savepoint.rollback()
    return spent


def _count(connection: Connection) -> None:
    """The last events of the history, as if they were to be counted."""
    last = last_number(connection)
    connection.execute(totals.ADVANCE, {"to": last - ROWS})
    totals.count(connection, last, most=ROWS)


def _prune(connection: Connection, days: int) -> None:
    kept = dict.fromkeys(Policy.configured(settings()).by_status, timedelta(days=days))
    retention.prune(connection, Policy(kept), limit=BATCH)
