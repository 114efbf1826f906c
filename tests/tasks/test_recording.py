"""Writing what happened: repeated while the database is away, never stopped half-way, in order."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import ANY

import psycopg
import pytest
from billiard import pool
from billiard.process import current_process
from celery.exceptions import SoftTimeLimitExceeded
from psycopg import errors
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, NotSupportedError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from structlog.testing import capture_logs

from tasks import interrupts, persistence
from tasks.persistence import DatabaseAway, Recorder, persist
from tests.live import eventually
from tests.servers import Servers
from tests.tracked import new_job, own_pool
from tracking import jobs
from tracking.admission.rule import UNLIMITED
from tracking.db import Database
from tracking.models import Submitted
from tracking.reads import lists

OUTAGES: list[Exception] = [
    OperationalError("…", {}, errors.AdminShutdown()),
    OperationalError("…", {}, errors.CrashShutdown()),
    OperationalError("…", {}, errors.CannotConnectNow()),
    OperationalError("…", {}, errors.QueryCanceled()),
    OperationalError("…", {}, errors.TooManyConnections()),
    OperationalError("…", {}, errors.DiskFull()),
    OperationalError("…", {}, errors.ConnectionFailure()),
    OperationalError("…", {}, errors.DeadlockDetected()),
    OperationalError("…", {}, errors.SerializationFailure()),
    OperationalError("…", {}, errors.LockNotAvailable()),
    NotSupportedError("…", {}, errors.ReadOnlySqlTransaction()),
    OperationalError("…", {}, psycopg.OperationalError("the connection is closed")),
    DBAPIError("…", {}, errors.DataError(), connection_invalidated=True),
    PoolTimeoutError("no connection became free"),
]
REFUSALS: list[Exception] = [
    DBAPIError("…", {}, errors.UniqueViolation()),
    DBAPIError("…", {}, errors.CheckViolation()),
    DBAPIError("…", {}, errors.UndefinedTable()),
    DBAPIError("…", {}, errors.InvalidTextRepresentation()),
    DBAPIError("…", {}, psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")),
    DBAPIError("…", {}, psycopg.ProgrammingError("cannot adapt type 'object'")),
    UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
    ValueError("a bug of ours"),
]


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def database(servers: Servers) -> Iterator[Database]:
    """A pool on a database of its own: these tests end connections, which nobody else must find in his pool."""
    with own_pool(servers) as own:
        yield own


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(persistence, "time", clock)
    return clock


def _answering(*answers: Any) -> Callable[[], Any]:
    """A write that answers with these in turn; exceptions are raised."""
    left = list(answers)

    def write() -> Any:
        answer = left.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return write


def _away() -> Exception:
    return OperationalError("…", {}, errors.AdminShutdown())


def _name(error: Exception) -> str:
    return type(getattr(error, "orig", error)).__name__


@pytest.mark.parametrize("outage", OUTAGES, ids=_name)
def test_a_write_is_repeated_when_the_database_is_away(clock: Clock, outage: Exception) -> None:
    """A write is repeated after pauses until the database answers."""
    assert persist(_answering(outage, outage, "done")) == "done"
    assert len(clock.pauses) == 2


@pytest.mark.parametrize("refusal", REFUSALS, ids=_name)
def test_a_write_that_the_database_refuses_is_not_repeated(clock: Clock, refusal: Exception) -> None:
    """A write that the database refuses is not repeated."""
    with pytest.raises(type(refusal)) as raised:
        persist(_answering(refusal, "done"))
    assert raised.value is refusal
    assert clock.pauses == []


def test_the_pauses_grow_up_to_a_limit(clock: Clock) -> None:
    """The pauses between tries of a write grow up to a limit, with jitter."""
    persist(_answering(*[_away()] * 12, "done"))
    expected = [min(5.0, 0.05 * 2**number) for number in range(12)]
    assert all(whole / 2 <= pause <= whole for pause, whole in zip(clock.pauses, expected, strict=True))


@pytest.mark.parametrize("patience", [0.0, 1.0, 60.0])
def test_patience_ends(clock: Clock, patience: float) -> None:
    """A write is given up when its patience has passed, and not later."""
    began, away = clock.now, _away()

    def write() -> None:
        raise away

    with pytest.raises(DatabaseAway) as raised:
        persist(write, patience=patience)
    assert raised.value.__cause__ is away
    assert clock.now - began <= patience
    assert clock.now - began >= patience - persistence.LONGEST_PAUSE


def test_without_patience_a_write_is_tried_once(clock: Clock) -> None:
    """A write without patience is tried once."""
    with pytest.raises(DatabaseAway):
        persist(_answering(_away(), "done"), patience=0)
    assert clock.pauses == []


@pytest.fixture
def body(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[], Any]], Any]]:
    """Runs a function as a process of the pool runs a body: SIGUSR1 interrupts it."""
    monkeypatch.setattr(current_process(), "_name", "a process of the pool")
    monkeypatch.setattr(pool, "soft_timeout_sighandler", pool.soft_timeout_sighandler)
    monkeypatch.setattr(interrupts, "_installed", False)
    interrupts.install()
    previous = signal.signal(signal.SIGUSR1, pool.soft_timeout_sighandler)
    yield lambda call: interrupts.allow(lambda _: call())
    signal.signal(signal.SIGUSR1, previous)


def _signalled(*answers: Any) -> Callable[[], Any]:
    """A write that is signalled each time before it answers."""
    answer = _answering(*answers)

    def write() -> Any:
        signal.raise_signal(signal.SIGUSR1)
        return answer()

    return write


def test_a_body_is_interrupted_where_it_is(body: Callable[..., Any]) -> None:
    """Outside of a write the signal raises at once, and is known as the one of an interruption, also as a cause."""
    with pytest.raises(SoftTimeLimitExceeded) as raised:
        body(lambda: signal.raise_signal(signal.SIGUSR1))
    assert interrupts.is_of_signal(raised.value)
    other = RuntimeError("a library's own")
    other.__cause__ = raised.value
    assert interrupts.is_of_signal(other)
    assert not interrupts.is_of_signal(SoftTimeLimitExceeded())


def test_an_interruption_between_two_bodies_waits_for_the_next(body: Callable[..., Any]) -> None:
    """A signal for a body that is over raises nothing, and the next one is told of it, once."""
    body(int)
    signal.raise_signal(signal.SIGUSR1)
    assert [interrupts.allow(lambda came: came) for _ in range(2)] == [True, False]


def test_an_interruption_during_the_writing_does_not_stop_it(clock: Clock, body: Callable[..., Any]) -> None:
    """An interruption during a write, or the pauses of an outage, changes nothing of it."""
    assert body(lambda: persist(_signalled(_away(), "done"))) == "done"
    assert len(clock.pauses) == 1


def test_a_deferred_interruption_is_raised_after_the_writing(clock: Clock, body: Callable[..., Any]) -> None:
    """A deferred interruption is raised after the write."""
    write = _signalled(_away(), "done")
    with pytest.raises(SoftTimeLimitExceeded) as raised:
        body(lambda: persist(write, defer_interrupt=True))
    assert interrupts.is_of_signal(raised.value)
    assert len(clock.pauses) == 1
    with pytest.raises(IndexError):
        write()


def test_a_deferred_interruption_is_not_lost_with_the_database(clock: Clock, body: Callable[..., Any]) -> None:
    """A deferred interruption is raised although the write was given up."""
    with pytest.raises(SoftTimeLimitExceeded):
        body(lambda: persist(_signalled(_away()), patience=0, defer_interrupt=True))
    assert clock.pauses == []


@pytest.fixture
def alarm() -> Iterator[Callable[[float], None]]:
    """Raises SoftTimeLimitExceeded in the main thread in that many seconds, as billiard's signal handler does."""

    def interrupt(*_: Any) -> None:
        raise SoftTimeLimitExceeded

    previous = signal.signal(signal.SIGUSR1, interrupt)
    timers: list[threading.Timer] = []

    def set_alarm(seconds: float) -> None:
        timers.append(threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGUSR1)))
        timers[-1].start()

    yield set_alarm
    for timer in timers:
        timer.join()
    signal.signal(signal.SIGUSR1, previous)


