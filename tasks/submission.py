"""Accepting jobs: each is answered for as soon as its row is there; the messages follow."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from celery.exceptions import SoftTimeLimitExceeded

from tasks import calls, threads
from tasks.broker.messages import celery_id
from tasks.platform import Platform
from tracking import jobs, successors, traces
from tracking.crashpoints import SUBMITTED, crash_point
from tracking.db import SQLAlchemyError
from tracking.errors import IdempotencyConflict, TooManyWaiting, TrackingError
from tracking.identifiers import job_id_of
from tracking.jobs.bulk import BATCH
from tracking.models import Failure, JobRecord, NewJob, Scope, Submitted
from tracking.states import FINISHED, IN_LINE, Hold

if TYPE_CHECKING:
    from tasks.app import JobApp

Judge = Callable[[Exception], Failure]

SLOW = 0.5  # seconds without the next member of a group: whoever makes them waits for something itself


class Members:
    """Those of a group that were sent with this producer and are not accepted yet.

    A generator may make them slowly: when none has come for SLOW, those that have are accepted meanwhile, and run.
    """

    def __init__(self, platform: Platform, producer: Any) -> None:
        self.producer = producer
        self._platform = platform
        self._jobs: list[NewJob] = []
        self._last = 0.0
        self._lock = threading.Lock()
        self._waiting: threading.Timer | None = None
        self._error: BaseException | None = None

    def add(self, job: NewJob) -> None:
        """Keep one for the end. Raises the error of one before it that was refused meanwhile."""
        with self._lock:
            self._raise()
            self._jobs.append(job)
            self._last = time.monotonic()
            if self._waiting is None:
                self._wait(SLOW)

    def submit(self) -> None:
        """Accept them, all or none. Raises the error of the first one that is refused."""
        with self._lock:
            self.stop()
            self._raise()
            self._accept()

    def stop(self) -> None:
        """Nothing more is accepted by itself."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _accept(self) -> None:
        jobs, self._jobs = self._jobs, []
        if len(jobs) == 1:
            submit(self._platform, jobs[0], whole_organization(jobs[0]))
        elif jobs:
            submit_all(self._platform, jobs)

    def _wait(self, seconds: float) -> None:
        self._waiting = threading.Timer(seconds, self._look)
        self._waiting.daemon = True
        with threads.apart():
            self._waiting.start()

    def _look(self) -> None:
        with self._lock:
            if self._waiting is not threading.current_thread():
                return
            self._waiting = None
            left = self._last + SLOW - time.monotonic()
            if left > 0:
                self._wait(left)
                return
            try:
                self._accept()
            except BaseException as error:  # noqa: BLE001 - it is the sender's, who is told with the next member
                self._error = error

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error


_members: ContextVar[Members | None] = ContextVar("members", default=None)
_collected: ContextVar[list[NewJob] | None] = ContextVar("collected", default=None)
_judge: ContextVar[Judge | None] = ContextVar("judge", default=None)
_bodies: ContextVar[tuple[tuple[str, Mapping[str, Any]], ...]] = ContextVar("bodies", default=())


def send(app: JobApp, name: str, args: Any, kwargs: Any, *, task_id: str | None, options: dict[str, Any]) -> str:
    """Accept a job and hand its message to the dispatcher; returns Celery's id of the job.

    Within `collecting` the job is only collected: it is accepted together with the outcome of the running one.
    """
    now = calls.running_now(app)
    collected = _collected.get()
    if (
        now is not None
        and now.retry is not None
        and collected is None
        and job_id_of(str(task_id)) == now.attempt.job_id
    ):
        # Task.retry sends the running task again: its row will wait for the new time, from its outcome on.
        now.changes = calls.changes(app, name, args, kwargs, now.retry)
        return str(task_id)
    try:
        job = calls.new_job(
            app,
            name,
            args,
            kwargs,
            task_id=task_id,
            options=options,
            is_handed_on=collected is not None,
            bodies=_bodies.get(),
        )
    except Exception as error:  # noqa: BLE001 - raised again unless its row will tell it
        return celery_id(keep_refused(app, name, args, kwargs, task_id=task_id, options=options, error=error))
    _bodies.set(())
    if collected is not None:
        collected.append(job)
        return celery_id(job)
    return _accepted(app, calls.with_successors(app, job), options)


def _accepted(app: JobApp, job: NewJob, options: Mapping[str, Any]) -> str:
    members = _members.get()
    is_member = "group_id" in options and options.get("add_to_parent") is False  # as Celery's groups send them
    if members is not None and is_member and options.get("producer") is members.producer:
        members.add(job)
        return celery_id(job)
    if members is not None:
        members.submit()  # what was sent before is accepted before
    return celery_id(submit(app.platform, job, whole_organization(job)).job)


def keep_refused(
    app: JobApp, name: str, args: Any, kwargs: Any, *, task_id: str | None, options: dict[str, Any], error: Exception
) -> NewJob:
    """Collect a call that is refused, so that its row fails with the reason, and what is sent beside it is sent.

    Raises `error` unless the calls of this block are collected with their refusals.
    """
    collected, judge = _collected.get(), _judge.get()
    bodies, _ = _bodies.get(), _bodies.set(())
    if collected is None or judge is None or isinstance(error, SoftTimeLimitExceeded | SQLAlchemyError):
        raise error
    failure = judge(error)
    job = calls.refused(app, name, args, kwargs, task_id=task_id, options=options, failure=failure, bodies=bodies)
    collected.append(job)
    return job


def whole_organization(job: NewJob) -> Scope:
    """The jobs on which one may depend that code has sent: code acts for its whole organization."""
    return Scope(job.owner.organization_id, None)


