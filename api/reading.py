"""How routes reach what the API serves: its platform, and reads from `tracking`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Concatenate, ParamSpec, TypeVar

from fastapi import Request

from api.given import OfRequest
from tasks.platform import Platform
from tracking.db import Connection, Database, DBAPIError

AT_ONCE = 0.5  # seconds
Parameters = ParamSpec("Parameters")
Found = TypeVar("Found")


class Reading:
    """Runs `tracking`'s queries: once more, when a pooled connection turns out to have died unnoticed.

    That shows at once; what took longer is a database in trouble, and the caller should hear of it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def __call__(
        self,
        query: Callable[Concatenate[Connection, Parameters], Found],
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> Found:
        """What the query finds."""
        began = time.monotonic()
        try:
            return self._run(query, *args, **kwargs)
        except DBAPIError as error:
            if not error.connection_invalidated or time.monotonic() - began > AT_ONCE:
                raise
            return self._run(query, *args, **kwargs)

    def _run(
        self,
        query: Callable[Concatenate[Connection, Parameters], Found],
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> Found:
        with self._database.autocommit() as connection:
            return query(connection, *args, **kwargs)


def platform_of(request: Request) -> Platform:
    """The platform that the application serves."""
    platform: Platform = request.app.state.platform
    return platform


def _reading(request: Request) -> Reading:
    return Reading(platform_of(request).database)


def slow_reading(request: Request) -> Reading:
    """The reads of a route that may take long: on connections of their own, so that only their like wait for them."""
    return Reading(request.app.state.slow_reads)


Served = Annotated[Platform, OfRequest(platform_of)]
Read = Annotated[Reading, OfRequest(_reading)]
SlowRead = Annotated[Reading, OfRequest(slow_reading)]
