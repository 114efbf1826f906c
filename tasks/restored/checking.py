"""Compares restored rows with the messages and files that are there; changes neither."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote

from tasks.broker.peeking import Seen, peek
from tasks.exports.files import DOWNLOADS, Export, exports
from tasks.exports.keeping import export_store, upload_store
from tasks.exports.stores import DRAFTS
from tasks.restored.kinds import MEANINGS, Kind
from tracking import leftovers, uploads
from tracking.db import Connection, Database
from tracking.models import Fence
from tracking.reads import fleet, restored
from tracking.reads.restored import Known
from tracking.settings import QUEUES, Settings
from tracking.states import Status

if TYPE_CHECKING:
    from tasks.app import JobApp

T = TypeVar("T")

BATCH = 1000  # rows of one question
EVER = timedelta(days=36_500)


@dataclass(frozen=True, slots=True)
class Example:
    """One of what was found: a job's id or a file's name, whose it is, and what is to be said of it."""

    subject: str
    organization: str | None
    detail: str


@dataclass(frozen=True, slots=True)
class Found:
    """How many of a kind there are, and the first of them."""

    kind: Kind
    count: int
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What was found, of every kind. `rows_until`: when the last thing happened that the rows know of; None: nothing.

    Not `is_whole`: a queue had more messages than were looked at.
    """

    rows_until: datetime | None
    messages: int
    is_whole: bool
    found: tuple[Found, ...]

    @property
    def is_newer(self) -> bool:
        """Whether something has happened of which the rows do not know, or is gone of which they do."""
        return any(each.count and MEANINGS[each.kind].is_newer for each in self.found)


def check(app: JobApp, database: Database, settings: Settings, *, most: int, shown: int) -> Report:
    """Compare. At most `most` messages of a queue are looked at, and `shown` examples of a kind are kept.

    Nothing else is to use the platform meanwhile. Raises the errors of the database and of the broker, ConnectionError
    when files cannot be reached.
    """
    noted = _Noted(shown)
    with database.autocommit() as connection:
        until = restored.newest(connection)
        messages, is_whole = _messages(app, connection, noted, most)
        _rows(connection, timedelta(seconds=settings.lease_timeout), noted)
        organizations = restored.organizations(connection)
        _exports(connection, settings, organizations, noted)
        _uploads(connection, settings, organizations, noted)
    return Report(until, messages, is_whole, noted.found())


@dataclass(slots=True)
class _Noted:
    shown: int
    counts: dict[Kind, int] = field(default_factory=dict)
    examples: dict[Kind, list[Example]] = field(default_factory=dict)

    def note(self, kind: Kind, subject: object, organization: str | None, detail: str, count: int = 1) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + count
        examples = self.examples.setdefault(kind, [])
        if len(examples) < self.shown:
            examples.append(Example(str(subject), organization, detail))

    def job(self, kind: Kind, job: Known, detail: str) -> None:
        self.note(kind, job.id, job.organization_id, detail)

    def found(self) -> tuple[Found, ...]:
        return tuple(Found(kind, self.counts.get(kind, 0), tuple(self.examples.get(kind, ()))) for kind in Kind)


def _messages(app: JobApp, connection: Connection, noted: _Noted, most: int) -> tuple[int, bool]:
    """How many messages there are, and whether these are all."""
    asked = {queue.name for queue in fleet.all_queues(connection, EVER)} | {*QUEUES, *map(str, app.amqp.queues)}
    asked |= {str(queue) for task in app.tasks.values() if (queue := getattr(task, "queue", None))}
    count, of_queue, met = 0, dict.fromkeys(asked, 0), set[Fence]()
    for some in _batches(peek(app, iter(sorted(asked)), most)):
        rows = restored.known(connection, {seen.fence.job_id for seen in some if seen.fence})
        for seen in some:
            count += 1
            of_queue[seen.queue] = of_queue.get(seen.queue, 0) + 1
            if seen.fence is None:
                noted.note(Kind.FOREIGN_MESSAGE, seen.queue, None, seen.job_type or "of no type")
            elif seen.fence not in met:
                met.add(seen.fence)
                _judge(seen, seen.fence, rows.get(seen.fence.job_id), noted)
    for job in restored.sent(connection):
        if Fence(job.id, job.dispatch) not in met:
            noted.job(Kind.UNSENT, job, job.job_type)
    return count, all(each < most for each in of_queue.values())


