"""The client follows live events: across lost streams, restarted servers and expired tokens."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from sqlalchemy import text

from celeriac.client import ApiError, Client, Event
from celeriac.client.streaming import Stream
from tests.api.calling import Api, Caller
from tests.celeriac.test_client import client_of, meanwhile
from tests.live import eventually

PAGE = Path(__file__).parents[2] / "docs" / "events.md"


def position(caller: Caller) -> int:
    """The id of the last event that there is."""
    with caller.api.database.autocommit() as connection:
        return int(connection.execute(text("SELECT coalesce(max(id), 0) FROM history")).scalar_one())


def test_events_are_followed_from_where_one_wants(caller: Caller) -> None:
    """The client tells what happens behind an id, narrowed to a type, a project or a job, each event with its id."""
    start = position(caller)
    first, second = caller.job("succeeded"), caller.job(job_type="guarded", project_id="p1")
    with client_of(caller) as client:
        told = list(islice(client.events(after=start), 4))
        assert [event.name for event in told] == ["job:created", "job:started", "job:completed", "job:created"]
        assert [event.id for event in told] == sorted(
            entry.id for job in (first, second) for entry in caller.timeline(job.id)
        )
        narrowed: list[dict[str, Any]] = [{"job_id": second.id}, {"job_type": "guarded"}, {"project_id": "p1"}]
        for query in narrowed:
            assert next(iter(client.events(after=start, **query))).data["jobId"] == str(second.id)


class Cut(httpx2.SyncByteStream):
    """A stream that breaks off after each part with an event."""

    def __init__(self, whole: httpx2.SyncByteStream) -> None:
        self._whole = whole

    def __iter__(self) -> Iterator[bytes]:
        for part in self._whole:
            yield part
            if b"event: job" in part:
                raise httpx2.ReadError("broken off")

    def close(self) -> None:
        self._whole.close()


class Cutting(httpx2.HTTPTransport):
    """A network that loses streams."""

    opened = 0

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = super().handle_request(request)
        assert isinstance(response.stream, httpx2.SyncByteStream)
        self.opened += 1
        return httpx2.Response(response.status_code, headers=response.headers, stream=Cut(response.stream))


def test_events_go_on_when_their_stream_is_lost(caller: Caller) -> None:
    """A client whose stream breaks off again and again has every event once, in their order."""
    start, network = position(caller), Cutting()
    jobs = [caller.job("succeeded")]
    with client_of(caller) as client:
        client._http = httpx2.Client(transport=network, base_url=caller.api.url, headers=caller.headers)
        events = client.events(after=start)
        told = list(islice(events, 3))
        for _ in range(3):
            jobs.append(caller.job("succeeded"))
            told += islice(events, 3)
        events.close()  # type: ignore[attr-defined]  # of a generator
    ids = [entry.id for job in jobs for entry in caller.timeline(job.id)]
    assert [event.id for event in told] == sorted(ids)
    assert network.opened >= 4


def test_a_token_that_expires_ends_the_events(api: Api, caller: Caller) -> None:
    """A client is told that its token has expired, when it would have to open the stream again."""
    token = api.token(sub=caller.user, org=caller.organization, exp=int(time.time()) + 2)
    with Client(api.url, token) as client, pytest.raises(ApiError) as refused:
        list(client.events())
    assert refused.value.code == "token_expired"


def test_events_of_nobody_are_refused(caller: Caller) -> None:
    """Events without the permission, or of a job that is not there, are refused at once."""
    with client_of(caller.but(permissions=())) as client, pytest.raises(ApiError, match="permission_missing"):
        next(iter(client.events()))
    with client_of(caller) as client, pytest.raises(ApiError, match="job_not_found"):
        next(iter(client.events(job_id=uuid4())))


def test_what_is_no_stream_of_events_is_said_to_be_none() -> None:
    """An answer that is no stream of a Celeriac API is an error, and no endless wait."""
    answers = httpx2.MockTransport(lambda _: httpx2.Response(200, text="id: x\n\n"))
    with Client("http://127.0.0.1:1", "t") as client:
        client._http = httpx2.Client(transport=answers, base_url="http://127.0.0.1:1")
        with pytest.raises(ApiError) as refused:
            next(iter(client.events()))
    assert refused.value.code == "unknown_answer"


def test_a_stream_is_read_as_the_standard_has_it() -> None:
    """Comments are passed over, an id without data is remembered, and an event ends with an empty line."""
    stream = Stream(None)
    held = ["event: job:held", 'data: {"a":', "data: 1}", "id: 8", ""]
    lines = [": ping", "id: 7", "", *held, "retry: 5", "", "data: {}"]
    assert [event for event in map(stream.read, lines) if event] == [Event(8, "job:held", {"a": 1})]
    assert stream.last == 8


def test_the_example_of_the_documentation_runs(caller: Caller) -> None:
    """The Python example of docs/events.md prints the events of its type."""
    [example] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    known = {"url": caller.api.url, "token": caller.headers["Authorization"].removeprefix("Bearer ")}

    class Enough(Exception):
        """One event was printed."""

    printed_one = threading.Event()

    def show(*words: object) -> None:
        printed_one.set()
        raise Enough(words)

    def create() -> None:
        while not printed_one.wait(0.2):  # what comes before the stream is open is not told
            caller.job(job_type="export_report")

    with meanwhile(create), pytest.raises(Enough) as printed:
        exec(compile(example, str(PAGE), "exec"), {**known, "print": show})  # noqa: S102 - our own page
    assert printed.value.args[0][1] == "job:created"


def test_a_client_that_is_closed_leaves_no_thread_that_fails(caller: Caller) -> None:
    """Who waits with a client that somebody closes is told by an error, and its thread of events ends in silence."""
    client, job, told = client_of(caller), caller.job(), []

    def wait() -> None:
        with pytest.raises(RuntimeError, match="closed") as raised:
            client.wait(job.id, within=30)
        told.append(raised.value)

    waiting = threading.Thread(target=wait)
    waiting.start()
    eventually(lambda: client.ears.hearing is not None and client.ears.hearing.hears, what="a stream")
    client.close()
    waiting.join(30)
    wait()
    assert len(told) == 2
