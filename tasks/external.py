"""Jobs whose work is done elsewhere: their types, and what the code that does the work says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack
from uuid import UUID

from uuid_utils.compat import uuid7

from tasks import calls, submission, verbs
from tasks.persistence import DatabaseAway, persist
from tasks.platform import Platform
from tasks.progress import JobCancelled
from tracking import external_types
from tracking.errors import IllegalMove, InvalidValue, JobNotFound
from tracking.external_types import BUILT_IN, ExternalType
from tracking.models import JobRecord, JsonObject, NewJob, Owner, Report, Scope, Wishes
from tracking.reads import lists
from tracking.states import Status
from tracking.values import check_json, storable_count, storable_json, storable_text

if TYPE_CHECKING:
    from tasks.app import JobApp

# What a job cannot wait for that nobody starts.
UNWAITED = {"scheduled_at": "scheduledAt", "depends_on": "dependsOn"}


@dataclass(frozen=True, slots=True)
class External:
    """A type of jobs without a handler, for those who ask what can be created: it is one beside the handlers."""

    app: JobApp
    type: ExternalType
    external: bool = True
    steps: tuple[str, ...] = ()
    circuit_failures: int = 0
    circuit_pause: float = 0.0

    @property
    def name(self) -> str:
        return self.type.name

    @property
    def permission(self) -> str | None:
        return self.type.permission

    def accept(self, payload: JsonObject, owner: Owner, **wishes: Unpack[Wishes]) -> NewJob:
        """The job that somebody asks for, to be submitted. Raises InvalidValue for what it could not wait for."""
        said: dict[str, Any] = {name: value for name, value in wishes.items() if value}
        for name, shown in UNWAITED.items():
            if name in said:
                raise InvalidValue(f"{shown} is for jobs that workers run: the work of a {self.name} is done elsewhere")
        return replace(
            NewJob(
                id=uuid7(),
                owner=owner,
                job_type=self.name,
                queue=self.app.conf.task_default_queue,
                payload=payload,
                max_retries=calls.DEFAULT_MAX_RETRIES,
                external=True,
            ),
            **said,
        )

    def payload_schema(self) -> dict[str, Any]:
        return {"type": "object"}

    def retry_policy(self) -> dict[str, Any]:
        """Nobody but people retries it."""
        times = {"backoff": 0.0, "backoffMax": 0.0, "jitter": False, "delay": None}
        return {"maxRetries": calls.DEFAULT_MAX_RETRIES, "retriedOn": [], **times}


def types(platform: Platform) -> list[External]:
    """The types without a handler, by name."""
    with platform.database.autocommit() as connection:
        named = {each.name: each for each in external_types.every(connection)}
    known = {name: ExternalType(name) for name in BUILT_IN} | named
    return [External(platform.app, known[name]) for name in sorted(known) if name not in platform.app.tasks]


def type_of(platform: Platform, name: str) -> External | None:
    """The type of this name that no handler has; None: there is none."""
    with platform.database.autocommit() as connection:
        found = external_types.find(connection, name)
    if found is None and name in BUILT_IN:
        found = ExternalType(name)
    return External(platform.app, found) if found is not None else None


def patience(app: JobApp) -> dict[str, timedelta]:
    """After which silence the code says that a job of a type is given up, of those types that say so."""
    said = ((name, getattr(task, "external_timeout", None)) for name, task in app.tasks.items())
    return {name: timedelta(seconds=seconds) for name, seconds in said if seconds is not None}


class Tracked:
    """A job whose work this code does: what it says here is what everybody sees.

    As a context manager it has begun with the block, has succeeded with its end unless it was ended in it, and has
    failed with an exception, which goes on. Every report, and the beginning of a block, raises JobCancelled once the
    job was cancelled, and IllegalMove when it has ended otherwise. While the database is away, progress is missed;
    a beginning or an end is tried for CELERIAC_CLAIM_PATIENCE seconds, and raises DatabaseAway then.
    """

    def __init__(self, platform: Platform, job: JobRecord) -> None:
        self._platform = platform
        self._job = job

    @property
    def id(self) -> UUID:
        return self._job.id

    @property
    def status(self) -> Status:
        return self._job.status

    def __enter__(self) -> Self:
        if self._job.status is not Status.RUNNING:  # nor does work begin again that has ended, under the same key
            self._report(Report(status=Status.RUNNING))
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        if self.status not in (Status.QUEUED, Status.RUNNING) or isinstance(error, JobCancelled):
            return
        if error is None:
            self.complete()
            return
        told = storable_text(error)
        try:
            self.fail(f"{type(error).__name__}: {told}" if told else type(error).__name__)
        except Exception as refusal:  # noqa: BLE001 - whatever it is, what the block raised goes on
            error.add_note(f"The job {self.id} could not be told so: {type(refusal).__name__}")

    def update(self, percent: float | None = None, message: str | None = None, *, detail: Any = None) -> None:
        """Say how far it is, 0-100, which never falls; with a percentage a job that waits has begun."""
        self._report(
            Report(
                percent=None if percent is None else storable_count(percent),
                message=None if message is None else storable_text(message),
                detail=None if detail is None else storable_json(detail),
            )
        )

    def complete(self, result: Any = None, message: str | None = None) -> None:
        """Say that it has succeeded. `result`: JSON within the limits, else InvalidValue."""
        checked = check_json(result, "result")
        said = None if message is None else storable_text(message)
        self._report(Report(status=Status.SUCCEEDED, result=checked, message=said))

    def fail(self, error: str, message: str | None = None) -> None:
        """Say that it has failed, and why."""
        said = None if message is None else storable_text(message)
        self._report(Report(status=Status.FAILED, error=storable_text(error), message=said))

    def _report(self, report: Report) -> None:
        patience = 0 if report.status is None else self._platform.settings.claim_patience
        try:
            self._job = self._told(report, patience)
        except DatabaseAway:
            if report.status is not None:
                raise
            # Progress may be missed, as that of a body: it never fails the work that it is about.

    def _told(self, report: Report, patience: float) -> JobRecord:
        """The job after a report, which is repeated for so many seconds while the database is away."""
        scope, tries = Scope(self._job.organization_id, self._job.user_id), 0

        def write() -> JobRecord:
            nonlocal tries
            tries += 1
            return verbs.track(self._platform, self.id, scope, report, actor=self._job.user_id)

        try:
            return persist(write, patience=patience, job_id=str(self.id))
        except (IllegalMove, JobNotFound):
            with self._platform.database.autocommit() as connection:
                found = lists.find(connection, self.id)
            if found is not None and found.status is Status.CANCELLED:
                self._job = found
                raise JobCancelled("the job was cancelled") from None
            if found is not None and tries > 1 and found.status is report.status:
                return found  # the answer to an earlier try was lost, and this is what it has done
            raise


def track(
    app: JobApp,
    job_type: str = BUILT_IN[0],
    *,
    payload: Mapping[str, Any] | None = None,
    **options: Any,
) -> Tracked:
    """Make a job whose work the caller does; see JobApp.track."""
    arguments = {} if payload is None else {"payload": dict(payload)}
    job = calls.new_job(app, job_type, (), arguments, task_id=None, options=options)
    if job.external is False:
        raise InvalidValue(f"workers run jobs of the type {job_type!r}: send it instead")
    submitted = submission.submit(app.platform, replace(job, external=True), submission.whole_organization(job))
    return Tracked(app.platform, submitted.job)
