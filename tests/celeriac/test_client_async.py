"""The client for event loops: the same requests as those of the other one, and waits that hold up nobody."""

from __future__ import annotations

import asyncio
import inspect
import re
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from celeriac.client import ApiError, AsyncClient, Client
from celeriac.client.calling import call, listing
from tests.api.calling import LEASE, Caller
from tests.celeriac.test_client import client_of, meanwhile, settle
from tests.celeriac.test_client_events import position
from tracking import jobs
from tracking.models import Claim, Fence
from tracking.states import Status

PAGE = Path(__file__).parents[2] / "docs" / "client.md"


def loop_with(caller: Caller, act: Callable[[AsyncClient], Coroutine[Any, Any, Any]], **options: Any) -> Any:
    """What `act` returns, with a client of this caller in an event loop."""

    async def run() -> Any:
        token = caller.headers["Authorization"].removeprefix("Bearer ")
        async with AsyncClient(caller.api.url, token, **options) as client:
            return await act(client)

    return asyncio.run(run())


async def hears(client: AsyncClient) -> None:
    """Return when the stream of those who have begun to wait is open."""
    await asyncio.sleep(0)  # they have begun now
    assert client.ears.hearing is not None
    await client.ears.hearing.begun.wait()
    assert client.ears.hearing.hears


def test_each_request_is_one_of_both_clients() -> None:
    """Both clients have every request, with the same parameters and words, and no public method of one kind alone."""
    shared = {name for name in dir(Client) if isinstance(inspect.getattr_static(Client, name), call | listing)}
    assert {"create", "wait", "events", "create_from", "wait_for_workflow", "upload"} <= shared
    own = {name for name in dir(AsyncClient) if not name.startswith("_")} - shared
    assert own == {"aclose", "ask", "ears", "iterate", "take"}
    for name in shared:
        assert getattr(Client, name).__doc__ == getattr(AsyncClient, name).__doc__
        assert inspect.signature(getattr(Client, name)) == inspect.signature(getattr(AsyncClient, name))


def test_a_job_is_created_read_and_listed(caller: Caller) -> None:
    """A job that was created in an event loop is read by its id, and found by iterating over pages."""

    async def act(client: AsyncClient) -> None:
        made = [await client.create("open", {"x": number}, priority=number) for number in range(3)]
        assert (await client.get(made[1].job_id)).priority == 1
        assert [job.id async for job in client.jobs(page_size=1)] == [each.job_id for each in reversed(made)]

    loop_with(caller, act)


def test_ten_wait_by_the_events_of_one_stream(caller: Caller) -> None:
    """Ten tasks that wait in a loop have one stream, are woken by events, and leave none open."""
    jobs = [caller.job("running") for _ in range(10)]
    streams: list[str] = []

    async def note(request: httpx2.Request) -> None:
        streams.extend([request.url.path] * (request.url.path == "/v1/events"))

    async def act(client: AsyncClient) -> None:
        client._http.event_hooks = {"request": [note]}
        waiting = [asyncio.create_task(client.wait(job.id, within=30)) for job in jobs]
        await hears(client)
        began = time.monotonic()
        for job in jobs:
            await asyncio.to_thread(settle, caller, job.id)
        assert {job.status for job in await asyncio.gather(*waiting)} == {Status.SUCCEEDED}
        assert time.monotonic() - began < 5
        assert client.ears.hearing is None

    loop_with(caller, act)
    assert streams == ["/v1/events"]


def test_a_wait_that_is_cancelled_leaves_nothing_behind(caller: Caller) -> None:
    """A task that is cancelled while it waits ends at once, and its stream with it."""
    job = caller.job("running")

    async def act(client: AsyncClient) -> None:
        waiting = asyncio.create_task(client.wait(job.id, within=30))
        await hears(client)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert client.ears.hearing is None
        assert asyncio.all_tasks() == {asyncio.current_task()}

    loop_with(caller, act)


def test_a_wait_has_a_deadline(caller: Caller) -> None:
    """A wait that is too long is an ApiError "too_late"."""
    job = caller.job("running")
    with pytest.raises(ApiError) as late:
        loop_with(caller, lambda client: client.wait(job.id, within=0.2))
    assert late.value.code == "too_late"


def test_events_come_in_the_loop(caller: Caller) -> None:
    """Events are iterated over asynchronously, and the stream ends with its reader."""
    start, job = position(caller), caller.job("succeeded")

    async def act(client: AsyncClient) -> list[str]:
        told = []
        async for event in client.events(after=start, job_id=job.id):
            told.append(event.name)
            if event.name == "job:completed":
                return told
        return []

    assert loop_with(caller, act) == ["job:created", "job:started", "job:completed"]


def test_files_go_up_and_come_down(caller: Caller, tmp_path: Path) -> None:
    """A file is uploaded from a loop, listed and removed, and what cannot be fetched leaves no part of it."""
    path = tmp_path / "words.csv"
    path.write_bytes(b"a,b\n" * 700_000)

    async def act(client: AsyncClient) -> None:
        kept = await client.upload(path)
        assert (kept.name, kept.size) == ("words.csv", path.stat().st_size)
        assert [file.id async for file in client.files()] == [kept.id]
        await client.remove_file(kept.id)
        with pytest.raises(ApiError):
            await client.download("/v1/exports/none.csv", tmp_path / "none.csv")

    loop_with(caller, act)
    assert list(tmp_path.iterdir()) == [path]


def test_a_create_is_repeated_with_its_key_while_the_server_is_busy(caller: Caller) -> None:
    """A create that meets 503 is sent again with the same idempotency key."""
    keys: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        keys.append(request.headers["Idempotency-Key"])
        problem = {"code": "unavailable", "title": "Away", "detail": "the database is away"}
        return httpx2.Response(503, json=problem, headers={"Retry-After": "0"})

    with pytest.raises(ApiError) as refused:
        loop_with(caller, lambda client: client.create("open"), transport=httpx2.MockTransport(answer), patience=1.2)
    assert refused.value.code == "unavailable"
    assert (len(keys), len(set(keys))) == (3, 1)


def test_the_examples_of_the_page_run(caller: Caller, capsys: pytest.CaptureFixture[str]) -> None:
    """The examples of the client's page run, one after the other, against an API."""
    token = caller.headers["Authorization"].removeprefix("Bearer ")
    known: dict[str, Any] = {"url": caller.api.url, "token": token}
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(examples) == 3
    with client_of(caller) as client, meanwhile(lambda: _settle_all(caller, client), after=1.5):
        for example in examples:
            exec(example, known)  # noqa: S102 - ours
    assert capsys.readouterr().out.count("succeeded") == 4


def _settle_all(caller: Caller, client: Client) -> None:
    deadline = time.monotonic() + 15
    settled = 0
    while settled < 4 and time.monotonic() < deadline:
        for job in client.jobs(status=[Status.QUEUED]):
            with caller.api.database.autocommit() as connection:
                jobs.claim(connection, [Claim(Fence(job.id, 1), uuid4(), "worker-1", LEASE)])
            settle(caller, job.id)
            settled += 1
        time.sleep(0.1)


def test_a_client_is_for_one_loop(caller: Caller) -> None:
    """A client that another event loop has used says so; its connections are of that loop."""
    client = AsyncClient(caller.api.url, caller.headers["Authorization"].removeprefix("Bearer "))
    with asyncio.Runner() as first, asyncio.Runner() as second:
        first.run(client.stats())
        with pytest.raises(RuntimeError, match="is for the event loop that used it first"):
            second.run(client.stats())
        first.run(client.stats())
        first.run(client.aclose())
