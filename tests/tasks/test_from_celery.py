"""A project that comes from Celery: what its modules, settings and environment say is followed, or refused by name."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import TimeoutError as ResultTimeout
from pydantic import SecretStr

from tasks import calls
from tasks.app import JobApp
from tasks.own_settings import OWN, broker_of, require_own_settings
from tasks.platform import Platform
from tests.calling import nothing, row
from tests.commands import Ended, python
from tests.tracked import Tracked
from tracking import acting_as
from tracking.errors import ConfigurationError
from tracking.models import Owner
from tracking.settings import settings

ELSEWHERE = "redis://127.0.0.1:9/0"  # the port of the discard protocol, on which nothing listens
IMPORTS = """
import sys
sys.path.insert(0, {!r})
from tasks.app import app, import_handlers
from tracking.settings import settings
import_handlers(settings())
print(*sorted(name for name in app.tasks if name.startswith(("shop.", "mail."))))
"""
NAMES = {
    "autodiscover_tasks": 'app.autodiscover_tasks(["shop", "mail"])',
    "autodiscover_tasks at once": 'app.autodiscover_tasks(["shop", "mail"], force=True)',
    "include": 'app.conf.include = ["shop.tasks", "mail.tasks"]',
    "imports": 'app.conf.update(imports=("shop.tasks", "mail.tasks"))',
}


def project(directory: Path, line: str, task: str = "pass") -> Ended:
    """What a program that imports the handlers of a project with two packages of tasks says; `line` names these."""
    for package in ("shop", "mail"):
        (directory / package).mkdir()
        (directory / package / "__init__.py").touch()
        shared = f"from celery import shared_task\n\n@shared_task\ndef work(x):\n    return x\n\n{task}\n"
        (directory / package / "tasks.py").write_text(shared)
    (directory / "shop" / "celery.py").write_text(f"import os\nfrom celeriac import app\n\n{line}\n")
    return python("-c", IMPORTS.format(str(directory)), CELERIAC_IMPORTS="shop.celery")


@pytest.mark.parametrize("way", NAMES)
def test_the_modules_that_a_project_names_to_celery_are_imported(tmp_path: Path, way: str) -> None:
    """Every process that imports handlers knows the tasks of modules that only the project's app names."""
    end = project(tmp_path, NAMES[way])
    assert (end.status, end.out) == (0, "mail.tasks.work shop.tasks.work\n"), end.err


def test_a_module_that_was_discovered_and_is_broken_is_named(tmp_path: Path) -> None:
    """A broken module that `autodiscover_tasks` has found ends the start with its error and its place."""
    end = project(tmp_path, NAMES["autodiscover_tasks"], task="no_such_name")
    assert end.status != 0
    assert "CELERIAC_IMPORTS: 'shop.celery' cannot be imported: NameError" in end.err
    assert "(tasks.py, line 7)" in end.err


def test_django_has_to_be_known_before_celeriac(tmp_path: Path) -> None:
    """Apps of Django are not looked for in vain: where its settings are named too late, the start says what to do."""
    late = 'os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")\napp.autodiscover_tasks()'
    end = project(tmp_path, late)
    assert end.status != 0
    assert "DJANGO_SETTINGS_MODULE was set after Celeriac was imported" in end.err


@pytest.mark.parametrize("name", sorted(OWN))
def test_a_setting_of_the_platforms_own_is_refused(app: JobApp, name: str) -> None:
    """A project that sets what is the platform's own is told which setting that is."""
    app.conf.update({name: None, "timezone": "Europe/Berlin"})
    with pytest.raises(ConfigurationError, match=f"app.conf: {name} is not to be changed"):
        require_own_settings(app)


def test_what_is_not_the_platforms_own_may_be_set(app: JobApp) -> None:
    """Routes, queues, a time zone and time limits are the project's to set."""
    app.conf.update(
        task_routes={}, task_queues=[], timezone="Europe/Berlin", task_time_limit=5, task_ignore_result=True
    )
    require_own_settings(app)


