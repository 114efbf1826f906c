"""What a forked child has of the connections of its parent: nothing, so that they end with the parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest
from sqlalchemy import text

from tests.live import eventually, is_alive
from tracking.db import Database

# A connection in a transaction that holds a lock, and another one; and a child that outlives all of it.
PARENT = """
import os, time
from sqlalchemy import text
from tracking.db import Database
from tracking.settings import settings

pool = Database(os.environ["DATABASE_URL"], settings())

def backend(connection):
    return connection.execute(text("SELECT pg_backend_pid()")).scalar_one()

with pool.begin() as locking, pool.autocommit() as other:
    locking.execute(text("SELECT pg_advisory_xact_lock(42)"))
    told = [os.getpid(), backend(locking), backend(other)]
    reading, writing = os.pipe()
    if os.fork() == 0:
        with pool.autocommit() as own:
            os.write(writing, f"{os.getpid()} {backend(own)}".encode())
            time.sleep(60)
        os._exit(0)
    print(*told, os.read(reading, 100).decode(), backend(locking), flush=True)
    time.sleep(60)
"""
ALIVE = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(:backends)"


@pytest.fixture
def family(database_url: str) -> Iterator[list[int]]:
    """The ids of the parent, of its two backends, of its child and of that one's backend, and once more the first."""
    environment = {**os.environ, "DATABASE_URL": database_url}
    arguments = [sys.executable, "-c", PARENT]
    with subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ids = [int(number) for number in process.stdout.readline().split()]
        yield ids
        for pid in (process.pid, ids[3]):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_no_transaction_of_a_killed_process_goes_on_with_its_child(database: Database, family: list[int]) -> None:
    """The connections of a process that is killed end with it, and with them its locks; those of its child go on."""
    parent, locking, other, child, own, still_locking = family
    assert still_locking == locking  # it was of no consequence for the parent that it has a child
    os.kill(parent, signal.SIGKILL)

    def alive(*backends: int) -> int:
        with database.autocommit() as connection:
            return int(connection.execute(text(ALIVE), {"backends": list(backends)}).scalar_one())

    eventually(lambda: not alive(locking, other), within=10, what="the end of its connections")
    assert is_alive(child)
    assert alive(own) == 1
    with database.begin() as connection:
        assert connection.execute(text("SELECT pg_try_advisory_xact_lock(42)")).scalar_one()
