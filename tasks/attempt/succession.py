"""What follows from the end of an attempt, in the transaction of its outcome: calls, chords, errbacks, replacements.

A successor that cannot be called fails with the reason; the outcome that it follows from is true all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog
from celery import current_task, signature
from celery.app.task import Context
from celery.exceptions import SoftTimeLimitExceeded

from tasks import calls, current, submission
from tasks.attempt.exceptions import described
from tasks.attempt.outcomes import End
from tasks.broker.messages import celery_id
from tasks.encoding import from_plain
from tasks.failures import alone
from tasks.platform import Platform
from tracking import groups, successors
from tracking.db import Connection, SQLAlchemyError
from tracking.errors import IdempotencyConflict, InvalidValue, UnknownDependency
from tracking.identifiers import job_id_of
from tracking.models import UNCALLED, Failure, JobRecord, NewJob, Owner, Settled
from tracking.ownership import acting_as
from tracking.reads import waiting
from tracking.states import Status
from tracking.successors import Ended
from tracking.values import MESSAGE_BYTES, storable_text

if TYPE_CHECKING:
    from tasks.app import JobApp

log = structlog.get_logger(__name__)

SWEEP_INTERVAL = 5.0  # seconds between two looks for successors whose predecessor ended somewhere else
BATCH = 500
HEADER_PATIENCE = timedelta(hours=1)  # since the submit of a body; then nobody is about to send the rest of its header
INCOMPLETE = Failure("ChordError", "its header was never sent completely")


def collect(app: JobApp, publish: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Let Celery send successors of the running task: they wait for its outcome, and what cannot be sent fails then.

    `publish` is a method of their signature.
    """
    now = current.of(current_task.request)
    with submission.collecting(now.successors if now is not None else [], _failure):
        try:
            return publish(*args, **options)
        except (SoftTimeLimitExceeded, SQLAlchemyError):
            raise
        except Exception as error:
            if now is None:
                raise
            now.uncalled = _uncalled(app, publish.__self__, error)  # type: ignore[attr-defined]
            log.exception("successor.uncallable")
            return None


def ended_with(platform: Platform, job_id: UUID) -> list[JobRecord]:
    """End what waited for a job whose end is in its row already; returns the errbacks of those."""
    with platform.database.autocommit() as connection:
        if not waiting.are_waiting(connection, job_id):
            return []
    with platform.database.begin() as connection:
        following = Succession(platform, connection)
        return following.submit(following.errbacks_of(successors.end(connection, job_id)))


def left_behind(platform: Platform) -> list[JobRecord]:
    """End the successors that nobody has called as a crash came between, or somebody else; returns the errbacks."""
    with platform.database.autocommit() as connection:
        ended = list(waiting.left_behind(connection, BATCH))
    found: list[JobRecord] = []
    for job_id in ended:
        with alone("successors.failed", job_id=str(job_id)):
            found += ended_with(platform, job_id)
    return found


def of_incomplete_headers(platform: Platform) -> list[JobRecord]:
    """End the bodies whose headers were never sent completely; returns the errbacks."""
    with platform.database.autocommit() as connection:
        incomplete = list(waiting.incomplete_headers(connection, HEADER_PATIENCE, BATCH))
    found: list[JobRecord] = []
    for group_id in incomplete:
        with alone("headers.failed", group_id=group_id):
            found += _end_bodies(platform, group_id)
    return found


