"""One meaning of priority on RabbitMQ and on Redis: 0-9, higher is more urgent, unset is 0.

And what kombu or amqp cannot read as a message reaches the consumer all the same: their exceptions would end the
worker.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from queue import Empty
from typing import Any, Literal, Self
from uuid import uuid4

import pydantic
import structlog
from kombu import transport
from kombu.exceptions import OperationalError
from kombu.transport import pyamqp, virtual
from kombu.transport import redis as kombu_redis
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps, loads

from tasks.broker.frames import UNREADABLE, Frames, frame_handler, reader_of
from tasks.broker.messages import DISPATCH_HEADER, shortened
from tracking.certificates import verifying

log = structlog.get_logger(__name__)

BROKER_TIMEOUT = 5.0  # seconds for any one answer of the broker
MOST_AT_ONCE = 100  # messages that a worker takes from a list of Redis in one round trip


class Delivery(pydantic.BaseModel):
    """Where a message was sent to."""

    exchange: str
    routing_key: str


class Properties(pydantic.BaseModel):
    """What kombu uses of a message's properties without looking."""

    delivery_tag: str
    delivery_info: Delivery
    body_encoding: Literal["base64", "utf-8"] | None = None


class Envelope(pydantic.BaseModel):
    """A message as kombu keeps it in a list of Redis."""

    body: str
    content_type: str | None = pydantic.Field(None, alias="content-type")
    content_encoding: str | None = pydantic.Field(None, alias="content-encoding")
    headers: dict[str, Any]
    properties: Properties

    @pydantic.model_validator(mode="after")
    def decode_body(self) -> Self:
        """Raises ValueError when the body is not what its encoding says."""
        if self.properties.body_encoding == "base64":
            base64.b64decode(self.body, validate=True)
        return self


class QoS(kombu_redis.QoS):
    """kombu's list of what this channel has and did not acknowledge, written for many messages in one round trip."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._taken: set[str] = set()  # that are about to be delivered

    def take(self, envelopes: Sequence[dict[str, Any]]) -> None:
        """Write down that these messages are about to be delivered here."""
        unacked: dict[str, str] = {}
        for each in envelopes:
            properties = each["properties"]
            sent = properties["delivery_info"]
            unacked[properties["delivery_tag"]] = dumps([each, sent["exchange"], sent["routing_key"]])
        with self.pipe_or_acquire() as pipe:
            pipe.zadd(self.unacked_index_key, dict.fromkeys(unacked, time.time()))
            pipe.hset(self.unacked_key, mapping=unacked).execute()
        self._taken.update(unacked)

    def append(self, message: Any, delivery_tag: str) -> None:
        if delivery_tag in self._taken:
            self._taken.discard(delivery_tag)
            virtual.QoS.append(self, message, delivery_tag)
        else:
            super().append(message, delivery_tag)

    def give_back(self, tags: Sequence[str]) -> None:
        """They were not delivered after all."""
        self._taken.difference_update(tags)
        self._forget(tags)

    def acknowledge_all(self, tags: Sequence[str]) -> None:
        """Acknowledge many messages in one round trip."""
        self._forget(tags)
        for tag in tags:
            virtual.QoS.ack(self, tag)

    def _forget(self, tags: Sequence[str]) -> None:
        with self.pipe_or_acquire() as pipe:
            pipe.zrem(self.unacked_index_key, *tags).hdel(self.unacked_key, *tags).execute()


class Channel(kombu_redis.Channel):
    """kombu's Redis channel with ten priorities, the highest first, that loses nothing it cannot read.

    `room`: how many messages more its worker has room for, if it may be given several at a time.

    kombu empties its lists in ascending order of priority, so the message's priority is reversed where the list is
    chosen. Not when it is published: a message that is sent again would be turned around twice.
    """

    QoS = QoS
    priority_steps = list(range(10))  # noqa: RUF012 - kombu declares it so
    # Seconds for any one answer, unless the options of the transport say otherwise. Without one a worker waits in its
    # event loop for as long as a server is silent, and reads no end of any body.
    socket_timeout = socket_connect_timeout = BROKER_TIMEOUT
    room: Callable[[], int] | None = None
    _list = b""  # from which the last message came

    @cached_property
    def _synchronous_client(self) -> Any:
        return super()._create_client()  # type: ignore[misc]  # missing in the stubs

    def _create_client(self, asynchronous: bool = False) -> Any:  # noqa: FBT001, FBT002 - kombu's signature
        # kombu makes a client for every publish and acknowledgement, which costs more than the command itself.
        if asynchronous:
            client = super()._create_client(asynchronous=True)  # type: ignore[misc]  # missing in the stubs
            client.set_response_callback("BRPOP", self._read)
            return client
        return self._synchronous_client

    def acknowledge_all(self, tags: Sequence[str]) -> None:
        """Acknowledge many messages in one round trip."""
        qos: Any = self.qos
        qos.acknowledge_all(tags)

    def _brpop_read(self, **options: Any) -> Any:
        found = super()._brpop_read(**options)  # type: ignore[misc]  # missing in the stubs
        if found and self.room is not None and (room := min(self.room(), MOST_AT_ONCE)) > 0:
            self._read_more(room)
        return found

    def _read_more(self, room: int) -> None:
        """As many more of the list of which one message has just come, in two round trips."""
        client: Any = self._synchronous_client
        qos: Any = self.qos
        items = client.rpop(self._list, room) or []
        envelopes = [loads(bytes_to_str(readable((self._list, item))[1])) for item in items]
        if envelopes:
            qos.take(envelopes)
        queue, delivered = self._list.decode().rsplit(self.sep, 1)[0], 0
        try:
            for envelope in envelopes:
                delivered += 1
                self.connection._deliver(envelope, queue)  # noqa: SLF001 - as kombu does
        finally:
            if left := envelopes[delivered:]:  # the connection has ended amid them
                qos.give_back([each["properties"]["delivery_tag"] for each in left])
                client.rpush(self._list, *reversed(items[delivered:]))

    def _read(self, reply: list[bytes] | None, **_: Any) -> tuple[bytes, bytes] | None:
        if not reply:
            return None
        self._list = bytes(reply[0])
        return readable((reply[0], reply[1]))

    def _receive_one(self, c: Any) -> Any:
        # Not a job but a remote control or an event, which anybody may publish.
        try:
            return super()._receive_one(c)  # type: ignore[misc]  # missing in the stubs
        except Empty:
            raise
        except Exception as error:
            if is_outage(error, self.connection_errors):  # type: ignore[attr-defined]
                raise
            log.warning("control.unreadable", error=type(error).__name__)
            raise Empty from None

    def _get_message_priority(self, message: dict[str, Any], reverse: bool = False) -> int:  # noqa: FBT001, FBT002
        return int(super()._get_message_priority(message, reverse=not reverse))


class Transport(kombu_redis.Transport):
    """kombu's Redis transport with our channel."""

    Channel = Channel


