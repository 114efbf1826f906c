"""The Task class of every handler: a typed payload, a claim before the body, steps, retries that wait in the row."""

from __future__ import annotations

import inspect
import time
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any
from uuid import UUID, uuid4

import pydantic
import pydantic_core
import structlog
from celery import Task
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from sqlalchemy.exc import DBAPIError

from tasks import lease, running
from tasks.messages import JOB_ID_HEADER
from tasks.progress import JobCancelled, Reporter
from tasks.recording import DatabaseAway, persist
from tracking import jobs, queries
from tracking.crashpoints import CLAIMED, crash_point
from tracking.db import database
from tracking.models import Attempt, Claim, Progress, Refusal
from tracking.settings import settings
from tracking.values import check_moment, check_seconds, storable_count, storable_json, storable_text

log = structlog.get_logger(__name__)

MOST_BEFORE_SUCCESS = 99
ANSWER_PATIENCE = 5.0  # seconds in which a question of a body must be answered
OPTIONAL_KINDS = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Job(Task):  # type: ignore[type-arg]  # a handler's parameters are its own
    """A handler as Celery knows it. Everything is Celery's own except the attributes and methods named here.

    `permission`: what a caller of the API needs, besides `jobs.create_jobs`, to create or retry such a job; None: no
    more than that. `steps`: the names of the steps, for people who watch. `circuit_failures`: after so many failed
    attempts in a row, over all jobs of the type, the others wait for `circuit_pause` seconds, and then until one of
    them has succeeded; 0: never.
    """

    abstract = True
    acks_late = True
    Request = "tasks.request:Request"
    permission: str | None = None
    steps: tuple[str, ...] = ()
    circuit_failures: int = 5
    circuit_pause: float = 60.0

    @property
    def job(self) -> Attempt | None:
        """The attempt that is running; None when the handler is called as a plain function."""
        now = running.of(self.request)
        return now.attempt if now else None

    def progress(self, percent: float, message: str | None = None, *, detail: Any = None) -> None:
        """Report how far the body is, 0-100; it never moves backwards, and 100 is kept for success.

        Written at most four times a second. Raises JobCancelled when the job was cancelled.
        """
        self._report(percent=_percent(percent), message=_said(message), detail=_detail(detail))

    @contextmanager
    def step(self, name: str, current: int, *, of: int, percent: float | None = None) -> Iterator[None]:
        """Step `current` of the body, from 1; at its end `percent` is reached, or its share of the steps.

        Raises JobCancelled, at its start or end, when the job was cancelled.
        """
        self._report(current_step=storable_count(current), total_steps=storable_count(of), message=_said(name))
        yield
        self._report(percent=_percent(_share_of_steps(current, of) if percent is None else percent))

    def still_mine(self) -> bool:
        """Whether this attempt is still the job's current one and not cancelled: ask before what must not happen twice.

        True when the handler is called as a plain function. Raises DatabaseAway rather than to guess.
        """
        attempt = self.job
        if attempt is None:
            return True
        return persist(
            lambda: _is_current(attempt), patience=ANSWER_PATIENCE, defer_interrupt=True, task_id=str(attempt.task_id)
        )

    def retry(self, *args: Any, max_retries: int | None = None, **kwargs: Any) -> Any:
        """Celery's retry, with the job's own limit; the time until it is due is spent in the row, not in the broker."""
        if kwargs.get("countdown") is not None:
            check_seconds(kwargs["countdown"], "countdown")
        if kwargs.get("eta") is not None:
            check_moment(kwargs["eta"], "eta")
        if max_retries is None and self.job is not None:
            max_retries = self.job.max_retries
        try:
            return super().retry(*args, **{**kwargs, "max_retries": max_retries})
        finally:
            # Celery keeps the limit on the task, where it would hold for the next job of this process as well.
            self.__dict__.pop("override_max_retries", None)

    def update_state(
        self,
        task_id: str | None = None,
        state: str | None = None,  # noqa: ARG002 - Celery's signature
        meta: Any = None,
        **_: Any,
    ) -> None:
        """Celery's: of the running job, `meta` becomes its progress (`AsyncResult.info`); the state is the row's."""
        if meta is not None and task_id in (None, self.request.id):
            self._report(percent=_share(meta), detail=pydantic_core.to_jsonable_python(meta, fallback=repr))

    @cached_property
    def payload_model(self) -> type[pydantic.BaseModel] | None:
        """The pydantic model of a handler whose one parameter is a payload; None for every other signature."""
        handler: Any = inspect.unwrap(getattr(self, "_decorated_fun", self.run))
        names = [name for name in inspect.signature(handler).parameters if name != "self"]
        annotation = typing.get_type_hints(handler).get(names[0]) if len(names) == 1 else None
        is_model = inspect.isclass(annotation) and issubclass(annotation, pydantic.BaseModel)
        return annotation if is_model else None

    @cached_property
    def takes_payload(self) -> bool:
        """Whether the handler cannot be called without an argument."""
        handler: Any = inspect.unwrap(getattr(self, "_decorated_fun", self.run))
        return any(
            parameter.default is parameter.empty and parameter.kind not in OPTIONAL_KINDS
            for name, parameter in inspect.signature(handler).parameters.items()
            if name != "self"
        )

    def validate_payload(self, payload: Any) -> dict[str, Any]:
        """The payload with its defaults, as the handler will see it. Raises pydantic.ValidationError."""
        if self.payload_model is None:
            return dict(payload)
        return self.payload_model.model_validate(payload).model_dump(mode="json", by_alias=True)

    def payload_schema(self) -> dict[str, Any]:
        """The JSON Schema of the payload."""
        return self.payload_model.model_json_schema() if self.payload_model else {"type": "object"}

    def retry_policy(self) -> dict[str, Any]:
        """When the handler is retried by itself: exception names, backoff factor and cap in seconds, jitter."""
        return {
            "maxRetries": self.max_retries,
            "retriedOn": [error.__name__ for error in getattr(self, "autoretry_for", ())],
            "backoff": float(getattr(self, "retry_backoff", False)),
            "backoffMax": getattr(self, "retry_backoff_max", 600),
            "jitter": bool(getattr(self, "retry_jitter", True)),
        }

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:  # noqa: ARG002 - Celery's signature
        """Claim the job; a message whose job nobody expects from it is dropped here, before the body."""
        if self.request.is_eager:
            return
        since = time.monotonic()  # like the time limits of Celery, which do not wait for the claim
        structlog.contextvars.bind_contextvars(task_id=task_id, job_type=self.name)
        answer, interrupted = self._claim(task_id)
        if isinstance(answer, Refusal):
            log.warning("claim.refused", reason=str(answer))
            raise Ignore
        crash_point(CLAIMED)
        structlog.contextvars.bind_contextvars(job_id=str(answer.job_id), attempt=answer.attempt)
        running.keep(self.request, running.Running(answer, Reporter(answer, _write_progress), since))
        log.info("job.started", organization=answer.owner.organization_id)
        if interrupted and not _write_progress(Progress(answer.task_id, answer.attempt)):
            raise JobCancelled

    def _claim(self, task_id: str) -> tuple[Attempt | Refusal, bool]:
        """The answer to the claim, and whether a revocation arrived meanwhile."""
        named = (self.request.headers or {}).get(JOB_ID_HEADER)
        try:
            job_id = UUID(named) if named else None
            wish = Claim(UUID(task_id), uuid4(), str(self.request.hostname), lease.current(), job_id)
        except ValueError:
            return Refusal.UNKNOWN, False
        answers: list[Attempt | Refusal] = []
        interrupted = False
        try:
            persist(
                lambda: answers.append(_grant(wish)),
                patience=settings().claim_patience,
                defer_interrupt=True,
                task_id=task_id,
            )
        except SoftTimeLimitExceeded:
            interrupted = True
        except DatabaseAway:
            raise Reject("the database is away", requeue=True) from None
        if not answers:  # interrupted before there was one
            raise Reject("the database is away", requeue=True)
        return answers[-1], interrupted

    def _report(self, **news: Any) -> None:
        now = running.of(self.request)
        if now is not None:
            now.reporter.report(**news)


