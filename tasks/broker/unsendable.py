"""Jobs whose messages no broker takes: told from a broker that is away, and failed alone."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

import amqp
import structlog
from amqp.exceptions import AMQPError
from kombu import serialization
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from tasks.broker.messages import PROPERTIES, prepare
from tasks.refusals import reason_of
from tracking import jobs
from tracking.db import Database, SQLAlchemyError
from tracking.values import MAX_NAME, MESSAGE_BYTES, storable_text

if TYPE_CHECKING:
    from celery import Celery

    from tracking.models import Fence, JobRecord

log = structlog.get_logger(__name__)

FRAME_BYTES = 128 * 1024 - 256  # RabbitMQ's frame_max, which holds all properties, and what goes with them
FORCED = 320  # AMQP 0-9-1, 1.2: an operator has closed the connection
STRIKES = 4  # times that a message alone must end the connection
FIRST_REST = 1.0  # seconds until it is tried again; then twice as long each time
MOST = 10_000  # messages under suspicion at a time


class Unsendable(Exception):
    """The message of a job cannot be sent."""


def examine(app: Celery, record: JobRecord, *, is_amqp: bool) -> None:
    """Make the job's message as the broker's client would. Raises Unsendable with what stands in the way."""
    try:
        message, options = prepare(app, record)
        _, _, body = serialization.dumps(message.body, serializer="json")
        headers = {**message.headers, **options["headers"]}
        if is_amqp:
            named = {name: options[name] for name in PROPERTIES if name in options}
            _encode(record.queue, body, headers, {**message.properties, **named})
        else:
            json.dumps(headers)
    except Unsendable:
        raise
    except Exception as error:
        reason = reason_of(error)
        raise Unsendable(f"{reason.type}: {reason.message}") from error


def _encode(queue: str, body: str, headers: dict[str, object], properties: dict[str, object]) -> None:
    if len(queue.encode()) > MAX_NAME:
        raise Unsendable(f"the name of its queue is longer than {MAX_NAME} bytes")
    made = amqp.Message(body, application_headers=headers, **properties)
    size = len(made._serialize_properties())  # type: ignore[attr-defined]  # noqa: SLF001 - what amqp sends
    if size > FRAME_BYTES:
        raise Unsendable(f"its headers are {size} bytes; a broker takes {FRAME_BYTES}")


def may_be_its_fault(error: Exception) -> bool:
    """Whether an error that one message met alone may come from the message, and not from a broker that is away."""
    if isinstance(error, TimeoutError | OperationalError | SQLAlchemyError):
        return False
    if isinstance(error, RedisError):  # its other kinds are a broker that is full, silent, loading or read-only
        return type(error) in (ResponseError, RedisConnectionError)
    return not (isinstance(error, AMQPError) and error.reply_code == FORCED)


class Suspects:
    """How often each message has ended the connection, and until when it rests."""

    def __init__(self) -> None:
        self._known: OrderedDict[Fence, tuple[int, float]] = OrderedDict()

    def is_resting(self, fence: Fence) -> bool:
        """Whether it is too early to try the message again."""
        return fence in self._known and time.monotonic() < self._known[fence][1]

    def accuse(self, fence: Fence) -> bool:
        """Count once more; whether that was often enough."""
        times = self._known.pop(fence, (0, 0.0))[0] + 1
        if times >= STRIKES:
            return True
        self._known[fence] = (times, time.monotonic() + FIRST_REST * 2 ** (times - 1))
        if len(self._known) > MOST:
            self._known.popitem(last=False)
        return False

    def acquit(self, fence: Fence) -> None:
        self._known.pop(fence, None)


def fail(database: Database, record: JobRecord, error: Exception) -> bool:
    """Fail a job whose message cannot be sent, with the reason. False when it does not wait for that any more."""
    reason = reason_of(error)
    message = storable_text(f"its message cannot be sent: {reason.message}", MESSAGE_BYTES)
    with database.autocommit() as connection:
        failed = jobs.fail_waiting(
            connection, record.fence, actor="dispatcher", error_type=Unsendable.__name__, message=message
        )
    log.error("job.unsendable", job_id=str(record.id), error=reason.type, failed=failed)
    return failed