class SentinelChannel(Channel, kombu_redis.SentinelChannel):
    """Our channel to the server that sentinels say is the master now."""


class SentinelTransport(kombu_redis.SentinelTransport):
    """kombu's transport by Redis Sentinel with our channel."""

    Channel = SentinelChannel


class AmqpChannel(pyamqp.Channel):
    """A channel that knows which deliveries wait for an answer, and so acknowledges many with one frame."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._unanswered: dict[int, None] = {}  # in the order of their tags, which is that of their delivery
        super().__init__(*args, **options)

    def _on_basic_deliver(self, consumer_tag: str, delivery_tag: int, *rest: Any) -> None:
        if consumer_tag not in (self.no_ack_consumers or ()):
            self._unanswered[delivery_tag] = None
        super()._on_basic_deliver(consumer_tag, delivery_tag, *rest)  # type: ignore[misc]  # missing in the stubs

    def prepare_message(
        self,
        body: Any,
        priority: int | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        headers: Any = None,
        *rest: Any,
        **options: Any,
    ) -> Any:
        """A message to be sent. Amqp takes long for each of its headers, here and where it is read."""
        return super().prepare_message(
            body, priority, content_type, content_encoding, shortened(headers), *rest, **options
        )

    def basic_ack(self, delivery_tag: int, *args: Any, **options: Any) -> Any:
        """Acknowledge one message, or all up to it."""
        self._unanswered.pop(delivery_tag, None)
        return super().basic_ack(delivery_tag, *args, **options)

    def basic_reject(self, delivery_tag: int, *args: Any, **options: Any) -> Any:
        self._unanswered.pop(delivery_tag, None)
        return super().basic_reject(delivery_tag, *args, **options)

    def acknowledge_all(self, tags: Sequence[int]) -> None:
        """Acknowledge many messages: with one frame those before the first that has no answer yet.

        The others one by one. A tag that is answered already must not be named: the broker would close the channel.
        """
        tags = sorted(tag for tag in tags if tag in self._unanswered)
        for tag in tags:
            del self._unanswered[tag]
        oldest = next(iter(self._unanswered), None)
        together = [tag for tag in tags if oldest is None or tag < oldest]
        if together:
            super().basic_ack(together[-1], multiple=True)
        for tag in tags[len(together) :]:
            super().basic_ack(tag)


class BrokerBlocked(OperationalError):
    """RabbitMQ takes no messages now, being short of memory or disk."""


class AmqpConnection(pyamqp.Connection):
    """A connection to RabbitMQ that is not broken by the properties of a message, whatever they are.

    `is_blocked`: RabbitMQ is short of memory or disk, and reads nothing more of a connection that has published.
    """

    Channel = AmqpChannel

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"frame_handler": frame_handler, **options})
        self.is_blocked = False

    def _on_blocked(self) -> Any:
        self.is_blocked = True
        return super()._on_blocked()  # type: ignore[misc]  # missing in the stubs

    def _on_unblocked(self) -> Any:
        self.is_blocked = False
        return super()._on_unblocked()  # type: ignore[misc]  # missing in the stubs

    def close(self, *args: Any, **options: Any) -> Any:
        """Close it; without a farewell where RabbitMQ would not read it, and its answer would not come."""
        return self.collect() if self.is_blocked else super().close(*args, **options)

    def Transport(self, host: str, connect_timeout: Any, ssl: Any = False, *rest: Any, **options: Any) -> Any:  # noqa: FBT002, N802 - amqp's
        """Its socket, and who reads it."""
        if ssl:
            return super().Transport(host, connect_timeout, ssl, *rest, **options)
        read_timeout, write_timeout = (*rest, None, None)[:2]
        timeouts = {"read_timeout": read_timeout, "write_timeout": write_timeout}
        return Frames(host, connect_timeout=connect_timeout, **{**timeouts, **options})

    def blocking_read(self, timeout: float | None = None) -> Any:
        """Deal with the next frame; whether that was the last of something. What is here needs no time-out."""
        transport: Any = self.transport
        if not isinstance(transport, Frames):
            return super().blocking_read(timeout)
        if (frame := transport.take()) is not None:
            on_frame: Any = self.on_inbound_frame
            return on_frame(frame)
        if transport.holds_frames:
            if timeout == 0:  # amqp looks before each message; until some have gone out it has looked at all
                raise TimeoutError
            transport.send_held()  # what is waited for may be the answer
        return super().blocking_read(timeout)


class AmqpTransport(pyamqp.Transport):
    """kombu's RabbitMQ transport with our connection."""

    Connection = AmqpConnection

    def _make_reader(self, connection: Any, *_: Any, **_options: Any) -> Callable[[Any], None]:
        return reader_of(connection)


