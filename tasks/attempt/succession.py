"""What follows from the end of an attempt, in the transaction of its outcome: calls, chords, errbacks, replacements.

A successor that cannot be called fails with the reason; the outcome that it follows from is true all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from celery import current_task, signature
from celery.app.task import Context
from celery.exceptions import SoftTimeLimitExceeded

from tasks import calls, current, process, submission
from tasks.attempt.exceptions import described
from tasks.broker.messages import celery_id
from tasks.encoding import from_plain
from tasks.failures import alone
from tracking import groups, successors
from tracking.admission.rule import Limits
from tracking.db import Connection, SQLAlchemyError, database
from tracking.errors import IdempotencyConflict, InvalidValue, UnknownDependency
from tracking.identifiers import job_id_of
from tracking.models import UNCALLED, Failure, JobRecord, NewJob, Outcome, Owner, Settled
from tracking.ownership import acting_as
from tracking.reads import waiting
from tracking.states import Status
from tracking.successors import Ended
from tracking.values import MESSAGE_BYTES, storable_text

log = structlog.get_logger(__name__)

SWEEP_INTERVAL = 5.0  # seconds between two looks for successors whose predecessor ended somewhere else
BATCH = 500
HEADER_PATIENCE = timedelta(hours=1)  # since the submit of a body; then nobody is about to send the rest of its header
INCOMPLETE = Failure("ChordError", "its header was never sent completely")


def collect(publish: Callable[..., Any], *args: Any, **options: Any) -> Any:
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
            now.uncalled = _uncalled(publish.__self__, error)  # type: ignore[attr-defined]
            log.exception("successor.uncallable")
            return None


def concerns(request: Any, now: current.Running, outcome: Outcome) -> bool:
    """Whether anything can follow from this outcome, by what Celery and the body have said."""
    if outcome.kind == "succeeded" and now.successors:
        return True
    return bool(request.chord or request.chain or request.errbacks or now.uncalled or outcome.kind == "replaced")


def follow(
    connection: Connection, request: Any, now: current.Running, outcome: Outcome, settled: Settled
) -> list[JobRecord]:
    """Write what follows from an outcome that was accepted; returns the jobs that are new or were called."""
    job_id = settled.job_id
    if settled.status is Status.SUCCEEDED:
        called = submit(connection, now.successors, by=[job_id])
        if now.uncalled is not None:
            called += _end_uncalled(connection, job_id, now.uncalled)
        return called + (_complete_chord(connection, request, now) if request.chord and now.attempt.group_id else [])
    if outcome.kind == "replaced":
        return submit(connection, now.replacement or [], by=[job_id])
    if settled.status in (Status.FAILED, Status.CANCELLED):
        return _end(connection, request, outcome, settled)
    return []


def end_elsewhere(connection: Connection, settled: Settled) -> list[JobRecord]:
    """What follows from the end of an attempt whose process could not see it: its errbacks are those of its row."""
    if settled.status is not Status.FAILED:
        return []
    ended = successors.ended(connection, settled.job_id)
    return submit(connection, [*_errbacks_of(ended), *_end_successors(connection, settled.job_id)])


def ended_with(job_id: UUID) -> list[JobRecord]:
    """End what waited for a job whose end is in its row already; returns the errbacks of those."""
    with database().autocommit() as connection:
        if not waiting.are_waiting(connection, job_id):
            return []
    with database().begin() as connection:
        return submit(connection, _end_successors(connection, job_id))


def submit(connection: Connection, collected: Iterable[NewJob], by: Collection[UUID | str] = ()) -> list[JobRecord]:
    """Call the jobs that were planned to follow `by`, and accept the others; returns those that may be dispatched."""
    limits = Limits.configured()
    # The lines of their organizations are locked in this order by everybody: two handlers must not wait for each other.
    ordered = sorted(collected, key=lambda job: job.owner.organization_id)
    return [accepted for job in ordered for accepted in _submit_one(connection, job, limits, by)]


def left_behind() -> list[JobRecord]:
    """End the successors that nobody has called as a crash came between, or somebody else; returns the errbacks."""
    with database().autocommit() as connection:
        ended = list(waiting.left_behind(connection, BATCH))
    found: list[JobRecord] = []
    for job_id in ended:
        with alone("successors.failed", job_id=str(job_id)):
            found += ended_with(job_id)
    return found


def of_incomplete_headers() -> list[JobRecord]:
    """End the bodies whose headers were never sent completely; returns the errbacks."""
    with database().autocommit() as connection:
        incomplete = list(waiting.incomplete_headers(connection, HEADER_PATIENCE, BATCH))
    found: list[JobRecord] = []
    for group_id in incomplete:
        with alone("headers.failed", group_id=group_id):
            found += _end_bodies(group_id, INCOMPLETE)
    return found


def _end(connection: Connection, request: Any, outcome: Outcome, settled: Settled) -> list[JobRecord]:
    """End what waited for a job that ended without a result; returns the errbacks, of the job and of those."""
    errbacks = _errbacks(request, outcome) if settled.status is Status.FAILED and request.errbacks else []
    if request.chain or request.chord:
        errbacks += _end_successors(connection, settled.job_id)
    return submit(connection, errbacks)


def _submit_one(connection: Connection, job: NewJob, limits: Limits, by: Collection[UUID | str]) -> list[JobRecord]:
    """The job that was called or accepted; the errbacks instead when it was refused; nothing when it was before."""
    if job.refused is not None:
        return submit(connection, _refused(connection, job, job.refused, by))
    try:
        called = successors.call(connection, job, limits, by) if by else None
        if called is not None:
            return [called]
        job = calls.with_successors(process.app(), job)
        submitted = successors.submit(connection, job, limits, scope=submission.whole_organization(job))
    except (IdempotencyConflict, InvalidValue, UnknownDependency) as error:
        return submit(connection, _refused(connection, job, _failure(error), by))
    if submitted.created:
        return [submitted.job]
    if submitted.job.root_id == (job.root_id or job.id):
        return []
    failure = _end_of_other_canvas(connection, submitted.job)
    return submit(connection, _errbacks_of_refused(job, failure, successors.end_refused(connection, job, failure)))


def _end_of_other_canvas(connection: Connection, job: JobRecord) -> Failure:
    """What the same call means that another canvas has made before: it is one job, and one that failed has failed."""
    ended = successors.ended(connection, job.id)
    if ended and job.status is not Status.SUCCEEDED:
        return Failure(job.error_type or UNCALLED, job.error_message or "", exception=dict(ended[0].exception))
    return _failure(IdempotencyConflict(f"the id {job.id} was used in another canvas"))


def _refused(connection: Connection, job: NewJob, failure: Failure, by: Collection[UUID | str]) -> list[NewJob]:
    """Write that a successor was not accepted, for this reason; returns its errbacks, and those of what followed it."""
    log.error("successor.refused", job_id=str(job.id), job_type=job.job_type, error=failure.type)
    return _errbacks_of_refused(job, failure, successors.refuse(connection, job, failure, by))


def _errbacks_of_refused(job: NewJob, failure: Failure, ended: Sequence[Ended]) -> list[NewJob]:
    return [*_called_of(job, job.owner, job.delivery.get("link_error"), failure.exception or {}), *_errbacks_of(ended)]


def _uncalled(sent: Any, error: Exception) -> NewJob:
    """What is left of a signature that Celery could not make calls of."""
    return calls.refused(
        process.app(),
        sent.task,
        sent.args,
        sent.kwargs,
        task_id=sent.options.get("task_id"),
        options=sent.options,
        failure=_failure(error),
    )


def _end_uncalled(connection: Connection, job_id: UUID, uncalled: NewJob) -> list[JobRecord]:
    """Fail what still waits for a job that has succeeded; when nothing did, a row of its own tells the reason."""
    failure = uncalled.refused or Failure(UNCALLED, "")
    ended = successors.end_uncalled(connection, job_id, failure)
    return submit(connection, _errbacks_of(ended) if ended else [uncalled])


def _complete_chord(connection: Connection, request: Any, now: current.Running) -> list[JobRecord]:
    """Call the body when this was the last member; whose row must be locked, and the group."""
    group_id = str(now.attempt.group_id)
    results = groups.results(connection, group_id)
    if results is None:
        return []
    with submission.collecting([], _failure) as collected:
        try:
            signature(request.chord, app=process.app()).delay(from_plain(results))
        except (SoftTimeLimitExceeded, SQLAlchemyError):
            raise
        except Exception as error:
            log.exception("successor.uncallable")
            ended = successors.end_bodies(connection, group_id, _failure(error))
            return submit(connection, _errbacks_of(ended))
    return submit(connection, collected, by=[group_id, now.attempt.job_id])


def _end_bodies(group_id: str, failure: Failure) -> list[JobRecord]:
    with database().begin() as connection:
        return submit(connection, _errbacks_of(successors.end_bodies(connection, group_id, failure)))


def _end_successors(connection: Connection, job_id: UUID) -> list[NewJob]:
    return _errbacks_of(successors.end(connection, job_id))


def _errbacks_of(ended: Sequence[Ended]) -> list[NewJob]:
    """Of what never ran only the body of a chord whose header failed has errbacks called, as on plain Celery."""
    errbacks: list[NewJob] = []
    for each in ended:
        log.warning("job.ended_elsewhere", job_id=str(each.job.id), status=str(each.job.status))
        if each.calls_errbacks:
            owner = Owner(each.job.organization_id, each.job.user_id)
            errbacks += _called_of(each.job, owner, each.job.delivery.get("link_error"), each.exception)
    return errbacks


def _called_of(
    job: JobRecord | NewJob, owner: Owner, signatures: Sequence[Any] | None, exception: Mapping[str, Any]
) -> list[NewJob]:
    """The errbacks of a job that has no attempt, in the name of its owner."""
    if not signatures:
        return []
    about = {"id": celery_id(job), "root_id": str(job.root_id or job.id), "task": job.job_type}
    request = Context({**about, "errbacks": from_plain(signatures), "delivery_info": {}})
    with acting_as(owner.organization_id, owner.user_id):
        return _called(request, dict(exception), None)


def _errbacks(request: Any, outcome: Outcome) -> list[NewJob]:
    failure = outcome.failure or Failure("Exception", "")
    return _called(request, failure.exception or {"exc_type": failure.type}, failure.traceback)


def _called(request: Any, exception: Any, traceback: str | None) -> list[NewJob]:
    backend: Any = process.app().backend
    with submission.collecting([], _failure) as collected:
        try:
            backend.call_errbacks(request, backend.exception_to_python(exception), traceback)
        except (SoftTimeLimitExceeded, SQLAlchemyError):
            raise
        except Exception:  # one that cannot be sent takes no outcome with it
            log.exception("errback.uncallable", job_id=str(job_id_of(request.id)))
    return collected


def _failure(error: Exception) -> Failure:
    said = storable_text(error, MESSAGE_BYTES) or type(error).__name__
    return Failure(type(error).__name__, said, exception=described(error))
