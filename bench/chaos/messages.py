"""Messages that no dispatcher sends: copies of real ones, and what is no task at all."""

from __future__ import annotations

import base64
import json
import pickle
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import amqp
from kombu import Connection
from redis import Redis

QUEUE = "default"
PRIORITIES = range(10)
SEPARATOR = "\x06\x16"  # kombu's, between the name of a queue and the place of a priority in its lists
UNACKNOWLEDGED = "unacked"  # kombu's hash of what workers have and did not acknowledge
GOOD = b"[[], {}, {}]"


def capture(url: str) -> Any | None:
    """A message that is on its way to a worker or, on Redis, with one; None when there is none at this moment."""
    if url.startswith("redis"):
        with Redis.from_url(url) as client:
            return _on_redis(client)
    with Connection(url) as connection:
        channel: Any = connection.default_channel
        message = channel.basic_get(QUEUE, no_ack=False)
        if message is not None:
            channel.basic_reject(message.delivery_tag, requeue=True)
        return message


def repeat(url: str, message: Any, times: int) -> None:
    """Deliver a captured message again and again."""
    if url.startswith("redis"):
        with Redis.from_url(url) as client:
            for _ in range(times):
                message["properties"]["delivery_tag"] = str(uuid4())
                client.lpush(QUEUE, json.dumps(message))
        return
    with Connection(url) as connection:
        channel: Any = connection.default_channel
        for _ in range(times):
            copy = amqp.Message(message.body, **message.properties)
            channel.basic_publish(copy, exchange="", routing_key=QUEUE)


def send_malformed(url: str) -> int:
    """Put what is no task on the queue; returns how many messages."""
    wrong = list(_malformed())
    if url.startswith("redis"):
        with Redis.from_url(url) as client:
            items = [_envelope(*each) for each in wrong]
            items += [b"{", b"\xff\xfe", b"[" * 100_000, _envelope({"task": "chaos.quick", "id": "x"}, b"") + b"!"]
            for item in items:
                client.lpush(QUEUE, item)
            return len(items)
    with Connection(url) as connection:
        channel: Any = connection.default_channel
        for headers, body, content_type in wrong:
            message = amqp.Message(body, application_headers=headers, content_type=content_type)
            channel.basic_publish(message, exchange="", routing_key=QUEUE)
    return len(wrong)


def purge(url: str) -> None:
    """Take all messages from the queue, as an operator might by mistake."""
    if url.startswith("redis"):
        with Redis.from_url(url) as client:
            client.delete(*_lists())
        return
    with Connection(url) as connection:
        channel: Any = connection.default_channel
        channel.queue_purge(QUEUE)


def _lists() -> list[str]:
    return [f"{QUEUE}{SEPARATOR}{step}" if step else QUEUE for step in PRIORITIES]


def _on_redis(client: Any) -> Any | None:
    waiting = next((item for name in _lists() if (item := client.lindex(name, -1))), None)
    if waiting is not None:
        return json.loads(waiting)
    taken = client.hvals(UNACKNOWLEDGED)
    return json.loads(taken[0])[0] if taken else None


def _malformed() -> Iterator[tuple[dict[str, Any], bytes, str]]:
    """Headers, body and content type of each."""

    def task(name: Any = "chaos.quick", **others: Any) -> dict[str, Any]:
        return {"task": name, "id": str(uuid4()), **others}

    text = "application/json"
    yield task("chaos.nobody"), GOOD, text
    yield task(id={"an": "object"}), GOOD, text
    yield task(), b'[["', text
    yield task(), b"[" * 100_000, text
    yield task(), b'{"args": []}', text
    yield task(), b"\xff\xfe", text
    yield task(), pickle.dumps("x"), "application/x-python-serialize"
    yield task(), GOOD, text  # well-formed, of a job that nobody has accepted
    yield {}, GOOD, text


def _envelope(headers: dict[str, Any], body: bytes, content_type: str = "application/json") -> bytes:
    properties = {
        "body_encoding": "base64",
        "delivery_tag": str(uuid4()),
        "delivery_info": {"exchange": "", "routing_key": QUEUE},
        "priority": 0,
    }
    parts = {
        "body": base64.b64encode(body).decode(),
        "content-type": content_type,
        "content-encoding": "utf-8",
        "headers": headers,
        "properties": properties,
    }
    return json.dumps(parts).encode()
