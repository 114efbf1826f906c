"""The Celery app: every way to send a task ends in its `send_task`, where the job's row is written first."""

from __future__ import annotations

import importlib
import importlib.util
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar, overload
from uuid import UUID

from celery import Celery
from celery import Task as CeleryTask
from celery.app.amqp import AMQP
from celery.app.registry import TaskRegistry
from celery.result import AsyncResult

from tasks import submission, workflows
from tasks.attempt import succession
from tasks.attempt.job import as_job
from tasks.broker import transport
from tasks.command_line import wrong_settings_told
from tasks.current import Lease
from tasks.error_hook import found
from tasks.own_settings import broker_of, require_own_settings
from tasks.platform import Platform
from tasks.retries import read_policy
from tasks.signatures import resolve_annotations
from tasks.tracebacks import is_of_library
from tracking import sentinels
from tracking.errors import ConfigurationError
from tracking.settings import Settings, settings

if TYPE_CHECKING:
    from celery.app.task import Task

    from tasks.attempt.job import Job
    from tasks.external import Tracked
    from tracking.models import JobRecord, JsonObject

P = ParamSpec("P")
R = TypeVar("R")

HANDLERS = ("export_report", "data_processing", "notification", "cleanup", "sync")
DJANGO = "DJANGO_SETTINGS_MODULE"  # which Celery reads when an app is made
UNOFFERED = ("webhook_delivery", "canary")  # of jobs that the platform makes