class AmqpsTransport(pyamqp.SSLTransport):
    """The same with TLS, to a server whose certificate is trusted and is its own.

    kombu hands on the options of a URL (ssl_ca_certs) under names that amqp does not take, and amqp checks the name of
    a host only when it is told.
    """

    Connection = AmqpConnection

    def establish_connection(self) -> Any:
        client: Any = self.client
        host, given = client.hostname, client.ssl
        client.ssl = verifying(given, host)
        try:
            return super().establish_connection()
        finally:  # as it was, for the next one: kombu makes 127.0.0.1 of localhost, and no certificate is of that
            client.hostname, client.ssl = host, given


def register() -> None:
    """Take the place of kombu's transports.

    The schemes stay, so that Flower recognises the broker. Must run before the first connection of a process.
    """
    ours = {
        "redis": Transport,
        "rediss": Transport,
        "sentinel": SentinelTransport,
        "amqp": AmqpTransport,
        "amqps": AmqpsTransport,
    }
    for scheme, its_transport in ours.items():
        transport.TRANSPORT_ALIASES[scheme] = f"{__name__}:{its_transport.__name__}"


def is_outage(error: Exception, connection_errors: tuple[type[Exception], ...]) -> bool:
    """Whether an error is the broker's, not a message's: kombu counts KeyError among the former on Redis."""
    return isinstance(error, connection_errors) and not isinstance(error, KeyError)


def readable(found: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """A list of Redis and an item that was taken from it, as something that kombu can read.

    It is off its list already: an exception of kombu's would be the end of it. So what is no message becomes the body
    of one that says so, and the consumer sets it aside like any other.
    """
    key, item = found
    try:
        Envelope.model_validate_json(item)
    except pydantic.ValidationError:
        item = _enclosed(item, key.decode(errors="replace").partition(kombu_redis.Channel.sep)[0])
    return key, item


def _enclosed(item: bytes, queue: str) -> bytes:
    envelope = {
        "body": base64.b64encode(item).decode(),
        "content-type": UNREADABLE,
        "content-encoding": "binary",
        "headers": _headers_of(item),
        "properties": {
            "body_encoding": "base64",
            "delivery_tag": str(uuid4()),
            "delivery_info": {"exchange": "", "routing_key": queue},
        },
    }
    return json.dumps(envelope).encode()


def _headers_of(item: bytes) -> dict[str, Any]:
    """The task's name, its id and dispatch, when the item says so much."""
    try:
        headers = json.loads(item)["headers"]
        named = {name: headers.get(name) for name in ("task", "id", DISPATCH_HEADER)}
        return {name: value for name, value in named.items() if isinstance(value, str | int)}
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return {}
