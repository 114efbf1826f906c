"""Checks of the database: that it answers, is migrated, agrees about the time, and holds up no reader."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from tasks.doctor.findings import Check, Finding, failed, fine, warning
from tracking import roles
from tracking.clock import at_present
from tracking.db import Connection, Database, SQLAlchemyError
from tracking.errors import ConfigurationError
from tracking.exits import fault_of
from tracking.reads import condition
from tracking.reads.tail import Tail
from tracking.settings import Settings
from tracking.versions import newest, require_newest, version

OLDEST = 15  # PostgreSQL's version that is supported
FULL = 0.9  # of its connections
APART = 2.0  # seconds that clocks may differ: leases, schedules and tokens take more
SLOW_TAIL = 5.0  # seconds that live events may be late
FEW, VERY_FEW = 0.10, 0.03  # of a disk that is free
MIB = 1 << 20


def checks(settings: Settings) -> list[Check]:
    """Those of the database, and of the disk beside it."""

    def on(look: Callable[[Connection], Finding]) -> Callable[[], Finding]:
        def looked() -> Finding:
            with _connected(settings) as connection:
                return look(connection)

        return looked

    needs = ("database",)
    return [
        Check("database", lambda: _database(settings)),
        Check("migrations", on(_migrations), needs),
        Check("tenants", on(_tenants), needs),
        Check("clock", on(_clock), needs),
        Check("tail", on(_tail), needs, within=SLOW_TAIL * 2),
        Check("disk", lambda: _disk(settings)),
    ]


@contextmanager
def _connected(settings: Settings) -> Iterator[Connection]:
    database = Database(settings.database, settings, pool_size=1)
    try:
        with database.autocommit() as connection:
            yield connection
    finally:
        database.close()


def _database(settings: Settings) -> Finding:
    try:
        with _connected(settings) as connection:
            found = condition.condition(connection)
    except SQLAlchemyError as error:
        fault = fault_of(error)
        said = fault.line if fault else type(error).__name__
        return failed("database", said, "start PostgreSQL, or set DATABASE_URL to where it is")
    connections = f"{found.connections} of {found.most_connections} connections"
    said = f"PostgreSQL {found.version}, {found.size // MIB} MiB, {connections}"
    if not found.is_writable:
        mend = "set DATABASE_URL to the primary" if found.is_standby else "turn default_transaction_read_only off in it"
        return failed("database", f"{said}, and it takes no writes", mend)
    if int(found.version.partition(".")[0]) < OLDEST:
        return failed("database", said, f"PostgreSQL {OLDEST} is the oldest that is supported: upgrade it")
    if found.connections > FULL * found.most_connections:
        return warning("database", said, "raise max_connections, or put PgBouncer before it")
    return fine("database", said)


def _migrations(connection: Connection) -> Finding:
    try:
        require_newest(connection)
    except ConfigurationError as error:
        return failed("migrations", str(error), "run `celeriac migrate` with this version of the program")
    found = version(connection)
    whose = (
        "that of this program" if found == newest() else f"of a later release than this program, which has {newest()}"
    )
    return fine("migrations", f"the schema is {found}, {whose}")


def _tenants(connection: Connection) -> Finding:
    """Whether a query that forgets to say whose rows it wants shows a request another organization's."""
    lacking = roles.lacking(connection)
    if lacking is not None:
        mend = "run `celeriac roles` as a role that may create roles, then `celeriac migrate`, and start the API again"
        return warning("tenants", f"queries alone keep organizations apart: {lacking}", mend)
    name, above = roles.login(connection)
    said = "the database keeps organizations apart in each request"
    return fine("tenants", said if above is None else f"{said}; the login {name} is {above}")


def _clock(connection: Connection) -> Finding:
    """The difference is known as well as the answer is quick: the quickest of three counts."""
    best, apart = timedelta.max, timedelta(0)
    for _ in range(3):
        before = time.monotonic()
        asked = datetime.now(UTC)
        theirs = at_present(connection)
        trip = timedelta(seconds=time.monotonic() - before)
        if trip < best:
            best, apart = trip, theirs - (asked + trip / 2)
    exact = f"(± {best.total_seconds() * 500:.0f})"
    said = f"this host and the database differ by {round(apart.total_seconds() * 1000):+} ms {exact}"
    if abs(apart.total_seconds()) > APART:
        return failed("clock", said, "let both follow the same time servers (NTP)")
    return fine("clock", said)


def _tail(connection: Connection) -> Finding:
    """How late live events are: until all that was being written when it began can be read."""
    tail, began = Tail(), time.monotonic()
    while True:
        tail.poll(connection)
        if tail.position is not None:
            took = time.monotonic() - began
            return fine("tail", f"live events are {took * 1000:.0f} ms behind")
        if time.monotonic() - began > SLOW_TAIL:
            held = list(condition.writers(connection))
            said = "; ".join(
                f"process {each.pid} of {each.user or '?'} ({each.program or 'no name'}), {each.state},"
                f" for {each.since.total_seconds():.0f} s"
                for each in held[:3]
            )
            mend = f"end it: SELECT pg_terminate_backend({held[0].pid})" if held else "look at pg_locks"
            return failed("tail", f"live events wait for a transaction that is not over: {said}", mend)
        time.sleep(0.05)


def _disk(settings: Settings) -> Finding:
    """That of the data directory, or of the nearest directory above it that is there."""
    place = settings.data_dir.absolute()
    while not place.exists():
        place = place.parent
    usage = shutil.disk_usage(place)
    part = usage.free / usage.total
    said = f"{usage.free // MIB} MiB of {place} are free ({part:.0%})"
    mend = "remove what is not needed there, or let CELERIAC_DATA_DIR be elsewhere; `celeriac prune` removes old jobs"
    if not os.access(place, os.W_OK):
        return failed("disk", f"{place} cannot be written", "let this user write there, or set CELERIAC_DATA_DIR")
    if part < VERY_FEW:
        return failed("disk", said, mend)
    return warning("disk", said, mend) if part < FEW else fine("disk", said)