@pytest.mark.parametrize("connect", [Database.autocommit, Database.begin], ids=["autocommit", "transaction"])
def test_an_interruption_in_the_midst_of_a_statement_leaves_one_job(
    database: Database, alarm: Callable[[float], None], body: Callable[..., Any], connect: Any
) -> None:
    """A write whose statement is interrupted is not torn, and counts once."""
    new, tries = new_job(), list[Submitted]()

    def write() -> None:
        with connect(database) as connection:
            tries.append(jobs.submit(connection, new, UNLIMITED))
            signal.signal(signal.SIGUSR1, pool.soft_timeout_sighandler)
            alarm(0.1)
            connection.execute(text("SELECT pg_sleep(0.5)"))

    with pytest.raises(SoftTimeLimitExceeded):
        body(lambda: persist(write, patience=5, defer_interrupt=True))
    assert [submitted.job.id for submitted in tries] == [new.id]
    with database.autocommit() as connection:
        assert [entry.event for entry in lists.timeline(connection, new.id)] == ["created"]


@pytest.mark.parametrize("connect", [Database.autocommit, Database.begin], ids=["autocommit", "transaction"])
def test_an_interruption_leaves_no_broken_connection_behind(
    database: Database, alarm: Callable[[float], None], connect: Any
) -> None:
    """An interrupted statement leaves no broken connection in the pool."""

    def sleep() -> None:
        with connect(database) as connection:
            alarm(0.05)
            connection.execute(text("SELECT pg_sleep(4)"))

    for _ in range(3):
        with pytest.raises(SoftTimeLimitExceeded):
            sleep()
    assert [_ping(database) for _ in range(3)] == [1, 1, 1]
    with database.begin() as connection:
        assert connection.execute(text("SELECT now() < clock_timestamp()")).scalar_one()


