"""What handlers say when the tracking database does not answer them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tracking.db import DBAPIError, PoolTimeoutError, outage


@contextmanager
def told_as_connection_errors() -> Iterator[None]:
    """Within it an outage of the database is a ConnectionError, which handlers are tried again for."""
    try:
        yield
    except (DBAPIError, PoolTimeoutError) as error:
        if outage(error) is None:
            raise
        raise ConnectionError("the tracking database cannot be used now") from error
