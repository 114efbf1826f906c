"""The doors by which values come in: what a caller sends is refused, what a handler reports is made to fit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st

from tasks import Job, current
from tasks.attempt.job import _percent, _share_of_steps
from tasks.calls import new_job
from tasks.delivery import RESERVED_HEADERS
from tasks.progress import Reporter
from tests.properties import UNHURRIED
from tests.servers import Servers
from tests.tracked import ACME, Tracked, empty, own_pool
from tracking import jobs
from tracking.db import Database
from tracking.errors import InvalidValue
from tracking.models import Attempt, Fence, NewJob, Owner, Progress
from tracking.reads import lists
from tracking.reads.answers import Filters
from tracking.values import (
    DETAIL_BYTES,
    MAX_DEPTH,
    MESSAGE_BYTES,
    check_json,
    storable_count,
    storable_json,
    storable_text,
)

app: Any = Celery("doors", task_cls=Job, set_as_current=False)
OWNER = {"organization": "acme", "user": "u1"}
NAN, INF = float("nan"), float("inf")
HOSTILE_TEXTS = ["a\x00b", "\ud800", "x" * 3_000_000, "", 5]
HOSTILE_SECONDS = [NAN, INF, -INF, 3e11, -3e11, 10**400, "x", True, [], Decimal("NaN"), Decimal("sNaN")]
HOSTILE_TIMES = ["x", "9999-12-31T23:59:59-10:00", "0001-01-01T00:00:00+10:00", datetime(1, 1, 1, tzinfo=UTC), NAN, []]
CIRCULAR: list[Any] = []
CIRCULAR.extend([CIRCULAR, CIRCULAR])


class Strange:
    def __str__(self) -> str:
        raise RuntimeError

    def __floor__(self) -> int:
        raise RuntimeError


HOSTILE_VALUES: list[Any] = [
    NAN, INF, 10**400, -(2**60), "a\x00b", "\ud800", "x" * 3_000_000, CIRCULAR, {"a": {1, 2}}, b"\xff\x00",
    datetime(2026, 1, 1, tzinfo=UTC), date(2026, 1, 1), Decimal("1.10"), uuid4(), timedelta(1), object(), Strange(),
    {1: "a", ("b",): 2, "\x00": NAN}, [[NAN] * 100] * 10_000, {"x" * 3_000_000: 1},
]  # fmt: skip


def _job(**options: Any) -> NewJob:
    return new_job(app, "count_words", None, {}, task_id=None, options={**OWNER, **options})


@pytest.mark.parametrize("option", ["organization", "user", "project", "message", "idempotency_key", "group_id"])
@pytest.mark.parametrize("value", HOSTILE_TEXTS, ids=["nul", "surrogate", "long", "empty", "number"])
def test_hostile_text_is_refused_by_name(option: str, value: Any) -> None:
    """Hostile text in an option is refused by its name."""
    if value == "" and option in ("organization", "user", "project", "message"):
        return
    with pytest.raises(InvalidValue, match=option):
        _job(**{option: value})


@pytest.mark.parametrize("option", ["countdown", "expires", "time_limit", "soft_time_limit"])
@pytest.mark.parametrize("value", HOSTILE_SECONDS, ids=lambda value: str(value)[:12])
def test_hostile_seconds_are_refused_by_name(option: str, value: Any) -> None:
    """Hostile seconds in an option are refused by its name."""
    if value == []:
        return  # no value, as in Celery
    with pytest.raises(InvalidValue, match=option):
        _job(**{option: value})


@pytest.mark.parametrize("option", ["eta", "expires"])
@pytest.mark.parametrize("value", HOSTILE_TIMES, ids=str)
def test_a_hostile_time_is_refused_by_name(option: str, value: Any) -> None:
    """A time that is none, or out of range, is refused by its option's name."""
    if value == [] and option == "expires":
        return
    with pytest.raises(InvalidValue, match=option):
        _job(**{option: value})


@pytest.mark.parametrize(
    "name", ["id", "task", "dispatch", "retries", "root_id", "timelimit", "stamps", "args", "lang"]
)
def test_a_reserved_header_is_refused(name: str) -> None:
    """A reserved name is refused as a header and as a stamp."""
    assert name in RESERVED_HEADERS
    with pytest.raises(InvalidValue, match=f"headers must not set '{name}'"):
        _job(headers={name: "other"})
    with pytest.raises(InvalidValue, match=f"the stamps must not set '{name}'"):
        _job(**{name: "other"}, stamped_headers=[name])


@pytest.mark.parametrize(
    "headers",
    [{"k" * 300: 1}, {"a": {"k" * 300: 1}}, {"": 1}, {"a": NAN}, {"a": "b" * 40_000}, {"a\x00": 1}, [1], {"a": 2**64}],
    ids=lambda headers: str(headers)[:12],
)
def test_headers_that_a_broker_cannot_send_are_refused(headers: Any) -> None:
    """Headers that a broker cannot send are refused, whichever broker is used."""
    with pytest.raises(InvalidValue, match="headers"):
        _job(headers=headers)


