"""The options of a call and of a retry: each is accepted with its meaning, or refused by name."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime
from typing import Any

import pytest
from celery import Celery, Task
from celery.app.amqp import AMQP
from kombu import Producer

from tasks import Job, calls
from tasks.app import JobApp
from tasks.current import Asked
from tasks.options import CALL, KNOWN, MESSAGE, PUBLISH
from tests.calling import nothing, row
from tracking.errors import ConfigurationError, InvalidValue

# options


@pytest.mark.parametrize("name", sorted(CALL | MESSAGE | PUBLISH))
def test_every_option_of_celerys_is_accepted(name: str) -> None:
    """Every option in the signatures of Celery's calls is accepted."""
    assert name in KNOWN


def test_the_table_is_complete() -> None:
    """The table of options has every parameter of the installed Celery and kombu."""
    signed = {
        name
        for function in (Celery.send_task, Task.apply_async, AMQP.as_task_v2, Producer.publish)
        for name, each in inspect.signature(function).parameters.items()
        if each.kind is not inspect.Parameter.VAR_KEYWORD
    }
    internal = {"self", "name", "body", "callbacks", "errbacks"}
    assert signed - internal <= KNOWN


@pytest.mark.parametrize(
    ("option", "meant"), [("project_id", "project"), ("organisation", "organization"), ("que", "queue")]
)
def test_an_unknown_option_is_refused_by_name(app: JobApp, option: str, meant: str) -> None:
    """An unknown option is refused by its name, with what may be meant."""
    with pytest.raises(InvalidValue, match=f"'{option}'; did you mean '{meant}'"):
        row(app, "a", **{option: "x"})


def test_stamps_are_options(app: JobApp) -> None:
    """A stamp of any name is accepted as an option."""
    job = row(app, "a", stamped_headers=["mark"], mark=["1"])
    assert job.delivery["stamps"] == {"mark": ["1"]}


@pytest.mark.parametrize("project", ["a/b", "", ".", "..", 5])
def test_a_project_that_no_path_can_name_is_refused(app: JobApp, project: Any) -> None:
    """A project that no URL path can name is refused."""
    with pytest.raises(InvalidValue, match="project"):
        row(app, "a", project=project)


LATER = datetime(2030, 1, 1, tzinfo=UTC)
RETRIES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"queue": "maintenance"}, {"queue": "maintenance"}),
    ({"priority": 7}, {"priority": 7}),
    ({"time_limit": 9, "soft_time_limit": 4}, {"delivery": {"time_limit": 9, "soft_time_limit": 4}}),
    ({"expires": LATER}, {"delivery": {"expires": LATER.isoformat()}}),
    ({"expires": None}, {"delivery": {"expires": None}}),
    ({"headers": {"a": "b"}}, {"delivery": {"headers": {"a": "b"}}}),
    ({"shadow": "other"}, {"delivery": {"shadow": "other"}}),
    ({"ignore_result": True}, {"delivery": {"ignore_result": True}}),
]


@pytest.mark.parametrize(("options", "changed"), RETRIES)
def test_an_option_of_a_retry_is_a_change_of_the_row(app: JobApp, options: Any, changed: dict[str, Any]) -> None:
    """An option of `self.retry` changes the row, and what is not named stays."""
    changes = calls.changes(app, "a", [1], {}, Asked(options, has_arguments=False, max_retries=None))
    found = {name: getattr(changes, name) for name in ("payload", "delivery", "queue", "priority", "max_retries")}
    assert {name: value for name, value in found.items() if value is not None} == changed


POLICIES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"maxRetries": 3, "backoff": 5.0, "backoffMax": 600, "jitter": True, "delay": None}),
    ({"retry_kwargs": {"max_retries": 4}}, {"maxRetries": 4, "backoff": 5.0}),
    ({"retry_kwargs": {"max_retries": 4, "countdown": 2}, "max_retries": 9}, {"maxRetries": 4, "delay": 2.0}),
    ({"default_retry_delay": 30}, {"backoff": 0.0, "delay": 30.0}),
    ({"default_retry_delay": 30, "retry_backoff": True}, {"backoff": 1.0, "delay": None}),
    ({"retry_backoff": False}, {"backoff": 0.0, "delay": 180.0}),
    ({"retry_backoff": 7.9, "retry_backoff_max": 20, "retry_jitter": False}, {"backoff": 7.0, "backoffMax": 20}),
    ({"retry_backoff": 0.5}, {"backoff": 1.0}),
    ({"retry_backoff": 3, "retry_kwargs": {"countdown": 1}}, {"backoff": 3.0, "delay": None}),
    ({"max_retries": None}, {"maxRetries": None}),
    ({"max_retries": 0}, {"maxRetries": 0}),
]


@pytest.mark.parametrize(("options", "expected"), POLICIES)
def test_the_row_the_job_types_and_the_behaviour_agree(
    app: JobApp, options: dict[str, Any], expected: dict[str, Any]
) -> None:
    """Row, job type and behaviour have one retry policy, whichever option says it."""

    @app.task(bind=True, name="handle", autoretry_for=(OSError,), **options)
    def handle(self: Job) -> None:
        raise OSError("away")

    task: Any = app.tasks["handle"]
    told = task.retry_policy()
    assert {name: told[name] for name in expected} == expected
    limit = calls.MAX_RETRIES_LIMIT if told["maxRetries"] is None else told["maxRetries"]
    assert row(app, "handle").max_retries == limit
    for retries in range(4):
        longest = told["delay"] if told["delay"] is not None else min(told["backoffMax"], told["backoff"] * 2**retries)
        waited = task.policy.wait(retries)
        assert 0 <= waited <= longest if told["jitter"] and told["backoff"] else waited == longest


def test_a_base_class_may_say_how_its_handlers_are_retried(app: JobApp) -> None:
    """A base class says how its handlers are retried, and their own options go before."""

    class Patient(Job):
        abstract = True
        default_retry_delay = 60
        max_retries = 7

    app.task(base=Patient, name="first")(nothing)
    app.task(base=Patient, name="second", max_retries=1)(nothing)
    tasks: Any = app.tasks
    policies = [tasks[name].retry_policy() for name in ("first", "second")]
    assert [(each["maxRetries"], each["delay"]) for each in policies] == [(7, 60.0), (1, 60.0)]


@pytest.mark.parametrize("options", [{"max_retries": -1}, {"max_retries": "3"}, {"retry_backoff": "x"}])
def test_a_policy_that_is_none_is_refused_at_registration(app: JobApp, options: dict[str, Any]) -> None:
    """A retry policy with a value that is no number is refused at registration."""
    with pytest.raises(ConfigurationError):
        app.task(**options)(nothing)  # type: ignore[no-untyped-call]
