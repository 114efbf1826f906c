"""Jobs that come to a worker without a message: it has given them a slot that one of its own jobs has left.

Their rows say that they wait, sent or not, and are the truth: should such a job be lost here, the leader sends its
message a few seconds later, as for any job whose message nobody has confirmed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from celery.worker import state
from kombu import Message
from kombu.serialization import dumps

from tasks.broker.messages import celery_id, prepare
from tasks.platform import Platform
from tracking.crashpoints import GIVEN, crash_point
from tracking.models import Attempt, JobRecord

log = structlog.get_logger(__name__)

PATIENCE = 1.0  # seconds until a job that waits here unclaimed gets its message; the leader sends it after three


class DirectMessage(Message):
    """What the broker would have delivered. There is nobody to acknowledge it to; given back, it becomes a message."""

    def __init__(self, platform: Platform, record: JobRecord, attempt: Attempt | None) -> None:
        message, options = prepare(platform.app, record)
        content_type, encoding, body = dumps(message.body, serializer="json")
        super().__init__(
            body,
            content_type=content_type,
            content_encoding=encoding,
            headers={**message.headers, **options["headers"]},
            properties={**message.properties, "priority": options["priority"]},
            delivery_info={"exchange": "", "routing_key": record.queue, "redelivered": False},
        )
        self.attempt = attempt
        self.since = time.monotonic()
        self._platform, self._record = platform, record

    def ack(self, multiple: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - kombu's signature
        """It has been dealt with."""
        self._state = "ACK"

    def reject(self, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's signature
        """Let another worker have it, or none."""
        self._state = "REQUEUED" if requeue else "REJECTED"
        if requeue:
            self._platform.dispatcher.send(self._record)

    def requeue(self) -> None:
        """Let another worker have it."""
        self.reject(requeue=True)


class Direct:
    """How they come in: like messages, so that nothing in the worker treats them otherwise. In its event loop."""

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        self._platform: Platform = worker.app.platform
        self._deliver: Callable[[Any], None] | None = None

    def bind(self, deliver: Callable[[Any], None]) -> None:
        """Give them to `deliver` from now on, which takes the messages of jobs of ours."""
        self._deliver = deliver

    def take(self, record: JobRecord, attempt: Attempt | None, *, has_room: bool) -> bool:
        """Run a job that got a slot here, or send its message, for whichever worker is free; False: it is claimed."""
        crash_point(GIVEN)
        if attempt is not None and state.requests.get(celery_id(record)) is not None:
            return False  # the worker still has the dispatch before
        if has_room and self._deliver is not None and self.is_for(record):
            message = self._message(record, attempt)
            if message is not None:
                self._deliver(message)
                return True
        if attempt is None:
            self._platform.dispatcher.send(record)
        return attempt is None

    def _message(self, record: JobRecord, attempt: Attempt | None) -> DirectMessage | None:
        """None: its row holds what makes no message. Whoever sends it then finds that, too, and fails it."""
        try:
            return DirectMessage(self._platform, record, attempt)
        except Exception as error:  # noqa: BLE001 - of garbage anything may come, and this is the event loop of all jobs
            log.warning("job.unsendable", job_id=str(record.id), dispatch=record.dispatch, error=type(error).__name__)
            return None

    @property
    def queues(self) -> Sequence[str]:
        """Those that this worker consumes."""
        return tuple(self._platform.app.amqp.queues.consume_from)

    def is_for(self, record: JobRecord) -> bool:
        """Whether this worker would get its message, and would not keep it for later.

        What a worker has handed back the leader sends at once; what may take workers down goes the long way.
        """
        if record.started_at is not None or record.losses:
            return False
        consumer = self._worker.consumer
        runs_it = record.job_type in consumer.strategies and not consumer.task_buckets.get(record.job_type)
        return runs_it and record.queue in self._platform.app.amqp.queues.consume_from


def is_direct(request: Any) -> bool:
    """Whether a request came so."""
    return isinstance(request.message, DirectMessage)


def attempt_of(request: Any) -> Attempt | None:
    """The attempt for which it was claimed together with its slot."""
    return request.message.attempt if is_direct(request) else None


def is_late(request: Any) -> bool:
    """Whether it has waited here for too long."""
    return is_direct(request) and request.message.since < time.monotonic() - PATIENCE
