"""What a connection sends to the database, as its protocol says: by whatever way the statements come."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import Any

from tracking.db import Connection

TRANSACTION = ('Query\t "BEGIN', 'Query\t "COMMIT')


@contextmanager
def statements_of(connection: Connection) -> Iterator[list[str]]:
    """The statements that are executed within the block, without begin and commit; filled in at its end."""
    driver: Any = connection.connection.driver_connection
    sent: list[str] = []
    with TemporaryFile() as trace:
        driver.pgconn.trace(trace.fileno())
        try:
            yield sent
        finally:
            driver.pgconn.untrace()
        trace.seek(0)
        executed = (line for line in trace.read().decode().splitlines() if "\tBind\t" in line or "\tQuery\t" in line)
        sent += [line for line in executed if not any(each in line for each in TRANSACTION)]
