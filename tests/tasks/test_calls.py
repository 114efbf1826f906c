"""What a call becomes, without a worker: the row, the message that would be sent, and what the handler would get."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID, uuid4

import pydantic
import pytest

from tasks import BaseModel, Job
from tasks.app import JobApp
from tasks.arguments import PASSING, payload_to_arguments
from tasks.attempt.succession import Succession
from tests.tracked import Tracked, new_job, outcome
from tracking import jobs
from tracking.admission.rule import UNLIMITED
from tracking.db import Database
from tracking.errors import ConfigurationError, IdempotencyConflict, InvalidValue

if TYPE_CHECKING:
    from fractions import Fraction
from tests.calling import accepted, arguments, message, row


class Doubled(BaseModel):
    """A payload whose validator must not see its own result."""

    number: int
    more: int = 1

    @pydantic.field_validator("number", "more")
    @classmethod
    def doubled(cls, value: int) -> int:
        return 2 * value


calls_of_validator: list[int] = []


class Counted(BaseModel):
    """A payload that notes each validation."""

    number: int
    more: int = 1
    when: date = pydantic.Field(default_factory=lambda: date(2026, 1, 1))

    @pydantic.field_validator("number")
    @classmethod
    def counted(cls, value: int) -> int:
        calls_of_validator.append(value)
        return value


class Untyped(BaseModel):
    """A payload with a default that JSON does not know, in a field that does not say what it is."""

    number: int
    when: Any = date(2026, 1, 1)


class Stripped(BaseModel):
    """A payload whose texts are stripped, but not its defaults."""

    model_config = pydantic.ConfigDict(str_strip_whitespace=True)

    number: int
    text: str = " a "


class Cleaned(BaseModel):
    """A payload that is changed as a whole."""

    number: int
    more: int = 1

    @pydantic.model_validator(mode="before")
    @classmethod
    def cleaned(cls, value: Any) -> Any:
        """Twice as much of what was sent."""
        return {**value, "more": 2 * value["more"]} if "more" in value else value


class Serialized(BaseModel):
    """A payload that writes a field in its own way."""

    number: int
    more: int = 1

    @pydantic.field_serializer("more")
    def serialized(self, value: int) -> str:
        return str(value + 1)


class Inner(BaseModel):
    """A part of a payload."""

    first_word: str = "a"
    second_word: str


class Whole(BaseModel):
    parts: tuple[Inner, ...] = ()
    one: Inner | None = None
    args: tuple[int, ...] = ()
    kwargs: dict[str, int] = pydantic.Field(default_factory=dict)


class Hidden(BaseModel):
    """A payload that leaves something out."""

    number: int = pydantic.Field(default=1, exclude=True)


class Renamed(pydantic.BaseModel):
    """A payload that is read by another name than it is written."""

    number: int = pydantic.Field(validation_alias="in", serialization_alias="out")


def test_the_row_keeps_what_was_sent_and_defaults(app: JobApp) -> None:
    """A row keeps what was sent, not what validators made of it."""

    @app.task(bind=True, pydantic=True, name="doubled")
    def doubled(self: Job, payload: Doubled) -> list[int]:
        return [payload.number, payload.more]

    sent = row(app, "doubled", [{"number": 2}])
    assert sent.payload == {"number": 2}  # the default would be doubled in the worker: it makes its own
    args, kwargs = payload_to_arguments(sent.payload, None, takes_payload=True)
    assert app.tasks["doubled"](*args, **kwargs) == [4, 1]


@pytest.mark.parametrize("sent", [{"number": 2}, Counted(number=2)], ids=["a dict", "an instance"])
def test_a_producer_validates_a_payload_once(app: JobApp, sent: Any) -> None:
    """Validators of a payload run once before it is sent, also when its defaults are filled in."""

    @app.task(bind=True, pydantic=True, name="counted")
    def counted(self: Job, payload: Counted) -> None: ...

    calls_of_validator.clear()
    assert row(app, "counted", [sent]).payload == {"number": 2, "more": 1, "when": "2026-01-01"}
    assert calls_of_validator == [2]


@pytest.mark.parametrize("model", [Untyped, Stripped, Cleaned, Serialized])
def test_a_default_that_a_worker_would_read_as_something_else_is_left_out(app: JobApp, model: type[BaseModel]) -> None:
    """A default stays out of the row when its JSON, a configuration, a validator or a serializer would change it."""

    def handle(self: Job, payload: Any) -> None: ...

    handle.__annotations__["payload"] = model
    app.task(bind=True, pydantic=True, name="handle")(handle)
    sent = row(app, "handle", [{"number": 2}]).payload
    assert sent == {"number": 2}
    assert model.model_validate(sent) == model.model_validate({"number": 2})


def test_defaults_are_kept_at_any_depth(app: JobApp) -> None:
    """A row keeps the defaults of a payload's parts and of lists of parts."""

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
    """A model with fields named args and kwargs arrives as it was sent."""

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
    """A model instance that its validators would change again is refused."""

    @app.task(bind=True, pydantic=True, name="doubled")
    def doubled(self: Job, payload: Doubled) -> None: ...

    with pytest.raises(InvalidValue, match="send a dict instead"):
        row(app, "doubled", [Doubled(number=2)])


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Hidden, "number is excluded"),
        (Renamed, "is sent as 'out' and read as 'in'"),
    ],
)
def test_a_payload_that_cannot_make_the_round_trip_is_refused_at_registration(
    app: JobApp, model: Any, reason: str
) -> None:
    """A model that cannot arrive as it was sent is refused at registration by its field."""

    def handle(payload: Any) -> None: ...

    handle.__annotations__["payload"] = model
    with pytest.raises(ConfigurationError, match=reason):
        app.task(pydantic=True, name="handle")(handle)
    assert "handle" not in app.tasks


