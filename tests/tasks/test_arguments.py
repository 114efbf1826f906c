"""A call's arguments become one JSON object in the row, and again the same arguments for the handler."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st
from kombu.utils import json as kombu_json

from tasks import BaseModel, Job
from tasks.arguments import Arguments, arguments_to_payload, payload_to_arguments
from tasks.encoding import to_plain
from tests.properties import UNHURRIED
from tracking.errors import InvalidValue

TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
# Not the two names with which kombu marks what JSON lacks.
NAMES = TEXTS.filter(lambda name: name not in ("__type__", "__value__"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(NAMES, JSON, max_size=4)
CALL = {"args": [1], "kwargs": {}}

# An application of its own: its tasks are nobody else's.
app = Celery("arguments", task_cls=Job, set_as_current=False)


class Words(BaseModel):
    word_count: int
    first_word: str = ""


def _no_parameters() -> None:
    """Take nothing."""


def _a_payload(payload: Any) -> None:
    """Take one object."""


def _a_default(text: Any = "broken") -> None:
    """Take what need not be given."""


def _two(x: Any, y: Any) -> None:
    """Take two."""


def _two_and_a_default(x: Any, y: Any, *, z: Any = 3) -> None:
    """Take two, or three."""


def _any_number(*numbers: Any) -> None:
    """Take whatever comes."""


def _any_names(**options: Any) -> None:
    """Take whatever comes, by name."""


def _number_or_payload(x: Any = 0, payload: Any = None) -> None:
    """Take one or the other."""


def _only_named(*, payload: Any, y: Any = 0) -> None:
    """Take arguments by name alone."""


def _only_positional(x: Any, y: Any = None, /) -> None:
    """Take arguments by position alone."""


def _everything(x: Any, /, *more: Any, z: Any = 0, **options: Any) -> None:
    """Take all kinds."""


# An object that looks like a call: its members have the two names.
SHAPED = st.fixed_dictionaries({"args": JSON, "kwargs": JSON})

# A handler, and how it may be called: the strategies of the positional and of the named arguments.
CALLS: list[tuple[Callable[..., None], st.SearchStrategy[Any], st.SearchStrategy[Any]]] = [
    (_no_parameters, st.just([]), st.just({})),
    (_a_payload, st.tuples(JSON | OBJECTS), st.just({})),
    (_a_payload, st.just([]), st.fixed_dictionaries({"payload": JSON | OBJECTS})),
    (_a_default, st.just([]), st.just({})),
    (_a_default, st.tuples(JSON), st.just({})),
    (_a_default, st.just([]), st.fixed_dictionaries({"text": JSON})),
    (_two, st.tuples(JSON, JSON), st.just({})),
    (_two, st.tuples(JSON), st.fixed_dictionaries({"y": JSON})),
    (_two, st.just([]), st.fixed_dictionaries({"x": JSON, "y": JSON})),
    (_two_and_a_default, st.tuples(JSON, JSON), st.fixed_dictionaries({}, optional={"z": JSON})),
    (_any_number, st.lists(JSON, max_size=4), st.just({})),
    (_any_names, st.just([]), st.dictionaries(st.sampled_from(["a", "b", "payload", "args"]), JSON)),
    (_number_or_payload, st.lists(JSON, max_size=2), st.just({})),
    (_number_or_payload, st.just([]), st.fixed_dictionaries({}, optional={"x": JSON, "payload": JSON | OBJECTS})),
    (_number_or_payload, st.tuples(JSON), st.fixed_dictionaries({}, optional={"payload": JSON | OBJECTS})),
    (_only_named, st.just([]), st.fixed_dictionaries({"payload": JSON | OBJECTS}, optional={"y": JSON})),
    (_only_positional, st.lists(JSON | OBJECTS, min_size=1, max_size=2), st.just({})),
    (_everything, st.lists(JSON, min_size=1, max_size=3), st.dictionaries(st.sampled_from(["z", "payload"]), JSON)),
    (_a_payload, st.tuples(SHAPED), st.just({})),
    (_a_payload, st.just([]), st.fixed_dictionaries({"payload": SHAPED})),
]


def _sent(function: Callable[..., None], args: Any, kwargs: Any, *, known: bool = True) -> inspect.BoundArguments:
    """What the handler would be called with, after the way through the row; `known`: by a producer that has it."""
    handler: Any = app.task(name=function.__name__)(function)
    knowledge = {"parameter": handler.signature_read.sole, "takes_payload": handler.takes_payload} if known else {}
    stored = arguments_to_payload(args, kwargs, **knowledge)
    payload = json.loads(json.dumps(stored.payload))
    return _bound(function, *payload_to_arguments(payload, stored.passing, takes_payload=handler.takes_payload))


def _bound(function: Callable[..., None], args: Any, kwargs: Any) -> inspect.BoundArguments:
    arguments = inspect.signature(function).bind(*args, **kwargs)
    arguments.apply_defaults()
    return arguments


@pytest.mark.parametrize(("function", "args", "kwargs"), CALLS, ids=lambda value: getattr(value, "__name__", ""))
@UNHURRIED
@given(data=st.data())
def test_a_handler_is_called_as_it_would_be_by_plain_celery(
    function: Callable[..., None],
    args: st.SearchStrategy[Any],
    kwargs: st.SearchStrategy[Any],
    data: st.DataObject,
) -> None:
    """A handler gets the arguments that plain Celery would give it, however the call is written."""
    positional, named = data.draw(args), data.draw(kwargs)
    plain = _bound(function, positional, named)
    assert _sent(function, positional, named) == plain
    assert _sent(function, positional, named, known=False) == plain


@UNHURRIED
@given(OBJECTS)
def test_one_object_is_the_payload_itself(payload: dict[str, Any]) -> None:
    """One object, by position or as `payload`, is the row's payload itself."""
    assert arguments_to_payload([payload], None).payload == payload
    assert arguments_to_payload(None, {"payload": payload}).payload == payload


