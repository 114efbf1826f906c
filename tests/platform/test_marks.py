"""JSON that looks like kombu's marks of typed values arrives as it was sent, whichever way it goes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.utils.json import dumps, loads
from sqlalchemy import select

from tasks.encoding import as_json, from_header, from_plain, to_header, to_headers, to_plain
from tests.api.calling import Caller
from tests.api.conftest import serving
from tests.live import LivePlatform
from tests.properties import UNHURRIED
from tests.servers import Servers, new_database
from tracking.schema import jobs


def mark(kind: Any, value: Any) -> dict[str, Any]:
    return {"__type__": kind, "__value__": value}


FORMS: dict[str, Any] = {
    "datetime": mark("datetime", "2026-01-02T03:04:05+00:00"),
    "a broken datetime": mark("datetime", 5),
    "uuid": mark("uuid", {"hex": "0" * 31 + "7"}),
    "decimal": mark("decimal", "1.50"),
    "bytes": mark("bytes", "text"),
    "base64": mark("base64", "AP8="),
    "our own": mark("object", [["a", 1]]),
    "our own, broken": mark("object", 7),
    "our own in headers": {"__object__": [["a", 1]]},
    "our own in headers, broken": {"__object__": 7},
    "unknown": mark("secret", 1),
    "no text": mark({"a": [1]}, None),
    "nested": mark("datetime", mark("uuid", mark("unknown", mark("bytes", "x")))),
    "among others": {"a": [1, mark("secret", 1), {"b": mark("datetime", "x")}], "c": {}},
    "with another key": {**mark("datetime", "x"), "more": mark("datetime", "y")},
    "half": {"__type__": "datetime"},
    "the other half": {"__value__": mark("date", "x")},
}

# What a producer does with each form; the id of each job whose result is the form.
SEND = """
import json
from celery import chain, chord, group
from tasks import app
t = app.tasks
echo, again = t["hostile.echo"], t["hostile.swap"]
DOORS = {
    "by position": lambda v: echo.delay(v),
    "by name": lambda v: echo.delay(payload=v),
    "by the name of the task": lambda v: app.send_task("hostile.echo", [v]),
    "a model": lambda v: t["hostile.open"].delay({"value": v}),
    "options by name": lambda v: t["hostile.named"].delay(**v),
    "a retry with arguments": lambda v: again.delay(v),
    "a result of a chain": lambda v: chain(echo.s(v), echo.s(), echo.s()).delay(),
    "a link": lambda v: echo.apply_async((0,), link=[echo.si(v)]),
    "the results of a chord": lambda v: chord([echo.s(v)], echo.s()).delay(),
    "a chord's body": lambda v: chord([echo.s(1)], echo.si(v)).delay(),
    "headers": lambda v: t["hostile.headers"].apply_async(headers={"given": v}, stamped_headers=["stamp"], stamp=v),
    "progress": lambda v: t["hostile.report"].delay(v),
    "metadata": lambda v: echo.apply_async(metadata={"given": v}),
    "retry by hand": lambda v: t["hostile.second"].delay(v),
}
forms = json.loads(stdin)
print(json.dumps({door: {form: send(value).id for form, value in forms.items()} for door, send in DOORS.items()}))
"""
ASK = """
import json
from celery.result import AsyncResult
from tasks import app
ids = json.loads(stdin)
print(json.dumps({each: AsyncResult(each, app=app).get(timeout=20) for each in ids}))
"""
AS_RESULT = (
    "by position",
    "by name",
    "by the name of the task",
    "a model",
    "options by name",
    "a retry with arguments",
    "a result of a chain",
    "a chord's body",
    "retry by hand",
)


class Sent:
    """All forms, sent through all doors."""

    def __init__(self, platform: LivePlatform, caller: Caller) -> None:
        self.platform, self.caller = platform, caller
        self.ids: dict[str, dict[str, str]] = json.loads(platform.run(SEND, json.dumps(FORMS)))
        for form, value in FORMS.items():
            for door, job_type, payload in (
                ("API", "hostile.echo", value),
                ("API, a model", "hostile.open", {"value": value}),
                ("API, options", "hostile.named", value),
            ):
                created = caller.create(job_type, payload=payload)
                assert created.status_code == 202, created.text
                self.ids.setdefault(door, {})[form] = created.json()["jobId"]
        for job_id in self.ids["retry by hand"].values():
            platform.wait_for(UUID(job_id), "failed")
            assert caller.post(f"/v1/jobs/{job_id}/retry", {"force": True}).status_code == 200

    def results(self, door: str) -> dict[str, Any]:
        """The results of the jobs, in their rows."""
        ended = {form: self.platform.wait_for(UUID(job_id)) for form, job_id in self.ids[door].items()}
        assert {job.error_message for job in ended.values()} == {None}
        return {form: job.result for form, job in ended.items()}

    def answer(self, door: str, form: str, path: str = "") -> Any:
        """What the API says of that job."""
        return self.caller.get(f"/v1/jobs/{self.ids[door][form]}{path}").json()


@pytest.fixture(scope="module")
def sent(servers: Servers, broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sent]:
    directory = tmp_path_factory.mktemp("marks")
    with ExitStack() as stack:
        url = stack.enter_context(new_database(servers))
        imports = {"CELERIAC_IMPORTS": "tests.hostile_handlers"}
        owner = {"CELERIAC_DEFAULT_ORGANIZATION": "acme", "CELERIAC_DEFAULT_USER": "u1"}
        options = {**imports, **owner, "CELERIAC_ORGANIZATION_LIMIT": "0"}
        platform = stack.enter_context(LivePlatform(url, broker_url, directory, **options))
        platform.start_worker()
        api = stack.enter_context(serving(url, broker_url, directory, **options))
        yield Sent(platform, api.caller("acme"))


@pytest.mark.parametrize("door", [*AS_RESULT, "API", "API, a model", "API, options"])
def test_it_arrives_as_it_was_sent(sent: Sent, door: str) -> None:
    """A handler gets a payload that looks like kombu's marks as it was sent."""
    assert sent.results(door) == FORMS


