"""Messages as anybody who reaches the broker can send them, well-formed or not."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import amqp
import amqp.serialization
from kombu import Connection
from redis import Redis

QUEUE = "default"


@dataclass(frozen=True)
class Forged:
    """A message; `headers` and the rest are what a worker gets to read."""

    headers: dict[str, Any]
    body: bytes = b"[[], {}, {}]"
    content_type: str | bytes | None = "application/json"
    content_encoding: str | None = "utf-8"


@dataclass(frozen=True)
class Envelope:
    """What kombu keeps in a list of Redis; `changes` replace its parts, and those that are `Ellipsis` are missing."""

    headers: Any
    body: Any = "W1tdLCB7fSwge31d"  # [[], {}, {}]
    properties: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)

    def encoded(self) -> bytes:
        """The item of the list."""
        properties = {
            "body_encoding": "base64",
            "delivery_tag": str(uuid4()),
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
            "priority": 0,
            **self.properties,
        }
        parts = {
            "body": self.body,
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": self.headers,
            "properties": {name: value for name, value in properties.items() if value is not ...},
            **self.changes,
        }
        return json.dumps({name: value for name, value in parts.items() if value is not ...}).encode()


def task_headers(task: Any, task_id: Any, **others: Any) -> dict[str, Any]:
    """The headers of a task's message; a value of None leaves one out."""
    headers = {"lang": "py", "task": task, "id": task_id, "retries": 0, "timelimit": [None, None], **others}
    return {name: value for name, value in headers.items() if value is not None}


def send(broker_url: str, message: Forged) -> None:
    """Put a message on the queue."""
    if broker_url.startswith("redis"):
        changes = {"content-type": message.content_type, "content-encoding": message.content_encoding}
        push(broker_url, Envelope(message.headers, base64.b64encode(message.body).decode(), {}, changes).encoded())
        return
    with Connection(broker_url) as connection:
        properties = {"content_type": message.content_type, "content_encoding": message.content_encoding}
        given = {name: value for name, value in properties.items() if value is not None}
        channel: Any = connection.default_channel
        channel.basic_publish(
            amqp.Message(message.body, application_headers=message.headers, **given), exchange="", routing_key=QUEUE
        )


def send_at(broker_url: str, seconds: int, body: bytes) -> None:
    """Put a message on RabbitMQ's queue with this time in its headers; amqp itself would only write a true one."""
    clock = SimpleNamespace(timegm=lambda _: seconds)
    with patch.object(amqp.serialization, "calendar", clock):
        send(broker_url, Forged({"task": "noop", "id": str(uuid4()), "at": datetime.now(UTC)}, body))


def push(broker_url: str, item: bytes) -> None:
    """Push anything onto the list of the queue: Redis takes it all."""
    with Redis.from_url(broker_url) as client:
        client.lpush(QUEUE, item)
