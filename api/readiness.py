"""What `/readyz` answers from: the state of database, workers and broker, looked at in the background."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import structlog

from api.looking import OK, UNKNOWN, Look, State
from api.replica import Replica
from tasks.broker.link import Link
from tasks.broker.transport import BrokerBlocked
from tasks.platform import Platform
from tracking import rights, workers
from tracking.db import Connection, Database, Outage, is_stopped, outage, takes_writes

UNGRANTED = Outage.UNGRANTED.name.lower()
NAMED = 5  # rights that the log names

log = structlog.get_logger(__name__)


class Readiness:
    """Whether the platform takes jobs, as last seen: answering asks no server, however many callers there are.

    Two threads look, so that a broker that hangs does not hide the database; each has one connection of its own.
    """

    def __init__(self, platform: Platform, replica: Replica | None) -> None:
        settings = platform.settings
        self._database = Database(settings.database, settings, pool_size=1)
        self._lease_timeout = timedelta(seconds=settings.lease_timeout)
        self._link = Link(platform.app)
        self._lacking: Sequence[rights.Right] = ()
        self._looks = (
            Look(
                self._look_at_database, _without_database, {"database": "silent", "rights": UNKNOWN, "worker": UNKNOWN}
            ),
            Look(self._look_at_broker, _without_broker, {"broker": "silent"}),
            *([replica.look] if replica is not None else []),
        )

    def start(self) -> None:
        for look in self._looks:
            look.start()

    def stop(self) -> None:
        for look in self._looks:
            look.stop()
        self._database.close()

    @property
    def checks(self) -> State:
        """The state of each part: `ok`, or what is wrong with it."""
        return {name: state for look in self._looks for name, state in look.state.items()}

    def _look_at_database(self) -> State:
        has_tenants = self._database.has_tenants  # asked before: there is one connection
        with self._database.autocommit() as connection:
            database, granted = self._look_at_rights(connection, has_tenants=has_tenants)
            worker = OK if workers.is_any_live(connection, self._lease_timeout) else "none"
            return {"database": database, "rights": granted, "worker": worker}

    def _look_at_rights(self, connection: Connection, *, has_tenants: bool) -> tuple[str, str]:
        """The state of the database, and of what the platform may do there, which the log names when it lacks any."""
        lacking = rights.lacking(connection, has_tenants=has_tenants)
        if is_stopped(connection):
            lacking = [right for right in lacking if right.verb == "SELECT"]
        if lacking and lacking != self._lacking:
            names = [str(right) for right in lacking[:NAMED]]
            log.error("database.rights_lacking", rights=names, count=len(lacking), mend="celeriac migrate")
        self._lacking = lacking
        if any(right.table in rights.OF_EVERY_JOB for right in lacking):
            database = UNGRANTED
        else:
            database = OK if takes_writes(connection) else Outage.READ_ONLY.name.lower()
        return database, "lacking" if lacking else OK

    def _look_at_broker(self) -> State:
        self._link.ask()
        return {"broker": OK}


def _without_database(error: Exception) -> State:
    kind = outage(error)
    return {"database": kind.name.lower() if kind else "unusable", "rights": UNKNOWN, "worker": UNKNOWN}


def _without_broker(error: Exception) -> State:
    return {"broker": "blocked" if isinstance(error, BrokerBlocked) else "away"}
