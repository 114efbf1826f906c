"""Tasks whose class is no Job: what can be served is, and what cannot is refused at its registration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Task

from tasks import Job, app
from tasks.catalog import handlers
from tests import class_handlers
from tests.live import Platform
from tests.servers import Servers, new_database
from tracking.errors import ConfigurationError


@pytest.fixture(scope="module")
def classes(servers: Servers, broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A worker that knows the tasks of class_handlers."""
    directory = tmp_path_factory.mktemp("classes")
    with (
        new_database(servers) as url,
        Platform(url, broker_url, directory, CELERIAC_IMPORTS="tests.class_handlers") as platform,
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
def test_a_task_of_any_class_is_a_job(classes: Platform, name: str, args: list[Any], result: Any) -> None:
    """It is claimed, run once and settled like every other."""
    job = classes.wait_for(classes.submit(name, *args, organization="o", user="u"))
    assert (job.status, job.result) == ("succeeded", result), job.error_message
    assert classes.events(job.id).count("started") == 1 + job.retry_count


def test_all_of_them_are_jobs_in_this_process() -> None:
    """Whichever way they were registered, with what their own class says before what Job says."""
    known = {name: task for name, task in app.tasks.items() if name.startswith("classes.")}
    assert len(known) == 7
    assert all(isinstance(task, Job) for task in known.values())
    assert known["classes.counting"].acks_late is False
    assert class_handlers.Greeting.__mro__[1] is Task, "the class of the author stays as it was"


def test_a_task_with_celerys_base_is_offered_like_any_other() -> None:
    """The list of job types does not break on it."""
    handler = handlers()["classes.plain"]
    assert handler.payload_schema()["required"] == ["x"]
    assert handler.retry_policy()["maxRetries"] == 3


class Between(Job):
    """Asks for a request of its own, which knows nothing of the platform."""

    abstract = True
    Request = "celery.worker.request:Request"


@pytest.mark.parametrize(
    ("register", "reason"),
    [
        (lambda: app.register_task(Task()), "its class is no Job"),
        (lambda: app.task(base=object, name="classes.nothing")(len), "no task class"),
        (lambda: app.task(base=Between, name="classes.between")(_nothing), "its Request"),
    ],
    ids=["Task itself", "no task", "another request"],
)
def test_what_cannot_be_served_is_refused_when_it_is_registered(register: Any, reason: str) -> None:
    """In one line that names it."""
    with pytest.raises(ConfigurationError, match=reason) as refused:
        register()
    assert "\n" not in str(refused.value)
    assert "classes.between" not in app.tasks


def _nothing() -> None:
    """Do nothing."""