def test_a_write_survives_the_end_of_its_connection(database: Database) -> None:
    """A write survives a restart of the database."""
    new = new_job()

    def write() -> bool:
        with database.autocommit() as connection:
            return jobs.submit(connection, new, UNLIMITED).created

    assert persist(lambda: _ping(database)) == 1
    _end_connections(database)
    assert persist(write, patience=10) is True


def _ping(database: Database) -> Any:
    with database.autocommit() as connection:
        return connection.execute(text("SELECT 1")).scalar_one()


def _end_connections(database: Database) -> None:
    url = database.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def test_the_recorder_writes_in_order() -> None:
    """The recorder writes in the order of the calls."""
    recorder, written = Recorder(), list[int]()
    for number in range(200):
        recorder.record(lambda number=number: written.append(number))  # type: ignore[misc]
    assert recorder.flush(10)
    assert written == list(range(200))


def test_the_recorder_does_not_hold_up_its_caller() -> None:
    """The recorder's caller does not wait for the database."""
    recorder, gate = Recorder(), threading.Event()
    began = time.monotonic()
    recorder.record(lambda: gate.wait(10))
    assert time.monotonic() - began < 1
    gate.set()
    assert recorder.flush(10)


def test_flush_waits_for_what_is_being_written() -> None:
    """The recorder's flush waits for pending writes, and tells when that takes too long."""
    recorder, gate = Recorder(), threading.Event()
    recorder.record(lambda: gate.wait(10))
    assert not recorder.flush(0.05)
    gate.set()
    assert recorder.flush(10)


def test_a_refused_write_does_not_stop_the_recorder() -> None:
    """After a refused write the recorder goes on with the next one."""
    recorder, written = Recorder(), list[str]()
    recorder.record(_answering(REFUSALS[0]))
    recorder.record(lambda: written.append("next"))
    assert recorder.flush(10)
    assert written == ["next"]


def test_the_recorder_waits_for_a_database_that_is_away() -> None:
    """While the database is away later writes of the recorder wait behind the first."""
    recorder, written = Recorder(), list[str]()
    recorder.record(_answering(_away(), _away(), None))
    recorder.record(lambda: written.append("next"))
    eventually(lambda: written == ["next"], within=10)
    assert recorder.flush(10)


def test_a_full_backlog_drops_the_write_instead_of_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write into a full backlog of the recorder is dropped."""
    monkeypatch.setattr(persistence, "BACKLOG", 1)
    recorder, gate, started, written = Recorder(), threading.Event(), threading.Event(), list[str]()

    def first() -> None:
        started.set()
        gate.wait(10)

    recorder.record(first)
    assert started.wait(10)
    recorder.record(lambda: written.append("kept"))
    recorder.record(lambda: written.append("dropped"))
    gate.set()
    assert recorder.flush(10)
    assert written == ["kept"]


def test_the_warning_names_the_job_that_waits(clock: Clock) -> None:
    """The warning about a waiting write names the job and the kind of error only."""
    with capture_logs() as logs:
        persist(_answering(_away(), "done"), task_id="0199")
    [line] = logs
    assert (line.pop("log_level"), line.pop("event"), line.pop("retry_in")) == ("warning", "database.away", ANY)
    assert line == {"task_id": "0199", "error": "OperationalError"}
