"""Tasks whose class is no Job: what can be served is, and what cannot is refused at its registration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from celery import Task

from tasks import Job, app
from tasks.catalog import handlers
from tests import class_handlers
from tests.live import LivePlatform
from tests.servers import Servers, new_database
from tracking.errors import ConfigurationError


@pytest.fixture(scope="module")
def classes(servers: Servers, broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePlatform]:
    """A worker that knows the tasks of class_handlers."""
    directory = tmp_path_factory.mktemp("classes")
    with (
        new_database(servers) as url,
        LivePlatform(url, broker_url, directory, CELERIAC_IMPORTS="tests.class_handlers") as platform,
    ):
        platform.start_worker()
        yield platform


@pytest.mark.parametrize(
    ("name", "args", "result"),
    [
        ("classes.greeting", ["you"], "hello you"),
        ("classes.loud", ["you"], "hello you"),
        ("classes.registered", ["you"], "hello you"),
        ("classes.plain", [1], 2),
        ("classes.counting", [1], 3),
        ("classes.shared", [1], 4),
        ("classes.retried", [], 1),
    ],
)
def test_a_task_of_any_class_is_a_job(classes: LivePlatform, name: str, args: list[Any], result: Any) -> None:
    """A task of any class is claimed, run once and settled like every other job."""
    job = classes.wait_for(classes.submit(name, *args, organization="o", user="u"))
    assert (job.status, job.result) == ("succeeded", result), job.error_message
    assert classes.events(job.id).count("started") == 1 + job.retry_count


def test_all_of_them_are_jobs_in_this_process() -> None:
    """Class tasks are Jobs however they were registered, and their own class goes before Job."""
    known = {name: task for name, task in app.tasks.items() if name.startswith("classes.")}
    assert len(known) == 7
    assert all(isinstance(task, Job) for task in known.values())
    assert known["classes.counting"].acks_late is False
    assert class_handlers.Greeting.__mro__[1] is Task, "the class of the author stays as it was"


def test_a_task_with_celerys_base_is_offered_like_any_other() -> None:
    """A task with Celery's own base class is in the list of job types."""
    handler = handlers(app)["classes.plain"]
    assert handler.payload_schema()["required"] == ["x"]
    assert handler.retry_policy()["maxRetries"] == 3


class Patient(Task):  # type: ignore[type-arg]  # of any signature
    """Says in Celery's ways how it is retried."""

    autoretry_for = (LookupError,)
    retry_kwargs = {"max_retries": 7, "countdown": 3}  # noqa: RUF012 - Celery's own
    max_retries = 1


@pytest.mark.parametrize("register", [app.register_task, app.tasks.register])
def test_a_class_has_the_same_policy_by_either_way_into_the_registry(register: Callable[[Any], Any]) -> None:
    """The retry policy of a class task is Celery's, in its row and in the list of types."""
    name = f"classes.{uuid4()}"
    register(type("Named", (Patient,), {"name": name}))
    task: Any = app.tasks[name]
    try:
        assert (task.policy.max_retries, task.policy.delay, task.policy.backoff) == (7, 3.0, 0)
        assert (task.max_retries, task.retry_backoff, task.retry_kwargs) == (7, 0, {})
    finally:
        app.tasks.unregister(task)


class Between(Job):
    """Asks for a request of its own, which knows nothing of the platform."""

    abstract = True
    Request = "celery.worker.request:Request"


@pytest.mark.parametrize(
    ("register", "reason"),
    [
        (lambda: app.register_task(Task()), "its class is no Job"),
        (lambda: app.task(base=object, shared=False, name="classes.nothing")(len), "no task class"),
        (lambda: app.task(base=Between, shared=False, name="classes.between")(_nothing), "its Request"),
        (lambda: app.tasks.register(_between()), "its Request"),
    ],
    ids=["Task itself", "no task", "another request", "another request in the registry"],
)
def test_what_cannot_be_served_is_refused_when_it_is_registered(register: Any, reason: str) -> None:
    """A task that cannot be a Job is refused at its registration in one line that names it."""
    with pytest.raises(ConfigurationError, match=reason) as refused:
        register()
    assert "\n" not in str(refused.value)
    assert "classes.between" not in app.tasks


def _between() -> Any:
    return type("Instance", (Between,), {"name": "classes.between", "run": _nothing})()


def _nothing() -> None:
    """Do nothing."""