@dataclass(frozen=True)
class Succession:
    """What follows from the end of an attempt or of a job, written within the transaction of this connection."""

    platform: Platform
    connection: Connection

    def follow(self, end: End, settled: Settled) -> list[JobRecord]:
        """Write what follows from an outcome that was accepted; returns the jobs that are new or were called."""
        job_id = settled.job_id
        if settled.status is Status.SUCCEEDED:
            called = self.submit(end.successors, by=[job_id])
            if end.uncalled is not None:
                called += self._end_uncalled(job_id, end.uncalled)
            return called + (self._complete_chord(end, job_id) if end.request.chord and end.group_id else [])
        if end.outcome.kind == "replaced":
            return self.submit(end.replacement, by=[job_id])
        if settled.status in (Status.FAILED, Status.CANCELLED):
            return self._end(end, settled)
        return []

    def end_elsewhere(self, settled: Settled) -> list[JobRecord]:
        """What follows from the end of an attempt whose process could not see it: its errbacks are those of its row."""
        if settled.status is not Status.FAILED:
            return []
        ended = successors.ended(self.connection, settled.job_id)
        return self.submit([*self.errbacks_of(ended), *self._end_successors(settled.job_id)])

    def submit(self, collected: Iterable[NewJob], by: Collection[UUID | str] = ()) -> list[JobRecord]:
        """Call the jobs that were planned to follow `by`, and accept the others; returns those to be dispatched."""
        # Everybody locks the lines of organizations in this order: two handlers must not wait for each other.
        ordered = sorted(collected, key=lambda job: job.owner.organization_id)
        return [accepted for job in ordered for accepted in self._submit_one(job, by)]

    def _end(self, end: End, settled: Settled) -> list[JobRecord]:
        """End what waited for a job that ended without a result; returns the errbacks, of the job and of those."""
        errbacks = self._errbacks(end) if settled.status is Status.FAILED and end.request.errbacks else []
        if end.request.chain or end.request.chord:
            errbacks += self._end_successors(settled.job_id)
        return self.submit(errbacks)

    def _submit_one(self, job: NewJob, by: Collection[UUID | str]) -> list[JobRecord]:
        """The job that was called or accepted; the errbacks instead when it was refused; nothing when it was before."""
        if job.refused is not None:
            return self.submit(self._refused(job, job.refused, by))
        limits = self.platform.limits
        try:
            called = successors.call(self.connection, job, limits, by) if by else None
            if called is not None:
                return [called]
            job = calls.with_successors(self.platform.app, job)
            submitted = successors.submit(self.connection, job, limits, scope=submission.whole_organization(job))
        except (IdempotencyConflict, InvalidValue, UnknownDependency) as error:
            return self.submit(self._refused(job, _failure(error), by))
        if submitted.created:
            return [submitted.job]
        if submitted.job.root_id == (job.root_id or job.id):
            return []
        failure = self._end_of_other_canvas(submitted.job)
        return self.submit(
            self._errbacks_of_refused(job, failure, successors.end_refused(self.connection, job, failure))
        )

    def _end_of_other_canvas(self, job: JobRecord) -> Failure:
        """What a call means that another canvas has made before: it is one job, and one that failed has failed."""
        ended = successors.ended(self.connection, job.id)
        if ended and job.status is not Status.SUCCEEDED:
            return Failure(job.error_type or UNCALLED, job.error_message or "", exception=dict(ended[0].exception))
        return _failure(IdempotencyConflict(f"the id {job.id} was used in another canvas"))

    def _refused(self, job: NewJob, failure: Failure, by: Collection[UUID | str]) -> list[NewJob]:
        """Write that a successor was not accepted, for this reason; returns its errbacks and those of what followed."""
        log.error("successor.refused", job_id=str(job.id), job_type=job.job_type, error=failure.type)
        return self._errbacks_of_refused(job, failure, successors.refuse(self.connection, job, failure, by))

    def _errbacks_of_refused(self, job: NewJob, failure: Failure, ended: Sequence[Ended]) -> list[NewJob]:
        own = self._called_of(job, job.owner, job.delivery.get("link_error"), failure.exception or {})
        return [*own, *self.errbacks_of(ended)]

    def _end_uncalled(self, job_id: UUID, uncalled: NewJob) -> list[JobRecord]:
        """Fail what still waits for a job that has succeeded; when nothing did, a row of its own tells the reason."""
        failure = uncalled.refused or Failure(UNCALLED, "")
        ended = successors.end_uncalled(self.connection, job_id, failure)
        return self.submit(self.errbacks_of(ended) if ended else [uncalled])

    def _complete_chord(self, end: End, job_id: UUID) -> list[JobRecord]:
        """Call the body when this was the last member; whose row must be locked, and the group."""
        group_id, body = str(end.group_id), end.request.chord
        results = groups.results(self.connection, group_id)
        if results is None:
            return []
        with submission.collecting([], _failure) as collected:
            try:
                signature(body, app=self.platform.app).delay(from_plain(results))
            except (SoftTimeLimitExceeded, SQLAlchemyError):
                raise
            except Exception as error:
                log.exception("successor.uncallable")
                ended = successors.end_bodies(self.connection, group_id, _failure(error))
                return self.submit(self.errbacks_of(ended))
        return self.submit(collected, by=[group_id, job_id])

    def _end_successors(self, job_id: UUID) -> list[NewJob]:
        return self.errbacks_of(successors.end(self.connection, job_id))

    def errbacks_of(self, ended: Sequence[Ended]) -> list[NewJob]:
        """Of what never ran only the body of a chord whose header failed has errbacks called, as on plain Celery.

        Celery links the errback of a chord to the chords in its header too: one failure calls it for the first alone.
        """
        errbacks: list[NewJob] = []
        called: list[tuple[str | None, Any]] = []
        for each in ended:
            log.warning("job.ended_elsewhere", job_id=str(each.job.id), status=str(each.job.status))
            if each.calls_errbacks:
                owner = Owner(each.job.organization_id, each.job.user_id)
                group_id, links = each.job.follows_group, each.job.delivery.get("link_error") or ()
                known = [link for group, link in called if group != group_id]
                fresh = [link for link in links if link not in known]
                called += [(group_id, link) for link in fresh]
                errbacks += self._called_of(each.job, owner, fresh, each.exception)
        return errbacks

    def _called_of(
        self, job: JobRecord | NewJob, owner: Owner, signatures: Sequence[Any] | None, exception: Mapping[str, Any]
    ) -> list[NewJob]:
        """The errbacks of a job that has no attempt, in the name of its owner."""
        if not signatures:
            return []
        about = {"id": celery_id(job), "root_id": str(job.root_id or job.id), "task": job.job_type}
        request = Context({**about, "errbacks": from_plain(signatures), "delivery_info": {}})
        with acting_as(owner.organization_id, owner.user_id):
            return self._called(request, dict(exception), None)

    def _errbacks(self, end: End) -> list[NewJob]:
        failure = end.outcome.failure or Failure("Exception", "")
        return self._called(end.request, failure.exception or {"exc_type": failure.type}, failure.traceback)

    def _called(self, request: Any, exception: Any, traceback: str | None) -> list[NewJob]:
        backend: Any = self.platform.app.backend
        with submission.collecting([], _failure) as collected:
            try:
                backend.call_errbacks(request, backend.exception_to_python(exception), traceback)
            except (SoftTimeLimitExceeded, SQLAlchemyError):
                raise
            except Exception:  # one that cannot be sent takes no outcome with it
                log.exception("errback.uncallable", job_id=str(job_id_of(request.id)))
        return collected


def _end_bodies(platform: Platform, group_id: str) -> list[JobRecord]:
    with platform.database.begin() as connection:
        following = Succession(platform, connection)
        return following.submit(following.errbacks_of(successors.end_bodies(connection, group_id, INCOMPLETE)))


def _uncalled(app: JobApp, sent: Any, error: Exception) -> NewJob:
    """What is left of a signature that Celery could not make calls of."""
    return calls.refused(
        app,
        sent.task,
        sent.args,
        sent.kwargs,
        task_id=sent.options.get("task_id"),
        options=sent.options,
        failure=_failure(error),
    )


def _failure(error: Exception) -> Failure:
    said = storable_text(error, MESSAGE_BYTES) or type(error).__name__
    return Failure(type(error).__name__, said, exception=described(error))
