"""The Task class of every handler: a typed payload, a claim before the body, steps, retries that wait in the row."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Unpack

import pydantic
import structlog
from celery import Task, group
from celery.canvas import maybe_signature
from celery.exceptions import Ignore, Reject
from kombu.utils.imports import symbol_by_name
from kombu.utils.uuid import uuid

from tasks import calls, current, observing, submission
from tasks.arguments import is_call
from tasks.attempt import tracing
from tasks.attempt.exceptions import PayloadError, is_of_arguments, rejection
from tasks.broker.messages import celery_id
from tasks.current import Asked
from tasks.options import check_options
from tasks.payloads import completed, unsendable
from tasks.persistence import persist
from tasks.progress import JobCancelled
from tasks.retries import RetryPolicy, read_policy
from tasks.signatures import Signature
from tracking.errors import ConfigurationError, InvalidValue
from tracking.external_types import check_silence
from tracking.models import Attempt, JsonObject, NewJob, Owner, Wishes
from tracking.reads import lists
from tracking.values import check_moment, check_seconds, storable_count, storable_json, storable_text

if TYPE_CHECKING:
    from tasks.app import JobApp

log = structlog.get_logger(__name__)

MOST_BEFORE_SUCCESS = 99
CIRCUIT_KEY_BYTES = 255
ANSWER_PATIENCE = 5.0  # seconds in which a question of a body must be answered


class Job(Task):  # type: ignore[type-arg]  # a handler's parameters are its own
    """A handler as Celery knows it. Everything is Celery's own except the attributes and methods named here.

    `permission`: what a caller of the API needs, besides `jobs.create_jobs`, to create or retry such a job. `public`:
    whether the API lets create such jobs by whoever may create any; without both, only code can. `steps`: the names of
    the steps, for people who watch. `circuit_failures`: after so many failed attempts in a row, over an organization's
    jobs of the type, the others wait for `circuit_pause` seconds, and then until one of them has succeeded; 0: never.
    `circuit_key`: takes a payload, or the arguments by name, as the row has them, and names what the job depends on,
    such as a host: each has a circuit of its own. `concurrency_key`: where the payload has what limits per key count
    by, such as "payload.account.id"; an operator sets how many. `payload_errors`: exceptions that are the fault of the
    payload and count in no circuit, like PayloadError and those of Celery's `throws`. `external`: the work is done
    elsewhere, no worker runs the body, and a job is given up after `external_timeout` seconds without a report; None:
    the settings'. `bundle`: bodies are short, and a process may be given several at once; they have no time limits.
    """

    app: JobApp
    abstract = True
    acks_late = True
    Request = "tasks.worker.request:Request"
    permission: str | None = None
    public: bool = False
    steps: tuple[str, ...] = ()
    circuit_failures: int = 5
    circuit_pause: float = 60.0
    circuit_key: Callable[..., str | None] | None = None
    concurrency_key: str | None = None
    payload_errors: tuple[type[BaseException], ...] = ()
    external: bool = False
    external_timeout: float | None = None
    bundle: bool = False

    @property
    def job(self) -> Attempt | None:
        """The attempt that is running; None when the handler is called as a plain function."""
        now = self._now()
        return now.attempt if now else None

    def _now(self) -> current.Running | None:
        """The attempt of this thread, whichever thread of the body it is. Raises UnknownThread."""
        now = current.of(self.request)
        return now if now is not None or self.request_stack.top is not None else current.anywhere(self.name)

    @property
    def __trace__(self) -> Any:
        """What a worker calls with a message: the attempt. Celery sets one of its own at each start; ours claims."""
        return self.__dict__.get("_attempt")

    @__trace__.setter
    def __trace__(self, tracer: Any) -> None:
        self.__dict__["_attempt"] = None if tracer is None else tracing.tracer(self)

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
        self._report(
            milestone=True, current_step=storable_count(current), total_steps=storable_count(of), message=_said(name)
        )
        yield
        reached = _percent(_share_of_steps(current, of) if percent is None else percent)
        # The end of the work is no milestone of its own: the success is.
        self._report(milestone=reached != MOST_BEFORE_SUCCESS, percent=reached)

    def still_mine(self) -> bool:
        """Whether this attempt is still the job's current one and not cancelled: ask before what must not happen twice.

        True when the handler is called as a plain function; False in a thread that has outlived its body. Raises
        DatabaseAway, or UnknownThread, rather than to guess.
        """
        now = self._now()
        if now is None:
            return True
        if now.is_over:
            return False
        attempt = now.attempt
        database = self.app.platform.database

        def ask() -> bool:
            with database.autocommit() as connection:
                return lists.is_current(connection, attempt.fence, attempt.attempt)

        return persist(ask, patience=ANSWER_PATIENCE, defer_interrupt=True, job_id=str(attempt.job_id))

    def apply_async(
        self, args: Any = None, kwargs: Any = None, task_id: str | None = None, *more: Any, **options: Any
    ) -> Any:
        """Celery's; what follows a job and does not fit the handler's signature gets a row that says so."""
        try:
            return super().apply_async(args, kwargs, task_id, *more, **options)
        except TypeError as error:
            kept = submission.keep_refused(
                self.app, self.name, args, kwargs, task_id=task_id, options=options, error=error
            )
            return self.AsyncResult(celery_id(kept))

    def retry(  # noqa: PLR0917 - Celery's signature
        self,
        args: Any = None,
        kwargs: Any = None,
        exc: Any = None,
        throw: bool = True,  # noqa: FBT001, FBT002 - as above
        eta: Any = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Any:
        """Celery's retry, with the job's own limit; the time until it is due is spent in the row, not in the broker.

        With the call the retry is settled, as on plain Celery, whatever the body makes of the exception or, with
        `throw=False`, of the answer. Options of apply_async change how the next attempt is sent. Raises InvalidValue
        for an unknown one.
        """
        check_options(options)
        now = current.of(self.request)
        if now is not None:
            now.retry = Asked(options, has_arguments=args is not None or kwargs is not None, max_retries=max_retries)
        if countdown is not None:
            check_seconds(countdown, "countdown")
        if eta is not None:
            check_moment(eta, "eta")
        if max_retries is None and self.job is not None:
            max_retries = self.job.max_retries
        if not eta and countdown is None:
            countdown = self.default_delay()
        try:
            again = super().retry(args, kwargs, exc, False, eta, countdown, max_retries, **options)  # noqa: FBT003 - Celery's signature
        except Reject as refused:  # Celery's word for a retry that could not be sent
            reason, _ = rejection(refused)
            raise reason if isinstance(reason, Exception) else refused from None
        finally:
            # Celery keeps the limit on the task, where it would hold for the next job of this process as well.
            self.__dict__.pop("override_max_retries", None)
        if now is not None:
            now.again = again
        if throw:
            raise again
        return again

    def on_replace(self, sig: Any) -> Any:
        """Celery's: keep the replacement for the end of the attempt, and end the body."""
        now = current.of(self.request)
        if now is None:
            return super().on_replace(sig)
        with submission.collecting([]) as replacement:
            sig.delay()
        now.replacement = replacement
        raise Ignore("replaced by another task")

    def add_to_chord(self, sig: Any, lazy: bool = False) -> Any:  # noqa: FBT001, FBT002 - Celery's signature
        """Celery's: let the chord of this job wait for another task or canvas; of a group, for each of its members.

        Celery would count a group as one member, and call the chord's body with the results of that group alone.
        """
        if not isinstance(sig, group):
            return super().add_to_chord(sig, lazy)  # type: ignore[call-overload]  # the stubs want a literal
        added = [self.add_to_chord(maybe_signature(member, app=self.app), lazy) for member in sig.tasks]
        return group(added, app=self.app) if lazy else self.app.GroupResult(uuid(), added)

    def update_state(
        self,
        task_id: str | None = None,
        state: str | None = None,  # noqa: ARG002 - Celery's signature
        meta: Any = None,
        **_: Any,
    ) -> None:
        """Celery's: of the running job, `meta` becomes its progress (`AsyncResult.info`); the state is the row's."""
        if meta is not None and task_id in (None, self.request.id):
            self._report(percent=_share(meta), detail=_detail(meta))

    def default_delay(self) -> float:
        """Seconds until the next attempt of a body that asks for one and does not say when."""
        policy = self.policy
        return policy.wait(self.request.retries) if policy.manual_delay is None else policy.manual_delay

    @cached_property
    def policy(self) -> RetryPolicy:
        """When the handler is retried that does not say so at the moment."""
        return read_policy({}, type(self))[0]

    @cached_property
    def signature_read(self) -> Signature:
        """What the handler's signature says."""
        run = inspect.getattr_static(type(self), "run")
        handler: Any = getattr(type(self), "_decorated_fun", None) or getattr(run, "__func__", run)
        return Signature(inspect.unwrap(handler), is_bound=not isinstance(run, staticmethod))

    @property
    def payload_model(self) -> type[pydantic.BaseModel] | None:
        """The pydantic model of a handler whose one parameter is a payload; None for every other signature."""
        return self.signature_read.payload_model

    @property
    def takes_payload(self) -> bool:
        """Whether the handler cannot be called without an argument."""
        return self.signature_read.takes_payload

    @property
    def is_offered(self) -> bool:
        """Whether the API lets people create such jobs."""
        return self.public or self.permission is not None

    def validate_payload(self, payload: Any) -> dict[str, Any]:
        """The payload as it was sent, with its defaults. Raises pydantic.ValidationError."""
        return dict(payload) if self.payload_model is None else completed(self.payload_model, payload)

    def accept(self, payload: JsonObject, owner: Owner, **wishes: Unpack[Wishes]) -> NewJob:
        """The job that somebody outside of Celery asks for, to be submitted; see tasks.calls.accept."""
        return calls.accept(self, payload, owner, **wishes)

    def blames_payload(self, error: BaseException) -> bool:
        """Whether an attempt failed by the fault of its payload, which says nothing of the type."""
        own: tuple[type[BaseException], ...] = (PayloadError, *self.payload_errors, *self.throws)
        return isinstance(error, own) or is_of_arguments(error, self.signature_read.handler)

    def circuit_of(self, payload: dict[str, Any]) -> str:
        """The key of the circuit to which a job with this payload belongs; "" for that of the whole type."""
        if self.circuit_key is None:
            return ""
        try:
            named = self.circuit_key(self._by_name(payload))
        except Exception as error:  # noqa: BLE001 - the handler's own code, and no reason to refuse the job
            log.warning("circuit_key.failed", job_type=self.name, error=type(error).__name__)
            return ""
        return "" if named is None else storable_text(named, CIRCUIT_KEY_BYTES)

    def _by_name(self, payload: dict[str, Any]) -> dict[str, Any]:
        """The payload, or the arguments that it stands for by their names."""
        if not is_call(payload):
            return payload
        names = [parameter.name for parameter in self.signature_read.parameters]
        return {**dict(zip(names, payload["args"], strict=False)), **payload["kwargs"]}

    def payload_schema(self) -> dict[str, Any]:
        """The JSON Schema of the payload."""
        return self.signature_read.schema()

    def retry_policy(self) -> dict[str, Any]:
        """When the handler is retried by itself: names of exceptions, limit (None: for ever), and seconds.

        `backoff`: before the first retry, doubled at each up to `backoffMax`, with `jitter` a random share of it; 0:
        always `delay` seconds, which is None otherwise.
        """
        policy = self.policy
        return {
            "maxRetries": policy.max_retries,
            "retriedOn": [error.__name__ for error in getattr(self, "autoretry_for", ())],
            "backoff": float(policy.backoff),
            "backoffMax": policy.longest,
            "jitter": policy.jitter,
            "delay": None if policy.backoff else policy.delay,
        }

    def refuse_unservable(self) -> None:
        """Raise ConfigurationError when no job of this handler could arrive as it was sent."""
        signature = self.signature_read
        try:
            model = signature.payload_model or (signature.arguments_model if self.is_offered else None)
            reason = unsendable(model, signature.described) if model else None
            if reason is None and self.is_offered:
                signature.schema()
            if self.external_timeout is not None:
                check_silence(self.external_timeout, "external_timeout")
        except (ConfigurationError, InvalidValue, pydantic.errors.PydanticUserError) as error:
            reason = str(error)
        if reason is None and self.bundle and (self.time_limit or self.soft_time_limit):
            reason = "jobs that go to a process in a bundle have no time limits: leave out bundle=True, or the limits"
        if reason is None and not issubclass(symbol_by_name(self.Request), symbol_by_name(Job.Request)):
            reason = f"its Request is not made from {Job.Request}"
        if reason is not None:
            raise ConfigurationError(f"the task {self.name!r} cannot be served: {reason}")

    def _report(self, *, milestone: bool = False, **news: Any) -> None:
        now = self._now()
        if now is None:
            observing.tell(news)
            return
        if now.is_over:
            raise JobCancelled
        now.reporter.report(milestone=milestone, **news)


def as_job(task: Any) -> Any:
    """`task` itself, made a Job if it is another task of Celery's: what its class says goes before what Job says.

    Raises ConfigurationError when it cannot be one.
    """
    if isinstance(task, Job):
        return task
    cls = type(task)
    try:
        task.__class__ = type(cls.__name__, (cls, Job), {"__module__": cls.__module__, "__doc__": cls.__doc__})
    except TypeError as error:
        why = " ".join(str(error).split())
        raise ConfigurationError(f"the task {task.name!r} cannot be served: its class is no Job, and {why}") from None
    return task


def _share(meta: Any) -> int | None:
    """The percent of a state with `current` and `total`, as Celery's manual shows it; None without them."""
    try:
        return _percent(_share_of_steps(meta["current"], meta["total"]))
    except (TypeError, KeyError, ValueError):
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