class Messages(AMQP):
    """Celery's messages; what a finished task sends on (chain, link) is held back for the commit of its outcome."""

    app: JobApp

    def _retry_publish(self, publish: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        # Celery calls this for the successors of a task that has just returned, and for nothing else.
        return succession.collect(self.app, publish, *args, **kwargs)


class Handlers(TaskRegistry):
    """The tasks of the app, however they are registered: each becomes a Job when it is."""

    def __setitem__(self, name: str, task: Any) -> None:
        """Keep a task. Raises ConfigurationError when no job of it could be served."""
        as_job(task).app  # noqa: B018 - binds the task, which who comes in by the registry has not been
        super().__setitem__(name, task)

    def register(self, task: Any) -> Any:
        """Register a task that is a class, as `JobApp.register_task` does."""
        task = _with_policy(task, {})
        super().register(task)
        return _servable(self, task)


class JobApp(Celery):
    """A Celery app whose tasks are jobs.

    `lease`: that of the worker which runs it in this process or has forked this process; None outside of a worker.
    `clock_difference`: what the database's clock is ahead of that of this worker, as of its last heartbeat.
    """

    finalized: bool
    task_cls = "tasks.attempt.job:Job"
    registry_cls = Handlers  # type: ignore[assignment]  # the stubs know its name only
    amqp_cls = "tasks.app:Messages"
    events_cls = "tasks.broker.events:Events"
    control_cls = "tasks.revoking:Control"
    backend_cls = "tasks.backend:RowBackend"  # whatever CELERY_RESULT_BACKEND of the environment says to other apps
    lease: Lease | None = None
    clock_difference = timedelta(0)

    @cached_property
    def platform(self) -> Platform:
        """What it works with: by the settings of this process, unless it was given another. Raises ConfigurationError.

        Not before it is needed: who declares a handler and calls it may have no settings.
        """
        return Platform(self, settings())

    @cached_property
    def Worker(self) -> Any:  # noqa: N802 - Celery's name
        """The worker of this app, as a program."""
        program: Any = "tasks.worker.program:Worker"  # by its name: it is imported by those who run one
        return self.subclass_with_self(program)

    def send_task(  # type: ignore[override]  # Celery's own long list of options goes through `options`
        self, name: str, args: Any = None, kwargs: Any = None, *, task_id: str | None = None, **options: Any
    ) -> AsyncResult[Any]:
        """Submit a job by name; takes Celery's options and `organization, user, project, idempotency_key, metadata`.

        The row is the acceptance: this returns when it is committed and never waits for the broker. Raises
        tracking's errors for values out of limits, pydantic.ValidationError for a wrong payload of a known handler.
        """
        named = submission.send(self, name, args, kwargs, task_id=task_id, options=options)
        result: AsyncResult[Any] = (options.get("result_cls") or self.AsyncResult)(named)
        result.ignored = bool(options.get("ignore_result"))
        parent = self.current_worker_task
        if options.get("add_to_parent", True) and parent is not None:
            parent.add_trail(result)
        return result

    def connection_for_read(self, url: Any = None, **options: Any) -> Any:
        """Celery's, to the broker of the settings."""
        return super().connection_for_read(url or broker_of(self), **options)

    def connection_for_write(self, url: Any = None, **options: Any) -> Any:
        """Celery's, to the broker of the settings."""
        return super().connection_for_write(url or broker_of(self), **options)

    def config_from_object(self, obj: Any, *args: Any, **options: Any) -> Any:
        """Celery's, once. Raises ConfigurationError when another one's settings would take the place of these."""
        if self._config_source is not None:  # type: ignore[attr-defined]  # missing in the stubs
            raise ConfigurationError(
                "app.config_from_object would replace the platform's own settings: set with app.conf.update(...)"
                " what is yours (docs/migrating.md)"
            )
        return super().config_from_object(obj, *args, **options)

    def autodiscover_tasks(self, packages: Any = None, *args: Any, **options: Any) -> None:
        """Celery's. Raises ConfigurationError when Django is to name the packages that this app knows nothing of."""
        knows_django = any(self._fixups)  # type: ignore[attr-defined]  # as above
        if not packages and not knows_django and os.environ.get(DJANGO):
            raise ConfigurationError(
                f"app.autodiscover_tasks() would find nothing: {DJANGO} was set after Celeriac was imported."
                " Set it in the environment of each process (docs/migrating.md)"
            )
        super().autodiscover_tasks(packages, *args, **options)

    def _connection(self, url: Any, **options: Any) -> Any:
        # `celery -A tasks` takes BROKER_URL from the environment by itself, past our settings.
        place = sentinels.place_of(url) if isinstance(url, str) else url
        return super()._connection(place, **options)  # type: ignore[misc]  # missing in the stubs

    @contextmanager
    def producer_or_acquire(self, producer: Any = None) -> Iterator[Any]:  # type: ignore[override]  # a context as well
        """Celery's; the members of a group that are sent with it are accepted at once, all or none of them.

        A group asks for a producer, sends its members with it, and gives it back.
        """
        with super().producer_or_acquire(producer) as acquired, submission.together(self, acquired):
            yield acquired

    @overload  # type: ignore[override]  # typed for Job instead of Task
    def task(
        self, *, bind: Literal[True], **options: Any
    ) -> Callable[[Callable[Concatenate[Job, P], R]], Task[P, R]]: ...

    @overload
    def task(self, **options: Any) -> Callable[[Callable[P, R]], Task[P, R]]: ...

    def task(self, *args: Any, **options: Any) -> Any:
        """Celery's decorator, with the platform's options among its own; see tasks.attempt.job.Job."""
        return super().task(*args, **options)

    def track(self, job_type: str = "generic", *, payload: JsonObject | None = None, **options: Any) -> Tracked:
        """Make a job whose work the caller does, and says of it how far it is; `options` as of send_task.

        Raises the errors of send_task, and InvalidValue for a type that workers run.
        """
        from tasks import external  # noqa: PLC0415 - it knows the platform, and with that the app

        return external.track(self, job_type, payload=payload, **options)

    def ended_with(self, job_id: UUID) -> list[JobRecord]:
        """Fill in and end what waited for a job that is over; returns the errbacks that are to be sent."""
        workflows.fill_in(self.platform, job_id)
        return succession.ended_with(self.platform, job_id)

    def finalize(self, auto: bool = False) -> None:  # noqa: FBT001, FBT002 - Celery's signature
        """Complete the app at its first use. Raises when a handler cannot be imported."""
        if not self.finalized:
            super().finalize(auto=auto)
            try:
                with wrong_settings_told():
                    import_handlers(self.platform.settings)
            except BaseException:
                self.finalized = False
                raise

    def _task_from_fun(  # type: ignore[override]  # of Celery's options only those that matter here
        self, fun: Callable[..., Any], name: str | None = None, base: Any = None, **options: Any
    ) -> Any:
        # camelCase out as well as in
        options["pydantic_dump_kwargs"] = {"by_alias": True, **(options.get("pydantic_dump_kwargs") or {})}
        base = base or self.Task
        if not (isinstance(base, type) and issubclass(base, CeleryTask)):
            named = name or fun.__qualname__
            raise ConfigurationError(f"the task {named!r} cannot be served: its base {base!r} is no task class")
        policy, rest = read_policy(options, base)
        resolve_annotations(fun, name or fun.__qualname__, needs_all=bool(options.get("pydantic")))
        options |= {**policy.options, "policy": policy, "retry_kwargs": rest}
        if callable(options.get("circuit_key")):
            options["circuit_key"] = staticmethod(options["circuit_key"])  # it is called with the payload alone
        task = super()._task_from_fun(fun, name=name, base=base, **options)
        return _servable(self._tasks, task)  # type: ignore[attr-defined]  # missing in the stubs

    def register_task(self, task: Any, **options: Any) -> Any:
        """Register a task that is a class; see `task`."""
        task = super().register_task(_with_policy(task, options), **options)
        return _servable(self._tasks, task)  # type: ignore[attr-defined]  # missing in the stubs


def _with_policy(task: Any, options: dict[str, Any]) -> Any:
    """A task that is a class as a Job: what it and these options say of its retries is said in Celery's words."""
    cls = task if isinstance(task, type) else type(task)
    policy, rest = read_policy(options, cls)
    task = as_job(task() if task is cls else task)
    for name, value in {**policy.options, "policy": policy, "retry_kwargs": rest}.items():
        setattr(type(task), name, value)
    return task


def _servable(tasks: TaskRegistry, task: Any) -> Any:
    try:
        task.refuse_unservable()
    except ConfigurationError:
        tasks.pop(task.name, None)
        raise
    return task


def _own_configuration() -> ModuleType:
    """The `celeryconfig` that stands beside this package; a user's own may be found before it by its name."""
    place = Path(__file__).resolve().parents[1] / "celeryconfig.py"
    spec = importlib.util.spec_from_file_location(place.stem, place)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"{place} cannot be read")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


