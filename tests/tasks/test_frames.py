"""RabbitMQ's frames are read whole and in their order, however they come, and none is left where nobody looks."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from typing import Any

import pytest
from amqp.exceptions import RecoverableConnectionError, UnexpectedFrame
from hypothesis import given
from hypothesis import strategies as st
from kombu.asynchronous import Hub
from kombu.asynchronous.timer import Timer

from tasks.broker.frames import AHEAD, AT_ONCE, END, HEAD, IN_A_ROW, Frame, Frames, reader_of

FRAMES = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 9), st.binary(max_size=300)), min_size=1, max_size=12)


class Line:
    """A transport, and the broker's end of its socket."""

    def __init__(self) -> None:
        self.broker, self.ours = socket.socketpair()
        self.ours.settimeout(0)
        self.frames = Frames("127.0.0.1")
        self.frames.sock, self.frames.connected = self.ours, True
        self.frames._setup_transport()  # type: ignore[attr-defined]  # missing in the stubs

    def take(self) -> list[Frame]:
        """All frames that are here."""
        found = []
        while True:
            try:
                found.append(self.frames.read_frame())
            except TimeoutError:
                return found

    def close(self) -> None:
        self.broker.close()
        self.ours.close()


@pytest.fixture
def line() -> Any:
    """One that is closed after the test."""
    line = Line()
    yield line
    line.close()


def sent(frame: Frame) -> bytes:
    """A frame as it is sent."""
    kind, channel, payload = frame
    return HEAD.pack(kind, channel, len(payload)) + payload + END


@given(FRAMES, st.lists(st.tuples(st.integers(1, 200), st.booleans())))
def test_frames_are_whole_however_they_come(frames: list[Frame], pieces: list[tuple[int, bool]]) -> None:
    """A stream that is cut anywhere gives the frames that were sent, in their order, read ahead or not."""
    line, stream, found = Line(), b"".join(map(sent, frames)), list[Frame]()
    try:
        for size, reads_ahead in [*pieces, (len(stream), True)]:
            line.broker.sendall(stream[:size])
            stream = stream[size:]
            line.frames.reads_ahead = reads_ahead
            found += line.take()
    finally:
        line.close()
    assert found == frames


def test_a_large_frame_is_whole(line: Line) -> None:
    """A frame that is larger than what is read at once is one frame."""
    frame = (3, 1, bytes(range(256)) * (AHEAD // 128))
    stream, found = sent(frame), list[Frame]()
    line.frames.reads_ahead = True
    for at in range(0, len(stream), AHEAD // 3):
        line.broker.sendall(stream[at : at + AHEAD // 3])
        found += line.take()
    assert found == [frame]


def test_what_is_no_frame_is_refused(line: Line) -> None:
    """A frame without its last octet is an error, as in amqp."""
    line.broker.sendall(sent((1, 0, b"abc"))[:-1] + b"?")
    with pytest.raises(UnexpectedFrame):
        line.frames.read_frame()


def test_the_end_of_the_connection_is_an_error(line: Line) -> None:
    """A server that closes it amid a frame ends it: it is not connected any more."""
    line.broker.sendall(sent((1, 0, b"abc"))[:-1])
    line.broker.close()
    with pytest.raises(OSError, match="closed"):
        line.frames.read_frame()
    assert not line.frames.connected


class Reading:
    """A connection whose messages are single frames, and its event loop."""

    def __init__(self, line: Line) -> None:
        self.transport, self.connected = line.frames, True
        self.heard: list[bytes] = []
        self.fails_at = b""
        self.read = reader_of(self)

    def drain_events(self, timeout: float) -> None:
        assert timeout == 0
        _, _, payload = self.transport.read_frame()
        self.heard.append(payload)
        if payload == self.fails_at:
            raise TimeoutError("of something else that the message has made wait")

    def turns(self, wanted: int) -> int:
        """In how many turns of a loop so many frames are heard of; the loop hears of nothing else."""
        loop, turns = Hub(timer=Timer()), 0
        loop.add_reader(self.transport.sock, self.read, loop)
        while len(self.heard) < wanted and turns < 10 * wanted:
            loop.run_once()
            turns += 1
        loop.close()
        return turns


def test_an_event_loop_leaves_no_frame_behind(line: Line) -> None:
    """What was read ahead is dealt with although the kernel has nothing to say any more, a few frames in a turn."""
    reading = Reading(line)
    wanted = [str(number).encode() for number in range(10 * IN_A_ROW)]
    line.broker.sendall(b"".join(sent((1, 0, payload)) for payload in wanted) + sent((1, 0, b"half"))[:-2])
    began = time.monotonic()
    turns = reading.turns(len(wanted))
    assert (reading.heard, turns) == (wanted, 10)
    assert time.monotonic() - began < 5  # a wait of the loop for nothing takes a second
    assert not line.frames.reads_ahead


def test_a_time_out_of_something_else_leaves_no_frame_behind(line: Line) -> None:
    """A time-out that a message itself brings about is none of the connection's: the frames after it are read."""
    reading = Reading(line)
    reading.fails_at = b"2"
    line.broker.sendall(b"".join(sent((1, 0, str(number).encode())) for number in range(9)))
    reading.turns(9)
    assert reading.heard == [str(number).encode() for number in range(9)]


def test_a_connection_that_is_gone_is_not_read(line: Line) -> None:
    """The event loop hears that a connection is gone."""
    reading = Reading(line)
    reading.connected = False
    with pytest.raises(RecoverableConnectionError):
        reading.read(None)


def arrived(line: Line) -> bytes:
    """What has come to the broker."""
    line.broker.settimeout(0)
    try:
        return line.broker.recv(10 * AT_ONCE)
    except BlockingIOError:
        return b""


def test_what_is_written_together_goes_out_at_the_end(line: Line) -> None:
    """Frames wait for each other, keep their order, and are sent when they are many, or when somebody asks for it."""
    written = [sent((1, 0, str(number).encode())) for number in range(5)]
    with line.frames.together():
        for frame in written[:2]:
            line.frames.write(memoryview(frame))
        assert (arrived(line), line.frames.holds_frames) == (b"", True)
        line.frames.send_held()
        assert (arrived(line), line.frames.holds_frames) == (b"".join(written[:2]), False)
        line.frames.write(written[2])
    assert arrived(line) == written[2]
    with line.frames.together():
        line.frames.write(large := sent((3, 0, b"x" * AT_ONCE)))
        assert arrived(line) == large
    line.frames.write(written[3])
    assert arrived(line) == written[3]


def write_all(frames: Frames, written: Sequence[Any]) -> None:
    for frame in written:
        frames.write(frame)


def test_after_an_error_the_rest_is_not_sent(line: Line) -> None:
    """What was to go out together with a message that cannot be made is not sent later, as that of something else."""
    with pytest.raises(TypeError), line.frames.together():
        write_all(line.frames, [sent((1, 0, b"first")), None])
    assert (arrived(line), line.frames.holds_frames) == (b"", False)
    line.frames.write(after := sent((1, 0, b"after")))
    assert arrived(line) == after
