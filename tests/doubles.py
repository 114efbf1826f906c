"""A platform that a test takes instead of ours: nothing of it goes to a broker, and its connections break."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from uuid import UUID

import psycopg

from tasks.broker.dispatcher import Dispatcher
from tasks.platform import OfProcess, Platform
from tracking.db import BY_INDEX, Connection, Database, DBAPIError
from tracking.models import JobRecord


class Unsending(Dispatcher):
    """Sends nothing: notes the jobs that it was to send, and the organizations at whose lines it was to look."""

    def __init__(self, platform: Platform) -> None:
        super().__init__(platform)
        self.sent: list[UUID] = []
        self.refilled: list[str] = []

    def send(self, record: JobRecord) -> None:
        self.sent.append(record.id)

    def send_all(self, records: Sequence[JobRecord]) -> None:
        self.sent.extend(record.id for record in records)

    def follow(self, job_id: UUID, organization_id: str) -> None:
        pass

    def refill(self, organization_id: str) -> None:
        self.refilled.append(organization_id)


class Breaking(Database):
    """Commits without an answer while `breaks`, and `stays_away` then until somebody says otherwise."""

    breaks = stays_away = is_away = False
    broken = 0  # times

    @contextmanager
    def autocommit(self) -> Iterator[Connection]:
        if self.is_away:
            self._break_off()
        with super().autocommit() as connection:
            yield connection

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        if self.is_away:
            self._break_off()
        with super().begin() as connection:
            yield connection
        if self.breaks:
            self.breaks, self.is_away = False, self.stays_away
            self._break_off()

    def _break_off(self) -> None:
        self.broken += 1
        raise DBAPIError("", None, psycopg.OperationalError("gone"))


class OwnPlatform(Platform):
    """A platform that sends nothing, and whose threads' own connection breaks when a test says so."""

    @cached_property
    def breaking(self) -> Breaking:
        """What is told to break."""
        return Breaking(self.settings.database, self.settings, pool_size=1, options=BY_INDEX)

    def single(self) -> Database:
        return self.breaking

    @OfProcess
    def dispatcher(self) -> Unsending:
        return Unsending(self)