transport.register()

configuration = _own_configuration()
app = JobApp("celeriac")
app.config_from_object("tasks.app:configuration")
app.steps["worker"].add("tasks.worker.upkeep:Upkeep")


def import_handlers(configured: Settings) -> None:
    """Import the platform's handlers, the modules of CELERIAC_IMPORTS, and what these have the app import in turn.

    Raises ConfigurationError, one line that names the module and the place, when one of the latter cannot be imported,
    or has changed what must be as it is.
    """
    for name in (*HANDLERS, *UNOFFERED):
        importlib.import_module(f"tasks.handlers.{name}")
    for module in configured.imports:
        with _told(module):
            importlib.import_module(module)
    with _told(", ".join(configured.imports)):
        app.loader.import_default_modules()  # what these name by `autodiscover_tasks`, and in `include` and `imports`
    require_own_settings(app)
    found(configured.error_hook)


@contextmanager
def _told(module: str) -> Iterator[None]:
    try:
        yield
    except ConfigurationError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigurationError(f"CELERIAC_IMPORTS: {_import_failure(module, error)}") from error


def _import_failure(module: str, error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
        return f"there is no module {error.name!r}: is it installed, or in the directory that we are called from?"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not is_of_library(frame.filename)]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    if isinstance(error, SyntaxError):
        place = ""  # it says its own
    return f"{module!r} cannot be imported: {type(error).__name__}: {' '.join(str(error).split())}{place}"
