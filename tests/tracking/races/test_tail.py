"""The tail of the history while many write: every row once, in the order of its job, whatever else is going on."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from random import Random
from typing import Any

import pytest
from sqlalchemy import Connection, make_url, text

from tests.racing import THREADS
from tests.servers import Servers, new_database
from tests.tracked import Tracked
from tracking.db import Database
from tracking.reads.tail import BATCH, Happening, Occurrence, Tail
from tracking.settings import settings

ROWS = 20_000
JOBS = 200
MOST_AT_ONCE = 40  # rows of a transaction
RESUMED_AFTER = 50  # polls
PATIENCE = 90.0  # seconds

# As the verbs do: the rows are locked, changed, and only then a row of the history draws its id.
WRITE = text(
    """
    WITH locked AS (
        SELECT id FROM jobs WHERE id IN (SELECT id FROM jobs ORDER BY hashtext(id::text || :seed) LIMIT :most)
        ORDER BY id FOR UPDATE
    ), moved AS (
        UPDATE jobs SET total_steps = total_steps + 1 FROM locked WHERE jobs.id = locked.id RETURNING jobs.*
    )
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status, attempt, dispatch,
                         actor, detail)
    SELECT id, organization_id, user_id, job_type, 'progress', status, status, attempt, dispatch, 'w',
           jsonb_build_object('current', total_steps)
    FROM moved RETURNING id"""
)
WRITE_EVENT = text(
    """
    INSERT INTO events (id, organization_id, user_id, event, subject_id)
    VALUES (nextval('history_id_seq'), 'acme', 'u1', 'schedule.fired', gen_random_uuid())"""
)
# One row, without a transaction's number before it has drawn its id.
WRITE_ONE = text(
    """
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, to_status, attempt, dispatch, actor, detail)
    VALUES (gen_random_uuid(), 'acme', 'u1', 'alone', 'created', 'queued', 0, 1, 'w', '{}')"""
)


class Writers:
    """Threads that write history until there are ROWS of it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._left = ROWS
        self.committed = 0
        self.rolled_back = 0

    def write(self, number: int) -> None:
        random = Random(number)
        while (most := self._share(random)) > 0:
            with self._database.engine.connect().execution_options(isolation_level="READ COMMITTED") as connection:
                written = self._transaction(connection, random, most)
                is_rolled_back = random.random() < 0.03
                connection.rollback() if is_rolled_back else connection.commit()
            with self._lock:
                self.committed += 0 if is_rolled_back else written
                self.rolled_back += written if is_rolled_back else 0

    def _share(self, random: Random) -> int:
        with self._lock:
            share = min(self._left, random.randint(1, MOST_AT_ONCE))
            self._left -= share
            return share

    def _transaction(self, connection: Connection, random: Random, most: int) -> int:
        if most == 1:
            connection.execute(random.choice([WRITE_ONE, WRITE_EVENT]))
            return 1
        if random.random() < 0.2:  # of a table of its own, beside the history or instead of it
            connection.execute(WRITE_EVENT)
            most -= 1
            return 1 + self._write(connection, random, most)
        return self._write(connection, random, most)

    def _write(self, connection: Connection, random: Random, most: int) -> int:
        written = connection.execute(WRITE, {"seed": str(random.random()), "most": most}).rowcount
        if random.random() < 0.1:
            time.sleep(random.uniform(0, 0.05))
        return written


def follow(database: Database, until: Any) -> list[Happening | Occurrence]:
    """What the tail returns, by readers that are thrown away and resumed, until it is over and nothing is left."""
    found: list[Happening | Occurrence] = []
    deadline, polls = time.monotonic() + PATIENCE, 0
    tail = Tail(0)
    while time.monotonic() < deadline:
        is_over = until()
        with database.autocommit() as connection:
            happenings = tail.poll(connection)
        found += happenings
        polls += 1
        if is_over and not happenings and not tail.is_held:
            return found
        if polls % RESUMED_AFTER == 0:
            tail = Tail(tail.position)
        if len(happenings) < BATCH:
            time.sleep(0.01)
    raise AssertionError("the tail did not come to its end")


@contextmanager
def long_transactions(database: Database, elsewhere: Database) -> Iterator[None]:
    """Transactions that have written another table, here and in another database, and do not end."""
    with elsewhere.begin() as there, database.begin() as here, database.begin() as reader:
        there.execute(WRITE_ONE)
        here.execute(text("INSERT INTO groups (id) VALUES ('long')"))
        reader.execute(text("SELECT count(*) FROM history"))
        yield


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database with connections for all of them."""
    pool = Database(database_url, settings(), pool_size=THREADS + 3)
    yield pool
    pool.close()


@pytest.fixture
def elsewhere(servers: Servers) -> Iterator[Database]:
    """Another database of the same server."""
    with new_database(servers) as url:
        other = Database(url, settings())
        yield other
        other.close()


def test_twenty_thousand_rows_without_gap_repeat_or_reorder(database: Database, elsewhere: Database) -> None:
    """With eight writers, rollbacks and transactions that last, the tail has every row once, each job's in order."""
    assert make_url(str(database.engine.url)).database != make_url(str(elsewhere.engine.url)).database
    with database.autocommit() as connection:
        for _ in range(JOBS):
            Tracked(connection).submit()
    writers = Writers(database)
    with long_transactions(database, elsewhere), ThreadPoolExecutor(THREADS) as threads:
        runs = [threads.submit(writers.write, number) for number in range(THREADS)]
        found = follow(database, lambda: all(run.done() for run in runs))
        for run in runs:
            run.result()
    ids = [happening.id for happening in found]
    assert ids == sorted(set(ids)), "in order, none twice"
    with database.autocommit() as connection:
        kept = (
            connection.execute(text("SELECT id FROM history UNION ALL SELECT id FROM events ORDER BY id"))
            .scalars()
            .all()
        )
    assert ids == kept, "no gap"
    assert len(ids) == writers.committed + JOBS
    assert writers.rolled_back, "some were rolled back"
    assert {type(happening) for happening in found} == {Happening, Occurrence}
    steps: Counter[Any] = Counter()
    for happening in found:
        if happening.detail.get("current") is not None:
            steps[happening.job_id] += 1
            assert happening.detail["current"] == steps[happening.job_id], "each job's in the order of its row"
