"""What a call becomes, without a worker: the row, the message that would be sent, and what the handler would get."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID, uuid4

import pydantic
import pytest
from celery import Celery, Task, _state
from celery.app.amqp import AMQP
from kombu import Connection, Producer

from tasks import BaseModel, Job, calls
from tasks.app import JobApp
from tasks.arguments import PASSING, payload_to_arguments
from tasks.attempt import succession
from tasks.broker.messages import called, publish
from tasks.current import Asked
from tasks.options import CALL, KNOWN, MESSAGE, PUBLISH
from tests.tracked import Tracked, new_job, outcome
from tracking import jobs
from tracking.admission.holds import UNLIMITED
from tracking.db import Database
from tracking.errors import ConfigurationError, IdempotencyConflict, InvalidValue
from tracking.models import Attempt, JobRecord, NewJob, Owner

if TYPE_CHECKING:
    from fractions import Fraction


class Doubled(BaseModel):
    """A payload whose validator must not see its own result."""

    number: int
    more: int = 1

    @pydantic.field_validator("number", "more")
    @classmethod
    def doubled(cls, value: int) -> int:
        """Twice as much."""
        return 2 * value


class Inner(BaseModel):
    """A part of a payload."""

    first_word: str = "a"
    second_word: str


class Whole(BaseModel):
    """A payload of parts."""

    parts: tuple[Inner, ...] = ()
    one: Inner | None = None
    args: tuple[int, ...] = ()
    kwargs: dict[str, int] = pydantic.Field(default_factory=dict)


class Secretive(BaseModel):
    """A payload that cannot be sent."""

    password: pydantic.SecretStr


class Nested(BaseModel):
    """A payload with a part that cannot be sent."""

    parts: tuple[Secretive | None, ...] = ()


class Hidden(BaseModel):
    """A payload that leaves something out."""

    number: int = pydantic.Field(default=1, exclude=True)


class Renamed(pydantic.BaseModel):
    """A payload that is read by another name than it is written."""

    number: int = pydantic.Field(validation_alias="in", serialization_alias="out")


def nothing() -> None:
    """A handler."""


@pytest.fixture
def app() -> Iterator[JobApp]:
    """An app of this test: its tasks are nobody else's."""
    app = JobApp("calls", set_as_current=False)
    app.config_from_object("celeryconfig")
    app.finalized = True
    state: Any = _state  # the stubs leave it out
    shared = set(state._on_app_finalizers)
    yield app
    app.close()
    state._on_app_finalizers.intersection_update(shared)  # by which Celery gives every later app its tasks


def row(app: JobApp, name: str, args: Any = None, kwargs: Any = None, **options: Any) -> NewJob:
    """The row that a call would write."""
    return calls.new_job(app, name, args, kwargs, task_id=options.pop("task_id", None), options=options)


def accepted(tracked: Tracked, job: NewJob) -> JobRecord:
    """The row that was written."""
    return jobs.submit(tracked.connection, job, UNLIMITED).job


def arguments(app: JobApp, record: JobRecord) -> list[Any]:
    """Those that a handler is called with, args and kwargs, once the row is claimed."""
    handler: Any = app.tasks.get(record.job_type)
    attempt = Attempt(
        fence=record.fence,
        attempt=1,
        owner=Owner(record.organization_id, record.user_id),
        project_id=None,
        job_type=record.job_type,
        retry_count=0,
        max_retries=0,
        root_id=None,
        group_id=None,
        payload=record.payload,
        delivery=record.delivery,
    )
    call = called(attempt, takes_payload=handler is None or handler.takes_payload)
    return [call["args"], call["kwargs"]]


def message(app: JobApp, record: JobRecord) -> Any:
    """The message that would be sent for a row, as a worker receives it."""
    with Connection("memory://") as connection:
        publish(app, connection.Producer(), record)
        queue = app.amqp.queues[record.queue](connection.default_channel)
        found = queue.get(no_ack=True)
    assert found is not None
    return found


# what was sent, validated once on each side


def test_the_row_keeps_what_was_sent_and_defaults(app: JobApp) -> None:
    """What the validators make of it only the worker sees."""

    @app.task(bind=True, pydantic=True, name="doubled")
    def doubled(self: Job, payload: Doubled) -> list[int]:
        return [payload.number, payload.more]

    sent = row(app, "doubled", [{"number": 2}])
    assert sent.payload == {"number": 2}  # the default would be doubled in the worker: it makes its own
    args, kwargs = payload_to_arguments(sent.payload, None, takes_payload=True)
    assert app.tasks["doubled"](*args, **kwargs) == [4, 1]


