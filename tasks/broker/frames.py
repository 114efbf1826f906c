"""RabbitMQ's frames, read as many at a time as have come: amqp asks the kernel ten times for each message."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from struct import Struct
from typing import Any

from amqp import method_framing
from amqp.basic_message import Message
from amqp.exceptions import RecoverableConnectionError, UnexpectedFrame
from amqp.transport import TCPTransport

from tasks.broker.turns import next_turn

AHEAD = 64 * 1024  # bytes that are taken at once, if there are so many
AT_ONCE = 64 * 1024  # bytes that are sent in one call
IN_A_ROW = 4  # messages that an event loop reads before it looks at anything else

# AMQP 0-9-1, 4.2.3: type, channel and size, then the payload and one octet.
HEAD = Struct(">BHI")
END = b"\xce"
NOTHING_YET = (errno.EAGAIN, errno.EWOULDBLOCK)

UNREADABLE = "application/vnd.celeriac.unreadable"  # content type of what was found instead of a message

# AMQP 0-9-1, 4.2.6.1: a content header frame is of type 2 and begins with class, weight and body size, in 12 bytes;
# then come flags, of which the highest is the content type's, and the properties that they name.
CONTENT_HEADER = 2
SIZES = 12
UNREADABLE_PROPERTIES = (1 << 15).to_bytes(2, "big") + bytes([len(UNREADABLE)]) + UNREADABLE.encode()

Frame = tuple[int, int, bytes]


class Frames(TCPTransport):
    """amqp's transport, which has read what it gives.

    `reads_ahead`: beyond the frame that is asked for. Only who then asks until there is no more may have that: nothing
    tells an event loop of what has left the kernel.
    """

    reads_ahead = False
    _read_before = b""
    _at = 0  # where the next frame begins in it
    _held: bytearray | None = None  # frames that are to be sent with others

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is written within goes out at its end, or when it is much; after an error the rest does not.

        To hand each message to the kernel takes longer than to make it. Raises what the last write does.
        """
        self._held = bytearray()
        try:
            yield
            self.send_held()
        finally:
            self._held = None

    def write(self, frames: Any) -> None:
        """Send whole frames, now or together with others. Raises OSError."""
        if self._held is None:
            super().write(frames)
            return
        self._held += frames
        if len(self._held) >= AT_ONCE:
            self.send_held()

    @property
    def holds_frames(self) -> bool:
        """Whether something is written that has not gone out."""
        return bool(self._held)

    def send_held(self) -> None:
        """Send that. Raises OSError."""
        held, self._held = self._held, bytearray()
        if held:
            super().write(bytes(held))

    def take(self) -> Frame | None:
        """The next frame, if all of it is here. Raises UnexpectedFrame."""
        begins = self._at + HEAD.size
        if len(self._read_before) <= begins:
            return None
        kind, channel, size = HEAD.unpack_from(self._read_before, self._at)
        ends = begins + size
        if len(self._read_before) <= ends:
            return None
        payload, end = self._read_before[begins:ends], self._read_before[ends : ends + 1]
        self._at = ends + 1
        if end != END:
            raise UnexpectedFrame(f"a frame ends with {end!r}")
        return kind, channel, payload

    @property
    def has_frame(self) -> bool:
        """Whether all of the next one is here."""
        return self._missing() <= 0

    def read_frame(self, *_: Any) -> Frame:
        """The next frame. Raises socket.timeout when it has not come in time, and what has come of it is kept."""
        here: Any = self.sock
        while (frame := self.take()) is None:
            try:
                more = here.recv(max(self._missing(), AHEAD) if self.reads_ahead else self._missing())
                if not more:
                    raise OSError("the server has closed the connection")  # noqa: TRY301 - like any other end of it
            except TimeoutError:
                raise
            except OSError as error:
                if error.errno in NOTHING_YET:
                    raise TimeoutError from None
                self.connected = False
                raise
            self._read_before, self._at = self._read_before[self._at :] + more, 0
        return frame

    def _missing(self) -> int:
        """How many bytes of the next frame have not come, as far as is known."""
        here = len(self._read_before) - self._at
        if here < HEAD.size:
            return HEAD.size - here
        _, _, size = HEAD.unpack_from(self._read_before, self._at)
        return int(HEAD.size + size + len(END) - here)


def reader_of(connection: Any) -> Callable[[Any], None]:
    """What an event loop calls when there is something to read on a connection with such a transport.

    Like kombu's own, but for several messages in a row.
    """

    def read(loop: Any) -> None:
        if not connection.connected:
            raise RecoverableConnectionError("the connection is gone")
        frames = connection.transport
        frames.reads_ahead = True
        try:
            connection.drain_events(timeout=0)
            for _ in range(1, IN_A_ROW):
                if not frames.has_frame:
                    break
                connection.drain_events(timeout=0)
        except OSError as error:
            if not isinstance(error, TimeoutError) and error.errno not in NOTHING_YET:
                raise
        finally:
            frames.reads_ahead = False
        if frames.has_frame:  # of what is in the kernel still the loop hears from there
            next_turn(loop, read, loop)

    return read


def frame_handler(connection: Any, callback: Callable[..., Any]) -> Callable[[Any], Any]:
    """Amqp's handler of inbound frames, except that properties which it cannot decode are replaced by ours.

    Its exception would end the connection, or the worker, and the message would come back to do it again.
    """
    handle = method_framing.frame_handler(connection, callback)

    def on_frame(frame: tuple[int, int, bytes]) -> Any:
        try:
            return handle(frame)
        except Exception:
            kind, channel, content = frame
            if kind != CONTENT_HEADER or _is_decodable(content):
                raise
            return handle((kind, channel, bytes(content[:SIZES]) + UNREADABLE_PROPERTIES))

    return on_frame


def _is_decodable(content: bytes) -> bool:
    try:
        Message().inbound_header(content)  # type: ignore[attr-defined]  # missing in the stubs
    except Exception:  # noqa: BLE001 - whatever amqp makes of hostile bytes
        return False
    return True