def _judge(seen: Seen, fence: Fence, row: Known | None, noted: _Noted) -> None:
    if row is None:
        noted.note(Kind.UNKNOWN_JOB, fence.job_id, None, f"{seen.job_type or 'of no type'} in {seen.queue}")
    elif fence.dispatch > row.dispatch:
        said = f"{row.job_type}, {row.status}: dispatch {row.dispatch}, its message is of {fence.dispatch}"
        noted.job(Kind.LATER_DISPATCH, row, said)
    elif fence.dispatch < row.dispatch or row.status not in (Status.QUEUED, Status.RETRYING):
        noted.job(Kind.SPENT_MESSAGE, row, f"{row.job_type}, {row.status}")


def _rows(connection: Connection, lease_timeout: timedelta, noted: _Noted) -> None:
    for job in restored.running(connection, lease_timeout):
        noted.job(Kind.RUNNING, job, f"{job.job_type}, attempt {job.attempt}")
    for schedule in restored.overdue(connection):
        said = f"{schedule.name}, since {schedule.since:%Y-%m-%dT%H:%M:%SZ}: {schedule.catch_up}"
        noted.note(Kind.OVERDUE_SCHEDULE, schedule.id, schedule.organization_id, said)
    for operation in restored.going_on(connection):
        noted.note(Kind.OPERATION, operation.id, operation.organization_id, operation.action)
    if untold := restored.untold(connection):
        noted.note(Kind.UNTOLD_EVENT, "history", None, "those after the place up to which webhooks were told", untold)


def _exports(connection: Connection, settings: Settings, organizations: Iterable[str], noted: _Noted) -> None:
    there: set[str] = set()
    for some in _batches(_stored_exports(settings, organizations)):
        rows = restored.known(connection, {export.job_id for export in some})
        for export in some:
            there.add(export.name)
            row = rows.get(export.job_id)
            if row is None:
                noted.note(Kind.UNKNOWN_EXPORT, export.name, None, f"attempt {export.attempt}")
            elif _is_later(export, row):
                said = f"{export.name}; the row knows attempt {row.attempt}, {row.status}"
                noted.job(Kind.LATER_EXPORT, row, said)
    from tasks.handlers.cleanup import EXPORTING, CleanUp  # noqa: PLC0415 - it registers its task

    age = timedelta(days=CleanUp().older_than_days)
    for organization in organizations:
        for each in leftovers.exported(connection, organization, EXPORTING, age):
            name = each.download_url.removeprefix(f"{DOWNLOADS}/")
            if name not in there:
                noted.note(Kind.MISSING_EXPORT, each.job_id, organization, name)


def _is_later(export: Export, row: Known) -> bool:
    """Whether the export was finished after the row was written: no attempt of it had ended that could have made it."""
    return export.attempt > row.attempt or (export.attempt == row.attempt and row.status is Status.RUNNING)


def _stored_exports(settings: Settings, organizations: Iterable[str]) -> Iterator[Export]:
    """All of a directory, whoever's they are; of a bucket those of the organizations that are known."""
    stores = organizations if settings.exports_url else [""]  # whose it is does not matter to a directory
    return chain.from_iterable((export for export, _ in exports(export_store(settings, each))) for each in stores)


def _uploads(connection: Connection, settings: Settings, organizations: Iterable[str], noted: _Noted) -> None:
    for organization in sorted({*organizations, *_with_uploads(settings)}):
        there = {stored.name for stored in upload_store(settings, organization).every()}
        rows = {str(file_id): has_expired for file_id, has_expired in uploads.known(connection, organization)}
        for name in sorted(there - rows.keys()):
            noted.note(Kind.UNKNOWN_UPLOAD, name, organization, "a file without a row")
        for name in sorted(rows.keys() - there):
            if not rows[name]:
                noted.note(Kind.MISSING_UPLOAD, name, organization, "a row without a file")


def _with_uploads(settings: Settings) -> set[str]:
    """The organizations that have a directory of uploads; a bucket shows only those that the rows know."""
    place: Path = settings.uploads
    if settings.exports_url or not place.is_dir():
        return set()
    return {unquote(each.name) for each in place.iterdir() if each.is_dir() and each.name != DRAFTS}


def _batches(found: Iterator[T]) -> Iterator[list[T]]:
    while some := list(islice(found, BATCH)):
        yield some