def test_defaults_are_kept_at_any_depth(app: JobApp) -> None:
    """Of parts and of lists of parts."""

    @app.task(bind=True, pydantic=True, name="whole")
    def whole(self: Job, payload: Whole) -> None: ...

    sent = {"parts": [{"secondWord": "b"}], "one": {"second_word": "c", "firstWord": "d"}}
    expected = {
        "parts": [{"firstWord": "a", "secondWord": "b"}],
        "one": {"second_word": "c", "firstWord": "d"},
        "args": [],
        "kwargs": {},
    }
    assert row(app, "whole", [sent]).payload == expected
    for args, kwargs in [([sent], {}), ([], {"payload": sent}), ([Whole.model_validate(sent)], {})]:
        job = row(app, "whole", args, kwargs)
        passed = payload_to_arguments(job.payload, job.delivery.get(PASSING), takes_payload=True)
        assert Whole.model_validate(passed[0][0]) == Whole.model_validate(sent)


def test_a_model_with_fields_named_args_and_kwargs_makes_the_round_trip(app: JobApp, tracked: Tracked) -> None:
    """It is no call."""

    class Call(BaseModel):
        args: list[int]
        kwargs: dict[str, int]

    def call(self: Job, payload: Any) -> None: ...

    call.__annotations__["payload"] = Call
    app.task(bind=True, pydantic=True, name="call")(call)
    sent = {"args": [1], "kwargs": {"a": 2}}
    for args, kwargs in [([sent], {}), ([], {"payload": sent}), ([Call(args=[1], kwargs={"a": 2})], {})]:
        job = accepted(tracked, row(app, "call", args, kwargs))
        assert job.payload == sent
        assert arguments(app, job) == [[sent], {}]


def test_a_model_that_would_arrive_as_another_one_is_refused(app: JobApp) -> None:
    """Its validators have run already, and would run again."""

    @app.task(bind=True, pydantic=True, name="doubled")
    def doubled(self: Job, payload: Doubled) -> None: ...

    with pytest.raises(InvalidValue, match="send a dict instead"):
        row(app, "doubled", [Doubled(number=2)])


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Secretive, "password is a secret"),
        (Nested, "password is a secret"),
        (Hidden, "number is excluded"),
        (Renamed, "is sent as 'out' and read as 'in'"),
    ],
)
def test_a_payload_that_cannot_make_the_round_trip_is_refused_at_registration(
    app: JobApp, model: Any, reason: str
) -> None:
    """With the field that is in the way."""

    def handle(payload: Any) -> None: ...

    handle.__annotations__["payload"] = model
    with pytest.raises(ConfigurationError, match=reason):
        app.task(pydantic=True, name="handle")(handle)
    assert "handle" not in app.tasks


# annotations for type checkers only


def test_a_parameter_whose_type_is_known_to_type_checkers_only_is_refused(app: JobApp) -> None:
    """The handler would get the raw object."""

    def handle(payload: Fraction) -> None: ...

    with pytest.raises(ConfigurationError, match="TYPE_CHECKING"):
        app.task(pydantic=True, name="handle")(handle)


def test_another_annotation_that_is_not_known_changes_nothing(app: JobApp) -> None:
    """That of the result, or of a plain task."""

    @app.task(pydantic=True, name="handle")
    def handle(payload: Inner) -> Fraction:  # type: ignore[return]
        assert isinstance(payload, Inner)

    @app.task(name="plain", public=True)
    def plain(x: Fraction, y: int) -> None: ...

    tasks: Any = app.tasks
    tasks["handle"]({"secondWord": "b"})
    assert tasks["plain"].payload_schema()["properties"].keys() == {"x", "y"}
    assert tasks["handle"].payload_model is Inner


# an id names one call


def test_an_id_that_was_used_for_another_call_is_refused(app: JobApp, tracked: Tracked) -> None:
    """Another type, other arguments, or the same given in another way; the same call is the same job."""

    def submit(*call: Any, **options: Any) -> bool:
        job = row(app, *call, task_id=str(task_id), organization="acme", user="u1", **options)
        return jobs.submit(tracked.connection, job, UNLIMITED).created

    task_id = uuid4()
    assert submit("a", [1, 1e23, -0.0, "é"])
    assert not submit("a", [1, 1e23, -0.0, "é"])
    assert not submit("a", [1.0, 1e23, 0.0, "é"], priority=3)
    for call in [("b", [1, 1e23, -0.0, "é"]), ("a", [2, 1e23, -0.0, "é"]), ("a", []), ("a", [], {"x": 1})]:
        with pytest.raises(IdempotencyConflict, match="its type or its arguments differ"):
            submit(*call)
    assert len(tracked.all()) == 1


def test_a_successor_whose_id_is_another_jobs_takes_no_outcome_with_it(tracked: Tracked, pool: Database) -> None:
    """Its predecessor has ended, and what else follows from that is accepted."""
    taken, other = tracked.submit(), new_job()
    conflicting = new_job(id=taken.id, payload={"a": 2})
    running = tracked.start(tracked.submit())
    with pool.begin() as connection:
        jobs.settle(connection, [outcome(running, "succeeded")])
        submitted = succession.submit(connection, [conflicting, other])
    assert [job.id for job in submitted] == [other.id]
    assert tracked.get(running.id).status == "succeeded"
    assert tracked.get(taken.id).payload == {}


