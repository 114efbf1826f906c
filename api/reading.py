"""How routes reach what the API serves: its platform, and reads from `tracking`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Concatenate, ParamSpec, TypeVar

from fastapi import Request

from api.given import OfRequest
from api.replica import Replica
from tasks.platform import Platform
from tracking.db import Connection, Database, DBAPIError, Outage, PoolTimeoutError, outage
from tracking.tenancy import confinement

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
        return _once_more(lambda: self._run(query, *args, **kwargs))

    def at_once(self, look: Callable[[Reading], Found]) -> Found:
        """What `look` makes of what it reads: all that it asks of its reading is of one snapshot."""

        def looked() -> Found:
            with self._database.snapshot() as connection:
                return look(_Snapshot(self._database, connection))

        return _once_more(looked)

    def _run(
        self,
        query: Callable[Concatenate[Connection, Parameters], Found],
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> Found:
        with self._database.autocommit() as connection:
            return query(connection, *args, **kwargs)


class _Snapshot(Reading):
    """Runs all queries on one connection, in its transaction, which sees what the context was confined to."""

    def __init__(self, database: Database, connection: Connection) -> None:
        super().__init__(database)
        self._connection, self._confinement = connection, confinement()

    def __call__(
        self,
        query: Callable[Concatenate[Connection, Parameters], Found],
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> Found:
        if confinement() != self._confinement:
            raise RuntimeError("a snapshot was taken for others: read what is confined otherwise by itself")
        return query(self._connection, *args, **kwargs)


class ListReading(Reading):
    """Runs the queries of lists, searches and counts on the replica while that is near, on the primary otherwise."""

    def __init__(self, replica: Replica, primary: Database) -> None:
        super().__init__(primary)
        self._replica = replica

    def __call__(
        self,
        query: Callable[Concatenate[Connection, Parameters], Found],
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> Found:
        if self._replica.is_near:
            try:
                return Reading(self._replica.database)(query, *args, **kwargs)
            except (DBAPIError, PoolTimeoutError) as error:
                if outage(error) in (None, Outage.TOO_SLOW):  # the primary would do no better
                    raise
                self._replica.let_rest(error)
        return super().__call__(query, *args, **kwargs)


def _once_more(read: Callable[[], Found]) -> Found:
    began = time.monotonic()
    try:
        return read()
    except DBAPIError as error:
        if not error.connection_invalidated or time.monotonic() - began > AT_ONCE:
            raise
        return read()


def platform_of(request: Request) -> Platform:
    """The platform that the application serves."""
    platform: Platform = request.app.state.platform
    return platform


def _reading(request: Request) -> Reading:
    return Reading(platform_of(request).database)


def slow_reading(request: Request) -> Reading:
    """The reads of a route that may take long: on connections of their own, so that only their like wait for them."""
    return Reading(request.app.state.slow_reads)


def list_reading(request: Request) -> Reading:
    """The reads of a list, a search or a count: slow reads that may be some seconds old.

    Jobs that are named by their ids are looked at for their status, which must be the newest.
    """
    replica: Replica | None = request.app.state.replica
    if replica is None or "ids" in request.query_params:
        return slow_reading(request)
    return ListReading(replica, request.app.state.slow_reads)


Served = Annotated[Platform, OfRequest(platform_of)]
Read = Annotated[Reading, OfRequest(_reading)]
SlowRead = Annotated[Reading, OfRequest(slow_reading)]
ListRead = Annotated[Reading, OfRequest(list_reading)]