@pytest.mark.parametrize("value", ["q" * 256, "é" * 128, "a\x00"], ids=["long", "bytes", "nul"])
def test_the_name_of_a_queue_fits_into_a_message(value: str) -> None:
    """The name of a queue has at most 255 bytes."""
    with pytest.raises(InvalidValue):
        _job(queue=value)


def test_what_is_within_the_limits_passes() -> None:
    """Options within the limits are kept unchanged."""
    due = datetime(2999, 12, 31, tzinfo=UTC)
    job = _job(headers={"trace": "x"}, eta=due, expires=3600.0, soft_time_limit=5)
    assert job.scheduled_at == due
    assert job.delivery["headers"] == {"trace": "x"}
    assert _job(countdown=2.5).delay == timedelta(seconds=2.5)


@pytest.mark.parametrize(
    "value", [NAN, "x", None, Strange(), [], Decimal("NaN")], ids=lambda value: type(value).__name__
)
def test_a_percent_that_is_no_number_says_nothing(value: Any) -> None:
    """A percentage that is no number is ignored and fails no job."""
    assert _percent(value) is None


def test_a_percent_out_of_range_is_the_nearest_one() -> None:
    """A percentage out of range is the nearest one, and 100 is kept for success."""
    assert [_percent(value) for value in (-INF, -1, 0, 55.9, 100, 10**400, INF)] == [0, 0, 0, 55, 99, 99, 99]


@pytest.mark.parametrize("meta", [*HOSTILE_VALUES, {"current": NAN, "total": 0}, {"current": 1, "total": 4}])
def test_the_meta_of_a_state_is_made_to_fit_as_any_report(meta: Any) -> None:
    """The meta of `update_state` is stored as a report's detail would be."""
    written: list[Progress] = []

    def write(progress: Progress) -> bool:
        written.append(progress)
        return True

    attempt = Attempt(Fence(uuid4(), 1), 1, Owner("acme", "u1"), None, "count_words", 0, 3, None, None)
    task: Any = app.task(name="states", shared=False)(_job)
    task.push_request()
    try:
        current.keep(task.request, current.Running(attempt, Reporter(attempt, write), 0.0))
        task.update_state(meta=meta)
    finally:
        task.pop_request()
    assert [progress.detail for progress in written] == [storable_json(meta)]
    assert [progress.percent for progress in written] == [25 if meta == {"current": 1, "total": 4} else None]


def test_a_step_of_none_has_no_share() -> None:
    """A step of 0, or of what is no number, has no percentage."""
    assert [_share_of_steps(1, of) for of in (0, None, "x")] == [None, None, None]
    assert storable_count(-5) == 0
    assert storable_count(2**70) == 2**31 - 1


PYTHON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=50)
    | st.binary(max_size=50)
    | st.datetimes()
    | st.decimals()
    | st.uuids()
    | st.timedeltas()
    | st.builds(Strange),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(), max_size=5) | st.integers(), inner, max_size=4)
        | st.tuples(inner, inner)
        | st.frozensets(st.integers() | st.floats(), max_size=4)
    ),
    max_leaves=20,
)


@UNHURRIED
@given(PYTHON, st.integers(20, 500))
def test_whatever_is_reported_becomes_bounded_json(value: Any, limit: int) -> None:
    """Any reported value becomes bounded JSON, and a valid one stays the same."""
    made = storable_json(value, max_bytes=limit)
    check_json(made, "detail", max_bytes=limit)
    assert storable_json(made, max_bytes=limit) is made


@pytest.mark.parametrize("value", HOSTILE_VALUES, ids=lambda value: type(value).__name__)
def test_a_hostile_report_becomes_bounded_json(value: Any) -> None:
    """A hostile report becomes JSON of the allowed size."""
    check_json(storable_json(value), "detail", max_bytes=DETAIL_BYTES)


def test_json_of_any_depth_is_cut_with_a_mark() -> None:
    """A report nested a thousand levels deep is cut with a mark."""
    value: Any = NAN
    for _ in range(1000):
        value = [value]
    made = storable_json(value)
    assert "too deep" in json.dumps(made)
    check_json(made, "detail")
    assert json.dumps(made).count("[") == MAX_DEPTH


@pytest.fixture(scope="module")
def pool(servers: Servers) -> Iterator[Database]:
    """A database of this module's."""
    with own_pool(servers) as pool:
        yield pool
        empty(pool)


@pytest.mark.parametrize("value", HOSTILE_VALUES, ids=lambda value: type(value).__name__)
def test_a_hostile_report_is_stored_and_read_again(pool: Database, value: Any) -> None:
    """A hostile report is stored, and read again by all reads."""
    with pool.autocommit() as connection:
        tracked = Tracked(connection)
        job = tracked.start(tracked.submit())
        news = Progress(
            job.fence, job.attempt, 5, storable_text(value), storable_json(value), storable_count(value), 2**31 - 1
        )
        assert jobs.report(connection, news)
        found = lists.page(connection, ACME, Filters(), number=1, size=1).jobs[0]
        assert found.id == job.id
        assert found.progress_detail == json.loads(json.dumps(storable_json(value)))
        assert len((found.message or "").encode()) <= MESSAGE_BYTES