# options


@pytest.mark.parametrize("name", sorted(CALL | MESSAGE | PUBLISH))
def test_every_option_of_celerys_is_accepted(name: str) -> None:
    """Those of the signatures, at least: what Celery takes today is in the table."""
    assert name in KNOWN


def test_the_table_is_complete() -> None:
    """Compared with the signatures of the installed Celery and kombu."""
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
    """With what may be meant."""
    with pytest.raises(InvalidValue, match=f"'{option}'; did you mean '{meant}'"):
        row(app, "a", **{option: "x"})


def test_stamps_are_options(app: JobApp) -> None:
    """Whatever their names are."""
    job = row(app, "a", stamped_headers=["mark"], mark=["1"])
    assert job.delivery["stamps"] == {"mark": ["1"]}


@pytest.mark.parametrize("project", ["a/b", "", ".", "..", 5])
def test_a_project_that_no_path_can_name_is_refused(app: JobApp, project: Any) -> None:
    """It could not be listed."""
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
    """And what is not named stays."""
    changes = calls.changes(app, "a", [1], {}, Asked(options, has_arguments=False, max_retries=None))
    found = {name: getattr(changes, name) for name in ("payload", "delivery", "queue", "priority", "max_retries")}
    assert {name: value for name, value in found.items() if value is not None} == changed


# values


VALUES = [
    Decimal("1.50"),
    datetime(2026, 1, 2, 3, 4, 5, 6, UTC),
    date(2026, 1, 2),
    time(1, 2, 3),
    UUID(int=7),
    b"bytes",
    b"\x00\xff",
]
WAYS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "by position": ([...], {}),
    "by name": ([], {"payload": ...}),
    "within an object": ([{"a": ...}], {}),
    "among others": ([1, ...], {"y": [...]}),
}


def _with(template: Any, value: Any) -> Any:
    if isinstance(template, dict):
        return {name: _with(each, value) for name, each in template.items()}
    if isinstance(template, list):
        return [_with(each, value) for each in template]
    return value if template is ... else template


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_typed_value_arrives_typed(app: JobApp, tracked: Tracked, way: str, value: Any) -> None:
    """Through the row and the message, and again when it is sent again."""
    args, kwargs = (_with(part, value) for part in WAYS[way])
    stored = accepted(tracked, row(app, "a", args, kwargs))
    for _ in range(2):
        assert arguments(app, stored) == [args, kwargs]


def test_a_message_holds_neither_arguments_nor_what_follows(app: JobApp, tracked: Tracked) -> None:
    """A worker gets them with the claim, from the row."""
    follower: dict[str, Any] = {
        "task": "b",
        "args": [],
        "kwargs": {},
        "options": {},
        "subtask_type": None,
        "immutable": False,
    }
    job = accepted(tracked, row(app, "a", ["secret"], {"more": 1}, link=follower, link_error=follower, priority=3))
    sent = message(app, job)
    assert sent.payload == [[], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    assert (sent.headers["id"], sent.headers["dispatch"], sent.headers["argsrepr"]) == (str(job.id), 1, str(job.id))


@pytest.mark.parametrize("expires", [0, -5, 0.0, timedelta(0).total_seconds(), datetime(2020, 1, 1, tzinfo=UTC)])
def test_what_has_expired_already_says_so_in_its_message(app: JobApp, tracked: Tracked, expires: Any) -> None:
    """So that no worker runs it."""
    job = accepted(tracked, row(app, "a", expires=expires))
    assert datetime.fromisoformat(message(app, job).headers["expires"]) <= datetime.now(UTC)


def test_a_retry_by_hand_forgets_when_the_job_would_have_expired(tracked: Tracked) -> None:
    """Who asks for it wants it to run."""
    job = tracked.submit(delivery={"expires": "2020-01-01T00:00:00+00:00", "shadow": "x"})
    assert tracked.retry(tracked.cancel(job)).delivery == {"shadow": "x"}


# one limit and one delay


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
    """Whichever of Celery's options says it."""

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
    """As in Celery; a handler's own options go before."""

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
    """Before any job fails of it."""
    with pytest.raises(ConfigurationError):
        app.task(**options)(nothing)  # type: ignore[no-untyped-call]


def test_annotated_types_are_looked_into(app: JobApp) -> None:
    """Wherever the secret hides."""

    class Deep(BaseModel):
        secrets: dict[str, Annotated[list[pydantic.SecretBytes], "x"]]

    def handle(payload: Any) -> None: ...

    handle.__annotations__["payload"] = Deep
    with pytest.raises(ConfigurationError, match="secret"):
        app.task(name="handle")(handle)
