"""A look at the messages that the broker has, all of which it keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pydantic
from amqp.exceptions import ChannelError
from celery import Celery
from kombu import Connection

from tasks.broker.messages import fence_of
from tasks.broker.publisher import close_quietly, connect
from tasks.broker.transport import Channel, Envelope
from tracking.models import Fence

PAGE = 500  # messages of one read from Redis
NOT_FOUND = 404  # AMQP 0-9-1, 1.2


@dataclass(frozen=True, slots=True)
class Seen:
    """A message. `fence` None: it is none of the platform's; `job_type`: as it says."""

    queue: str
    fence: Fence | None
    job_type: str | None


def peek(app: Celery, queues: Iterator[str], most: int) -> Iterator[Seen]:
    """The messages of these queues, at most so many of each, and on Redis those that workers have not acknowledged.

    RabbitMQ hands them out, and takes them back at the end of each queue: a worker that runs gets none of them
    meanwhile. Raises the broker's errors.
    """
    connection = connect(app)
    try:
        if connection.transport.driver_type == "amqp":
            for queue in queues:
                yield from islice(_of_rabbitmq(connection, queue), most)
        else:
            channel: Any = connection.default_channel
            for queue in queues:
                yield from islice(_of_redis(channel, queue), most)
            yield from islice(_unacknowledged(channel), most)
    finally:
        close_quietly(connection, "peeking.close_failed")


def _of_rabbitmq(connection: Connection, queue: str) -> Iterator[Seen]:
    channel: Any = connection.channel()
    try:
        while (message := channel.basic_get(queue, no_ack=False)) is not None:
            yield _seen(queue, message.headers)
    except ChannelError as error:
        if error.reply_code != NOT_FOUND:
            raise
    finally:
        channel.close()  # it gives back what it was handed


def _of_redis(channel: Any, queue: str) -> Iterator[Seen]:
    for step in Channel.priority_steps:
        key = channel._q_for_pri(queue, step)  # noqa: SLF001 - kombu has no other way to ask
        begin = 0
        while items := channel.client.lrange(key, begin, begin + PAGE - 1):
            yield from (_seen(queue, _headers(item)) for item in items)
            begin += PAGE


def _unacknowledged(channel: Any) -> Iterator[Seen]:
    for _, item in channel.client.hscan_iter(channel.unacked_key, count=PAGE):
        try:
            envelope, _, queue = json.loads(item)
        except ValueError:
            yield Seen("", None, None)
        else:
            yield _seen(str(queue), _headers(json.dumps(envelope)))


def _headers(item: bytes | str) -> Mapping[str, Any]:
    try:
        return Envelope.model_validate_json(item).headers
    except pydantic.ValidationError:
        return {}


def _seen(queue: str, headers: Mapping[str, Any] | None) -> Seen:
    said = headers if isinstance(headers, Mapping) else {}
    name = said.get("task")
    return Seen(queue, fence_of(said.get("id"), said), name if isinstance(name, str) else None)