def submit(platform: Platform, job: NewJob, scope: Scope) -> Submitted:
    """Accept a job, which may depend on those of `scope`, then hand its message to the dispatcher.

    Raises IdempotencyConflict, InvalidValue or TooManyWaiting.
    """
    with _traced([job]):
        if job.successors or job.begins or job.joins or platform.crowding.is_bounded([job]):
            with platform.database.begin() as connection:
                platform.crowding.require_room(connection, [job])
                submitted = successors.submit(connection, job, platform.limits, scope=scope)
        else:
            submitted = platform.commits.submit(job, scope)
    crash_point(SUBMITTED)
    if submitted.created:
        dispatch(platform, submitted.job)
    return submitted


def submit_all(platform: Platform, new: Sequence[NewJob]) -> list[Submitted]:
    """Accept jobs that are sent together, all or none of them, then hand their messages to the dispatcher.

    Raises the error of the first one that is refused, or TooManyWaiting.
    """
    with _traced(new), platform.database.begin() as connection:
        platform.crowding.require_room(connection, new)
        answers = successors.submit_all(connection, new, platform.limits, scope=whole_organization)
        for answer in answers:
            if isinstance(answer, TrackingError):
                raise answer
    crash_point(SUBMITTED)
    accepted = [answer for answer in answers if isinstance(answer, Submitted)]
    dispatch_created(platform, accepted)
    return accepted


def submit_many(
    platform: Platform, new: Sequence[NewJob], scope: Scope, *, together: bool, digest: str | None = None
) -> list[Submitted | TrackingError]:
    """Accept jobs that somebody asks for at once, which may depend on those of `scope`; an answer for each of them.

    `together`: all or none of them, in one transaction: with one refusal nothing is written. Else each by itself, and
    so many to a transaction that nobody waits for long. Then their messages are handed to the dispatcher. Raises
    TooManyWaiting, having written nothing; when others take the room after that, it is the answer for the rest.
    `digest`: of the request whose key they are under; IdempotencyConflict is raised, for all of them, when that is the
    key of another one. None: each has a key of its own, or none.
    """
    answers: list[Submitted | TrackingError] = []
    parts = [new] if together else [new[start : start + BATCH] for start in range(0, len(new), BATCH)]
    for part in parts:
        with _traced(part), platform.database.begin() as connection:
            try:
                platform.crowding.require_room(connection, part if answers else new)
            except TooManyWaiting as error:
                if not answers:
                    raise
                answers += [error] * len(part)
                continue
            submitted = jobs.submit_all(connection, part, platform.limits, scope=lambda _: scope)
            _require_own_key(part, submitted, digest)
            answers += submitted
            if together and any(isinstance(answer, TrackingError) for answer in answers):
                connection.rollback()
                return answers
    crash_point(SUBMITTED)
    dispatch_created(platform, [answer for answer in answers if isinstance(answer, Submitted)])
    return answers


def _require_own_key(new: Sequence[NewJob], answers: Sequence[Submitted | TrackingError], digest: str | None) -> None:
    for job, answer in zip(new, answers, strict=True):
        if digest is not None and job.request_hash == digest and isinstance(answer, IdempotencyConflict):
            raise answer


def dispatch_created(platform: Platform, accepted: Sequence[Submitted]) -> None:
    """Hand those of the jobs that are new to the dispatcher, and fill the lines that they stand in."""
    created = [each.job for each in accepted if each.created]
    platform.dispatcher.send_all([job for job in created if job.status not in FINISHED])
    for job in created:
        if job.status in FINISHED or job.hold is Hold.DEPENDENCY:
            dispatch(platform, job)
    for organization_id in {job.organization_id for job in created if job.hold in IN_LINE}:
        platform.dispatcher.refill(organization_id)


def _traced(new: Sequence[NewJob]) -> AbstractContextManager[None]:
    spans = traces.spans()
    return nullcontext() if spans is None else spans.submit(new)


@contextmanager
def together(app: JobApp, producer: Any) -> Iterator[None]:
    """Accept at once, at the end of the block, the members of a group that Celery sends with this producer.

    Whatever else is sent meanwhile comes after the members that were sent before it.
    """
    around, members = _members.get(), Members(app.platform, producer)
    if around is not None:
        around.submit()
    token = _members.set(members)
    try:
        yield
        members.submit()
    finally:
        members.stop()
        _members.reset(token)


def dispatch(platform: Platform, job: JobRecord) -> None:
    """Hand a job that was just accepted to the dispatcher: its message, or whether what it waits for is over by now."""
    if job.status in FINISHED:  # it was revoked before
        platform.dispatcher.follow(job.id, job.organization_id)
    elif job.hold is Hold.DEPENDENCY:
        platform.dispatcher.follow(job.depends_on[0], job.organization_id)
    elif job.hold is Hold.LIMIT:  # no submit takes a place under a limit by itself
        platform.dispatcher.refill(job.organization_id)
    else:
        platform.dispatcher.send(job)


@contextmanager
def collecting(into: list[NewJob], judge: Judge | None = None) -> Iterator[list[NewJob]]:
    """Collect the jobs that are sent within the block instead of submitting them.

    `judge`: what is said of a call that is refused, which is collected as well; None: it raises.
    """
    token, judging = _collected.set(into), _judge.set(judge)
    try:
        yield into
    finally:
        _collected.reset(token)
        _judge.reset(judging)


def expect_body(group_id: str, body: Mapping[str, Any]) -> None:
    """The next job is the first of a chord's header: let the rows of its body, and of what follows, come with it.

    When that is a chord in turn, so is its first job.
    """
    _bodies.set((*_bodies.get(), (group_id, body)))
