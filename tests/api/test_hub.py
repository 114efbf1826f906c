"""The hub: what a slow client loses, and what it is told; a quiet stream, and one that is over."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from uuid import uuid4

import pytest
from starlette.types import Message as AsgiMessage

from api.auth import Principal
from api.live import hub as hubs
from api.live import sse
from api.live.hub import Hub, Interest, Stream
from api.live.messages import Message, messages
from api.live.sse import EventStream
from api.problems import Code, Problem
from tracking.models import Scope
from tracking.reads.tail import Happening, Narrowed
from tracking.states import Event, Status

EVERYTHING = Interest(Scope("acme", None), Narrowed())
JOB = uuid4()


def told(*ids: int, **changes: object) -> list[Message]:
    one = Happening(1, JOB, "acme", "u1", None, "t", Event.CREATED, Status.QUEUED, 0, "u1", {"priority": 1})
    return messages([replace(one, id=number, **changes) for number in ids])  # type: ignore[arg-type]


def taken(stream: Stream) -> tuple[bool, list[int]]:
    """Whether the stream says that some was left out, and the ids of what it sends next."""
    found = asyncio.run(stream.take(0.01))
    return found.resync, [message.id for chunk in found.chunks for message in chunk.messages]


def joined(hub: Hub, interest: Interest = EVERYTHING, user: str = "u1") -> Stream:
    return hub.join(interest, Principal("acme", user, frozenset()))


def test_a_slow_client_is_told_once_that_some_was_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that keeps more than it may forgets it all, says so once, and goes on with what follows."""
    monkeypatch.setattr(hubs, "MOST_MESSAGES", 3)
    hub = Hub(10, position=0)
    slow, quick = joined(hub), joined(hub)
    hub.publish(told(1, 2), 2)
    assert taken(quick) == (False, [1, 2])
    hub.publish(told(3, 4), 4)
    hub.publish(told(5), 5)
    assert taken(slow) == (True, [5])
    assert taken(quick) == (False, [3, 4, 5])
    hub.publish(told(6), 6)
    assert taken(slow) == (False, [6])


def test_bytes_are_bounded_as_messages_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream keeps no more bytes than it may, however few messages they are."""
    monkeypatch.setattr(hubs, "MOST_BYTES", 300)
    hub = Hub(10, position=0)
    stream = joined(hub)
    for number in (1, 2):
        hub.publish(told(number, job_type="t" * 200), number)
    assert taken(stream) == (True, [])


def test_a_burst_is_no_slowness(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that has been sent everything hears all of what happens at once, however much that is."""
    monkeypatch.setattr(hubs, "MOST_BYTES", 100)
    monkeypatch.setattr(hubs, "MOST_MESSAGES", 3)
    hub = Hub(10, position=0)
    stream = joined(hub)
    for first in (1, 101):
        burst = range(first, first + 100)
        hub.publish(told(*burst, job_type="t" * 200), burst[-1])
        assert taken(stream) == (False, list(burst))


def test_streams_share_what_they_send() -> None:
    """Streams with the same interest send the same bytes, which are made once."""
    hub = Hub(10, position=0)
    streams = [joined(hub, user=f"u{number}") for number in range(3)]
    hub.publish(told(1, 2), 2)
    chunks = [asyncio.run(stream.take(0.01)).chunks[0] for stream in streams]
    assert chunks[0] is chunks[1] is chunks[2]
    assert chunks[0].sse is chunks[1].sse


def test_a_stream_leaves_out_what_its_client_has_had() -> None:
    """A client that was told more by another process does not hear it again, also not within one look."""
    hub = Hub(10, position=5)
    stream = joined(hub)
    stream.start_after(7)
    hub.publish(told(6, 7, 8), 8)
    assert taken(stream) == (False, [8])


def test_the_streams_of_a_process_and_of_a_user_are_bounded() -> None:
    """A process has so many streams and a user so many of them; one that is closed makes room, once."""
    hub = Hub(hubs.EACH_USERS + 1, position=0)
    streams = [joined(hub) for _ in range(hubs.EACH_USERS)]
    assert _refused(hub, "u1") is Code.TOO_MANY_STREAMS
    joined(hub, user="u2")
    assert _refused(hub, "u3") is Code.OVERLOADED
    hub.leave(streams[0])
    hub.leave(streams[0])
    assert len(hub) == hubs.EACH_USERS
    joined(hub)
    assert _refused(hub, "u3") is Code.OVERLOADED


def _refused(hub: Hub, user: str) -> Code:
    with pytest.raises(Problem) as refused:
        joined(hub, user=user)
    return refused.value.code


def test_nothing_is_kept_of_streams_that_are_closed() -> None:
    """A hub whose streams are all closed holds nothing of them."""
    hub = Hub(10, position=0)
    for stream in [joined(hub), joined(hub, replace(EVERYTHING, narrowed=Narrowed("t")))]:
        hub.leave(stream)
    assert (len(hub), hub._streams, dict(hub._users)) == (0, {}, {})


def test_without_a_reader_no_stream_begins() -> None:
    """A stream that would hear nothing is refused, and so is one of a process that stops."""
    assert _refused(Hub(10), "u1") is Code.DATABASE_UNAVAILABLE
    hub = Hub(10, position=0)
    hub.close()
    assert _refused(hub, "u1") is Code.OVERLOADED


def test_a_restored_database_is_told_of() -> None:
    """When the numbers of the history go back, every stream is told to read anew, and hears what then comes."""
    hub = Hub(10, position=100)
    stream = joined(hub)
    hub.restart()
    assert hub.reached(stream) is None
    hub.publish(told(3), 3)
    assert taken(stream) == (True, [3])


def body(hub: Hub, stream: Stream, until: bytes, *, expires: float = math.inf, missed: object = ()) -> bytes:
    """What the answer sends until this has come, or it is over."""
    sent: list[bytes] = []
    has_come = asyncio.Event()

    async def receive() -> AsgiMessage:
        await has_come.wait()
        return {"type": "http.disconnect"}

    async def send(message: AsgiMessage) -> None:
        sent.append(message.get("body", b""))
        if until in b"".join(sent):
            has_come.set()

    async def answer() -> None:
        async with asyncio.timeout(5):
            await EventStream(hub, stream, _chunks(missed), expires=expires)({"type": "http"}, receive, send)

    asyncio.run(answer())
    return b"".join(sent)


def _chunks(missed: object) -> Sequence[hubs.Chunk] | None:
    return None if missed is None else ()


def test_a_quiet_stream_shows_that_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream on which nothing happens has a heartbeat, with the id up to which nothing happened."""
    monkeypatch.setattr(sse, "HEARTBEAT", 0.02)
    hub = Hub(10, position=4)
    stream = joined(hub)
    hub.publish([], 9)
    assert b": ping\nid: 9\n\n" in body(hub, stream, b": ping")
    assert len(hub) == 0, "it is forgotten when its client has gone"


def test_the_beginning_says_where_the_client_stands() -> None:
    """A stream begins with when to come back, a resync if one is due, and the id from which on it tells."""
    hub = Hub(10, position=4)
    beginning = body(hub, joined(hub), b"id: 4", missed=None)
    assert beginning.startswith(b"retry: ")
    assert beginning.endswith(b"event: resync\ndata: {}\n\nid: 4\n\n")


def test_a_stream_is_over_with_its_rights() -> None:
    """A stream whose rights are over ends by itself."""
    hub = Hub(10, position=4)
    assert body(hub, joined(hub), b"never", expires=0.0).endswith(b"id: 4\n\n")