def test_no_arguments_are_an_empty_object() -> None:
    """A call without arguments has an empty object as its payload."""
    assert arguments_to_payload(None, None, takes_payload=False) == Arguments({})
    assert arguments_to_payload([], {}, takes_payload=False) == Arguments({})
    assert arguments_to_payload((), None, takes_payload=False) == Arguments({})


def test_an_object_that_looks_like_a_call_is_kept_apart() -> None:
    """An object with the keys args and kwargs is not taken for a call."""
    stored = arguments_to_payload([CALL], None)
    assert stored == Arguments(CALL, "object")
    assert payload_to_arguments(stored.payload, stored.passing, takes_payload=True) == ([CALL], {})


def test_a_row_of_an_older_version_is_read_as_before() -> None:
    """A row that does not say how its payload is passed is read as before."""
    assert payload_to_arguments({"args": [1], "kwargs": {"y": 2}}, takes_payload=True) == ([1], {"y": 2})
    assert payload_to_arguments({}, takes_payload=True) == ([{}], {})
    assert payload_to_arguments({}, takes_payload=False) == ([], {})
    assert payload_to_arguments({"x": 1}, takes_payload=False) == ([{"x": 1}], {})


def test_a_model_is_its_json() -> None:
    """A model's payload is its camelCase JSON."""
    words = Words(word_count=2)
    expected = {"wordCount": 2, "firstWord": ""}
    assert arguments_to_payload([words], None).payload == expected
    assert arguments_to_payload(None, {"payload": words}).payload == expected
    assert arguments_to_payload([words, 1], None).payload["args"] == [expected, 1]


@pytest.mark.parametrize(
    "value", [datetime(2026, 1, 2, 3, 4, 5, 6, UTC), date(2026, 1, 2), UUID(int=7), Decimal("1.50"), b"\x00\xff"]
)
def test_what_json_lacks_arrives_as_from_plain_celery(value: Any) -> None:
    """Values that JSON lacks are decoded from a row's message to the same Python values."""
    stored = arguments_to_payload([value], {"at": value})
    args, kwargs = payload_to_arguments(stored.payload, stored.passing, takes_payload=True)
    message = kombu_json.loads(kombu_json.dumps([args, kwargs]))
    assert message == kombu_json.loads(kombu_json.dumps([[value], {"at": value}]))


@pytest.mark.parametrize("value", [object(), {"a": {1, object()}}, lambda: None])
def test_what_is_not_json_is_refused(value: Any) -> None:
    """Arguments that are no JSON are refused before anything is written."""
    with pytest.raises(InvalidValue, match=r"^the arguments are not JSON"):
        arguments_to_payload([value], None)


def test_arguments_of_any_depth_are_refused_without_a_recursion_error() -> None:
    """Arguments nested a hundred thousand levels deep are refused without a RecursionError."""
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InvalidValue):
        to_plain(deep)
