"""How routes read from `tracking`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from tracking.db import Connection, DBAPIError, database

AT_ONCE = 0.5  # seconds
Parameters = ParamSpec("Parameters")
Found = TypeVar("Found")


def read(
    query: Callable[Concatenate[Connection, Parameters], Found], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Found:
    """Run one of `tracking`'s queries: once more, when its pooled connection turns out to have died unnoticed.

    That shows at once; what took longer is a database in trouble, and the caller should hear of it.
    """
    began = time.monotonic()
    try:
        return _run(query, *args, **kwargs)
    except DBAPIError as error:
        if not error.connection_invalidated or time.monotonic() - began > AT_ONCE:
            raise
        return _run(query, *args, **kwargs)


def _run(
    query: Callable[Concatenate[Connection, Parameters], Found], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Found:
    with database().autocommit() as connection:
        return query(connection, *args, **kwargs)