def test_headers_and_stamps_arrive_as_they_were_sent(sent: Sent) -> None:
    """Headers and stamps that look like marks arrive unchanged on both brokers."""
    assert sent.results("headers") == {form: [value, value] for form, value in FORMS.items()}


def test_the_results_of_a_chord_arrive_as_they_were_returned(sent: Sent) -> None:
    """Results that look like marks reach the body of a chord unchanged."""
    assert sent.results("the results of a chord") == {form: [value] for form, value in FORMS.items()}


def test_what_is_linked_gets_it(sent: Sent) -> None:
    """A linked task gets a result that looks like a mark unchanged."""
    sent.results("a link")
    with sent.platform.database.autocommit() as connection:
        found = {row.parent_id: row.id for row in connection.execute(select(jobs.c.parent_id, jobs.c.id))}
    linked = {form: found[UUID(job_id)] for form, job_id in sent.ids["a link"].items()}
    assert {form: sent.platform.wait_for(job_id).result for form, job_id in linked.items()} == FORMS


def test_reports_and_metadata_are_answered_as_they_were_given(sent: Sent) -> None:
    """Progress and metadata that look like marks are answered unchanged."""
    sent.results("progress")
    reported = {form: sent.answer("progress", form, "/status") for form in FORMS}
    assert {form: answer["progressDetail"]["detail"] for form, answer in reported.items()} == FORMS
    kept = {form: sent.answer("metadata", form)["metadata"] for form in FORMS}
    assert kept == {form: {"given": value} for form, value in FORMS.items()}


def test_the_api_answers_with_the_payload_that_it_was_sent(sent: Sent) -> None:
    """The API answers with payload and result unchanged when they look like marks."""
    sent.results("API")
    answers = {form: sent.answer("API", form) for form in FORMS}
    assert {form: (answer["payload"], answer["result"]) for form, answer in answers.items()} == {
        form: (value, value) for form, value in FORMS.items()
    }
    history = sent.caller.get("/v1/jobs/history", limit="100").json()["history"]
    finished = {each["jobId"]: each["payload"] for each in history}
    latest = list(FORMS)[-1]
    assert finished[sent.ids["API"][latest]] == FORMS[latest]


def test_celerys_own_result_is_what_was_returned(sent: Sent) -> None:
    """`AsyncResult.get()` returns a result that looks like a mark unchanged."""
    ids = sent.ids["by position"]
    got = json.loads(sent.platform.run(ASK, json.dumps(list(ids.values()))))
    assert {form: got[job_id] for form, job_id in ids.items()} == FORMS


KEYS = st.sampled_from(["__type__", "__value__", "__object__", "a"])
SCALARS = st.none() | st.integers(-5, 5) | st.sampled_from(["object", "datetime", "uuid", "x"])


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3) | st.builds(mark, inner, inner)


MARKS = st.recursive(SCALARS, _nested, max_leaves=12)
VALUES = SCALARS | st.just(datetime(2026, 1, 2, tzinfo=UTC)) | st.just(UUID(int=7)) | st.just(b"\xff")
TYPED = st.recursive(VALUES, _nested, max_leaves=12)


@UNHURRIED
@given(TYPED)
def test_every_value_comes_back_from_its_plain_form(value: Any) -> None:
    """Both we and kombu read every value back from its plain form."""
    plain = to_plain(value)
    assert from_plain(plain) == value
    assert loads(json.dumps(plain)) == value


@UNHURRIED
@given(MARKS)
def test_json_is_shown_as_it_was_sent(value: Any) -> None:
    """The row shows JSON that looks like a mark as it was sent."""
    assert as_json(to_plain(value)) == value


@UNHURRIED
@given(TYPED, st.integers(0, 3))
def test_a_header_comes_back_however_often_a_broker_decodes_and_encodes_it(value: Any, times: int) -> None:
    """A header survives any number of decodings by a broker."""
    header = to_header(value)
    for _ in range(times):
        header = loads(dumps(header))
    assert from_header(header) == value


def test_the_names_of_headers_stay_as_they_are() -> None:
    """Names of headers that look like marks stay as they are."""
    assert to_headers(mark("datetime", "x")) == mark("datetime", "x")
    assert to_headers([1]) == [1]