def test_a_parameter_whose_type_is_known_to_type_checkers_only_is_refused(app: JobApp) -> None:
    """A payload whose type is imported under TYPE_CHECKING only is refused."""

    def handle(payload: Fraction) -> None: ...

    with pytest.raises(ConfigurationError, match="TYPE_CHECKING"):
        app.task(pydantic=True, name="handle")(handle)


def test_another_annotation_that_is_not_known_changes_nothing(app: JobApp) -> None:
    """An unknown annotation of a result or of a plain task is no fault."""

    @app.task(pydantic=True, name="handle")
    def handle(payload: Inner) -> Fraction:  # type: ignore[return]
        assert isinstance(payload, Inner)

    @app.task(name="plain", public=True)
    def plain(x: Fraction, y: int) -> None: ...

    tasks: Any = app.tasks
    tasks["handle"]({"secondWord": "b"})
    assert tasks["plain"].payload_schema()["properties"].keys() == {"x", "y"}
    tasks["plain"].payload_schema()["properties"].clear()
    assert tasks["plain"].payload_schema()["properties"].keys() == {"x", "y"}, "a schema is its caller's own"
    assert tasks["handle"].payload_model is Inner


def test_an_id_that_was_used_for_another_call_is_refused(app: JobApp, tracked: Tracked) -> None:
    """An id that was used for another type or other arguments is refused; the same call is the same job."""

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


def test_a_successor_whose_id_is_another_jobs_takes_no_outcome_with_it(
    app: JobApp, tracked: Tracked, pool: Database
) -> None:
    """A successor with another job's id is refused alone, and its predecessor has succeeded."""
    taken, other = tracked.submit(), new_job()
    conflicting = new_job(id=taken.id, payload={"a": 2})
    running = tracked.start(tracked.submit())
    with pool.begin() as connection:
        jobs.settle(connection, [outcome(running, "succeeded")])
        submitted = Succession(app.platform, connection).submit([conflicting, other])
    assert [job.id for job in submitted] == [other.id]
    assert tracked.get(running.id).status == "succeeded"
    assert tracked.get(taken.id).payload == {}


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
    """A date, a decimal or a UUID arrives typed, also when the message is sent again."""
    args, kwargs = (_with(part, value) for part in WAYS[way])
    stored = accepted(tracked, row(app, "a", args, kwargs))
    for _ in range(2):
        assert arguments(app, stored) == [args, kwargs]


def test_a_message_holds_neither_arguments_nor_what_follows(app: JobApp, tracked: Tracked) -> None:
    """A message holds neither arguments nor links, which a worker gets with its claim."""
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


@pytest.mark.parametrize("nesting", [0, 2])
def test_a_message_says_how_often_the_task_was_replaced(app: JobApp, tracked: Tracked, nesting: int) -> None:
    """Listeners to `task_received` hear how deep a replaced task is, as on plain Celery."""
    job = accepted(tracked, row(app, "a", replaced_task_nesting=nesting))
    assert message(app, job).headers["replaced_task_nesting"] == nesting


@pytest.mark.parametrize("expires", [0, -5, 0.0, timedelta(0).total_seconds(), datetime(2020, 1, 1, tzinfo=UTC)])
def test_what_has_expired_already_says_so_in_its_message(app: JobApp, tracked: Tracked, expires: Any) -> None:
    """The message of a job with expires=0 has an expiry that has passed."""
    job = accepted(tracked, row(app, "a", expires=expires))
    assert datetime.fromisoformat(message(app, job).headers["expires"]) <= datetime.now(UTC)


def test_a_retry_by_hand_forgets_when_the_job_would_have_expired(tracked: Tracked) -> None:
    """A retry by hand forgets the job's expiry."""
    job = tracked.submit(delivery={"expires": "2020-01-01T00:00:00+00:00", "shadow": "x"})
    assert tracked.retry(tracked.cancel(job)).delivery == {"shadow": "x"}


def test_annotated_types_are_looked_into(app: JobApp) -> None:
    """A secret inside of an Annotated type is found at registration."""

    class Deep(BaseModel):
        secrets: dict[str, Annotated[list[pydantic.SecretBytes], "x"]]

    def handle(payload: Any) -> None: ...

    handle.__annotations__["payload"] = Deep
    with pytest.raises(ConfigurationError, match="secret"):
        app.task(name="handle")(handle)