def test_a_project_with_another_backend_does_not_start(tmp_path: Path) -> None:
    """The line that nearly every project brings along, its broker and its backend, ends the start by its name."""
    end = project(tmp_path, f'app.conf.update(broker_url="{ELSEWHERE}", result_backend="{ELSEWHERE}")')
    assert end.status != 0
    assert "app.conf: broker_url, result_backend are not to be changed" in end.err


def test_the_settings_of_another_object_do_not_replace_ours(app: JobApp) -> None:
    """A second `config_from_object` is refused: it would take away all that the platform has set."""
    with pytest.raises(ConfigurationError, match="config_from_object would replace"):
        app.config_from_object("django.conf:settings", namespace="CELERY")


def test_variables_of_celerys_own_lead_nowhere_else(app: JobApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broker and backend are those of the platform, whatever variables of plain Celery say."""
    for name in ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL", "CELERY_RESULT_BACKEND"):
        monkeypatch.setenv(name, ELSEWHERE)
    ours = broker_of(app)
    assert ours != ELSEWHERE
    for connection in (app.connection_for_read(), app.connection_for_write()):
        with connection:
            assert connection.as_uri(include_password=True).rstrip("/") == ours.rstrip("/")
    assert type(app.backend).__name__ == "RowBackend"


# routes


@pytest.fixture
def routed(app: JobApp) -> JobApp:
    """An app with a route that says more than a queue."""
    app.task(name="routed", public=True)(nothing)
    app.task(name="brief", time_limit=30)(nothing)
    route = {"queue": "special", "priority": 3, "time_limit": 60}
    app.conf.update(task_routes={"routed": route, "brief": route})
    return app


def test_what_a_route_says_besides_the_queue_counts(routed: JobApp) -> None:
    """A route says any option of a call, such as a priority, whoever asks for the job."""
    handler: Any = routed.tasks["routed"]
    for job in (row(routed, "routed"), calls.accept(handler, {}, Owner("acme", "u1"))):
        assert (job.queue, job.priority, job.delivery["time_limit"]) == ("special", 3, 60)


def test_call_and_task_go_before_the_route(routed: JobApp) -> None:
    """What a call says goes before what its task says, and that before the route, as in Celery."""
    assert row(routed, "routed", priority=0).priority == 0
    assert row(routed, "routed", queue="other").queue == "other"
    limits = [row(routed, "brief", **given).delivery["time_limit"] for given in ({}, {"time_limit": 9})]
    assert limits == [30, 9]


# results of many


@pytest.fixture
def asking(app: JobApp, database_url: str) -> Iterator[JobApp]:
    """An app that reads results in the database of these tests."""
    app.platform = Platform(app, settings().model_copy(update={"database_url": SecretStr(database_url)}))
    with acting_as("acme", "u1"):
        yield app
    app.platform.close(timeout=5)


def test_results_come_as_they_end(asking: JobApp, tracked: Tracked) -> None:
    """`iter_native` gives each result of many as soon as it is there, `join_native` all in their order."""
    jobs = [tracked.start(tracked.submit()) for _ in range(3)]
    results: Any = asking.GroupResult("g", [asking.AsyncResult(str(job.id)) for job in jobs])
    ended = tracked.end(jobs[1], "succeeded", result=1)
    coming = results.iter_native(timeout=20)
    first, meta = next(coming)
    assert (first, meta["status"], meta["result"]) == (str(ended.id), "SUCCESS", 1)
    later = threading.Timer(0.2, lambda: [tracked.end(jobs[at], "succeeded", result=at) for at in (2, 0)])
    later.start()
    assert {each for each, _ in coming} == {str(jobs[0].id), str(jobs[2].id)}
    later.join()
    assert results.join_native(timeout=20) == [0, 1, 2]


def test_nobody_waits_longer_for_many_than_asked(asking: JobApp, tracked: Tracked) -> None:
    """Who waits for many results, of which one does not end, is told so after the time that was given for all."""
    results: Any = asking.GroupResult("g", [asking.AsyncResult(str(tracked.submit().id)) for _ in range(2)])
    with pytest.raises(ResultTimeout):
        results.join_native(timeout=0.5)