def _grant(wish: Claim) -> Attempt | Refusal:
    with database().autocommit() as connection:
        return jobs.claim(connection, [wish])[0]


def _is_current(attempt: Attempt) -> bool:
    with database().autocommit() as connection:
        return queries.is_current(connection, attempt.task_id, attempt.attempt)


def _write_progress(progress: Progress) -> bool:
    def write() -> bool:
        with database().autocommit() as connection:
            return jobs.report(connection, progress)

    try:
        return persist(write, patience=0, defer_interrupt=True, task_id=str(progress.task_id))
    except DatabaseAway:
        return True  # progress may be missed; the outcome will be written when the database is back
    except (DBAPIError, ValueError) as error:  # refused for good: what a body reports never fails it
        log.warning("progress.refused", task_id=str(progress.task_id), error=type(error).__name__)
        return True


def _share(meta: Any) -> int | None:
    """The percent of a state with `current` and `total`, as Celery's manual shows it; None without them."""
    try:
        return _percent(100 * meta["current"] / meta["total"])
    except (TypeError, KeyError, ArithmeticError, ValueError):
        return None


def _percent(value: Any) -> int | None:
    reached = storable_count(value)
    return None if reached is None else min(MOST_BEFORE_SUCCESS, reached)


def _share_of_steps(current: Any, of: Any) -> float | None:
    try:
        return float(100 * current / of)
    except (ArithmeticError, TypeError, ValueError):
        return None


def _said(message: Any) -> str | None:
    return None if message is None else storable_text(message)


def _detail(value: Any) -> Any:
    return None if value is None else storable_json(value)
