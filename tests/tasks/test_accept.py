"""A job that is asked for by a payload is the one that the same call of Celery's would be."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, date, datetime
from typing import Any
from uuid import uuid4

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.schemas import requests
from tasks import BaseModel
from tasks.app import JobApp
from tasks.calls import new_job
from tests.properties import UNHURRIED
from tests.tracking.test_values import JSON, STORABLE
from tracking.errors import InvalidValue
from tracking.models import NewJob, Owner, Wishes

app = JobApp("accepting", set_as_current=False)
OWNER = Owner("acme", "u1")
OF_A_PARENT = {"parent_id", "root_id", "project_id", "joins"}
MARKS = st.builds(lambda value: {"__type__": "object", "__value__": value}, JSON)
OBJECTS = st.dictionaries(STORABLE, JSON | MARKS, max_size=4)


class Words(BaseModel):
    """A payload with a default."""

    text: Any = None
    count: int = 1


@app.task(name="of_a_model", shared=False)
def of_a_model(payload: Words) -> None:
    """Takes a typed payload."""


@app.task(name="of_an_object", shared=False, max_retries=2, soft_time_limit=5)
def of_an_object(payload: dict[str, Any]) -> None:
    """Takes any object, and has options of its own."""


@app.task(name="of_arguments", shared=False)
def of_arguments(day: date, *, text: Any = None) -> None:
    """Takes arguments by name."""


def _accepted(task: Any, payload: dict[str, Any], owner: Owner = OWNER, **wishes: Any) -> NewJob:
    job: NewJob = task.accept(payload, owner, **wishes)
    return job


def _called(task: Any, *args: Any, **kwargs: Any) -> NewJob:
    return new_job(app, task.name, args, kwargs, task_id=None, options={"organization": "acme", "user": "u1"})


def _kept(job: NewJob) -> tuple[Any, ...]:
    """All of it but its id, and what a call has from the job in which it is made."""
    return tuple(getattr(job, each.name) for each in fields(job) if each.name not in OF_A_PARENT | {"id"})


@UNHURRIED
@given(OBJECTS)
def test_an_object_is_kept_as_from_a_call(payload: dict[str, Any]) -> None:
    """A payload over HTTP that looks like a call or a mark makes the same row as a Python call."""
    assert _kept(_accepted(of_an_object, payload)) == _kept(_called(of_an_object, payload))
    call = {"args": [payload], "kwargs": {}}
    assert _kept(_accepted(of_an_object, call)) == _kept(_called(of_an_object, call))


@UNHURRIED
@given(JSON | MARKS)
def test_a_typed_payload_is_kept_as_from_a_call(text: Any) -> None:
    """A typed payload over HTTP makes the same row as a Python call, with its defaults."""
    job = _accepted(of_a_model, {"text": text})
    assert job.payload["count"] == 1
    assert _kept(job) == _kept(_called(of_a_model, {"text": text}))


@UNHURRIED
@given(JSON | MARKS)
def test_arguments_by_name_are_kept_as_from_a_call(text: Any) -> None:
    """Arguments over HTTP make the same row as a Python call, with dates made of texts."""
    job = _accepted(of_arguments, {"day": "2026-01-31", "text": text})
    assert _kept(job) == _kept(_called(of_arguments, day=date(2026, 1, 31), text=text))


def test_what_is_unsaid_is_as_the_handler_says() -> None:
    """What a request does not say is as the handler declares it."""
    plain = _accepted(of_an_object, {"a": 1}, priority=None, max_retries=None)
    assert (plain.priority, plain.max_retries, plain.delivery) == (0, 2, {"soft_time_limit": 5})
    due, needed = datetime(2030, 1, 1, tzinfo=UTC), uuid4()
    wanted = _accepted(of_an_object, {}, priority=7, max_retries=9, scheduled_at=due, depends_on=[needed, needed])
    assert (wanted.priority, wanted.max_retries, wanted.scheduled_at) == (7, 9, due)
    assert wanted.depends_on == (needed,)


def test_every_wish_is_a_field_of_a_new_job_and_every_field_of_a_request_is_a_wish() -> None:
    """A field of a create request has one name from the request to the row."""
    wishes = Wishes.__annotations__.keys()
    assert wishes <= {each.name for each in fields(NewJob)}
    assert requests.NewJob.model_fields.keys() - {"job_type", "payload"} <= wishes


def test_a_wrong_payload_is_refused_before_anything_else() -> None:
    """A wrong payload raises pydantic's error, and an impossible owner InvalidValue."""
    with pytest.raises(pydantic.ValidationError, match="count"):
        _accepted(of_a_model, {"count": "x"})
    with pytest.raises(InvalidValue, match="organization"):
        _accepted(of_a_model, {}, Owner("", "u1"))
