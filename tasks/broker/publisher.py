"""A connection to the broker that publishes messages, and knows which of them the broker has confirmed."""

from __future__ import annotations

import errno
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import structlog
from kombu import Connection, Producer
from kombu.exceptions import BatchPublishError  # type: ignore[attr-defined]  # missing in the stubs

from tasks.broker.frames import Frames
from tasks.broker.full_queues import FullQueues
from tasks.broker.messages import publish
from tasks.broker.transport import BROKER_TIMEOUT, BrokerBlocked
from tasks.broker.unsendable import Suspects, Unsendable, examine, fail, may_be_its_fault
from tasks.own_settings import broker_of
from tracking import jobs, traces
from tracking.crashpoints import PUBLISHED, crash_point
from tracking.sentinels import place_of

if TYPE_CHECKING:
    from celery import Celery

    from tasks.broker.marks import LateMarks
    from tasks.platform import Platform
    from tracking.models import Fence, JobRecord

log = structlog.get_logger(__name__)

# What Linux says of the options of a socket that the other end has reset since it was connected.
RESET_MEANWHILE = (errno.EINVAL, errno.ENOTCONN)


class Publisher:
    """A connection to the broker that publishes jobs and knows which of them the broker has confirmed.

    For one thread only. `marks`: has the rows marked later; None: they are marked at once.
    """

    def __init__(self, platform: Platform, marks: LateMarks | None = None) -> None:
        self._marks = marks
        self._platform = platform
        self._app = platform.app
        self._connection: Connection | None = None
        self._producer: Producer | None = None
        self._confirms: _Confirms | None = None
        self._suspects = Suspects()
        self._full = FullQueues()

    def publish(self, records: Sequence[JobRecord]) -> None:
        """Publish the messages of these jobs and mark those that the broker has confirmed as dispatched.

        A job whose message cannot be sent fails alone. Raises the broker's errors; what was not marked is found again
        by upkeep.
        """
        records = [record for record in records if not self._suspects.is_resting(record.fence)]
        if not records:
            return
        confirmed: list[Fence] = []
        began = time.time_ns()
        try:
            self._publish_all(records, confirmed)
        finally:
            self._mark(records, confirmed)
            _tell_traces(began, records, confirmed)

    def _publish_all(self, records: Sequence[JobRecord], confirmed: list[Fence]) -> None:
        """Publish them together; when that ends the connection, one by one, to see whose message it was."""
        self._connect()
        try:
            self._publish(records, confirmed)
        except Exception as error:
            self.close()
            if not may_be_its_fault(error):
                raise
        else:
            return
        done = set(confirmed)
        for record in records:
            if record.fence not in done:
                self._publish_alone(record, confirmed)

    def _publish_alone(self, record: JobRecord, confirmed: list[Fence]) -> None:
        self._connect()
        try:
            self._publish([record], confirmed)
        except Exception as error:
            self.close()
            if not may_be_its_fault(error):
                raise
            self._connect()  # raises when the broker is away: then the message is not to blame
            if not self._failed(record) and self._suspects.accuse(record.fence):
                self._fail(record, error)
        else:
            self._suspects.acquit(record.fence)

    def _mark(self, records: Sequence[JobRecord], confirmed: Sequence[Fence]) -> None:
        if confirmed:
            crash_point(PUBLISHED)
        if confirmed and self._marks is not None:
            self._marks.note(records, confirmed)
        elif confirmed:
            with self._platform.database.autocommit() as connection:
                jobs.mark_dispatched(connection, confirmed)

    def broadcast(self, command: str, arguments: dict[str, Any], destination: Sequence[str] | None) -> None:
        """Send a remote-control command to these workers, None: to all. Raises the broker's errors."""
        try:
            self._connect()
            self._app.control.broadcast(
                command, arguments=arguments, destination=destination, connection=self._connection, reply=False
            )
        except Exception:
            self.close()
            raise

    def close(self) -> None:
        """Drop the connection; the next use makes a new one."""
        connection, self._connection, self._producer, self._confirms = self._connection, None, None, None
        close_quietly(connection, "dispatch.close_failed")

    def _publish(self, records: Sequence[JobRecord], confirmed: list[Fence]) -> None:
        """Publish on the connection that is there; to `confirmed` is added what the broker has, error or not."""
        if self._confirms is None and len(records) > 1:
            self._publish_together(records, confirmed)
            return
        try:
            with self._confirms.together() if self._confirms is not None else nullcontext():
                for record in records:
                    self._put(record, confirmed)
            if self._confirms is not None:
                self._confirms.collect(BROKER_TIMEOUT)
                self._full.note(records, self._confirms.take_refused())
        finally:
            if self._confirms is not None:
                confirmed += self._confirms.take()

    def _publish_together(self, records: Sequence[JobRecord], confirmed: list[Fence]) -> None:
        """The same on Redis, in a round trip for many. After an error nobody knows which of them it has: none is."""
        sent: list[Fence] = []
        try:
            with self._connect().batch():  # type: ignore[attr-defined]  # as above
                for record in records:
                    self._put(record, sent)
        except BatchPublishError as error:
            raise error.__cause__ or error from None
        confirmed += sent

    def _put(self, record: JobRecord, confirmed: list[Fence]) -> None:
        """Put its message on the connection; when it makes no message, fail the job."""
        try:
            publish(self._app, self._connect(), record)
        except Exception:
            if self._failed(record):
                return
            raise
        if self._confirms is not None:
            self._confirms.expect(record.fence)
        else:
            confirmed.append(record.fence)  # Redis has answered

    def _failed(self, record: JobRecord) -> bool:
        """Whether its message is none that a broker can take, by itself; then its job has failed."""
        try:
            examine(self._app, record, is_amqp=self._confirms is not None)
        except Unsendable as error:
            self._fail(record, error)
            return True
        return False

    def _fail(self, record: JobRecord, error: Exception) -> None:
        if fail(self._platform.database, record, error):
            self._platform.dispatcher.follow(record.id, record.organization_id)

    def _connect(self) -> Producer:
        if self._producer is None:
            connection = connect(self._app)
            self._connection = connection
            self._producer = self._app.amqp.Producer(connection.default_channel, auto_declare=False)
            if connection.transport.driver_type == "amqp":
                self._confirms = _Confirms(connection)
        return self._producer


class _Confirms:
    """RabbitMQ's publisher confirms, pipelined: many messages on their way, one wait for all their answers.

    Tags count the publishes on the channel from 1; an answer may stand for all tags up to its own
    (AMQP 0-9-1 extension, rabbitmq.com/docs/confirms).
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._next_tag = 1
        self._unanswered: dict[int, Fence] = {}
        self._confirmed: list[Fence] = []
        self._refused: list[Fence] = []
        channel: Any = connection.default_channel
        channel.confirm_select()
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)

    def together(self) -> AbstractContextManager[None]:
        """Within it messages go out many at a time."""
        frames = self._connection.connection.transport
        return frames.together() if isinstance(frames, Frames) else nullcontext()

    def expect(self, fence: Fence) -> None:
        """Note that one message was just published."""
        self._unanswered[self._next_tag] = fence
        self._next_tag += 1

    def collect(self, timeout: float) -> None:
        """Wait until every message is answered. Raises on time-out."""
        deadline = time.monotonic() + timeout
        while self._unanswered:
            self._connection.drain_events(timeout=max(0.01, deadline - time.monotonic()))

    def take(self) -> list[Fence]:
        """The messages that the broker has taken since the last call."""
        confirmed, self._confirmed = self._confirmed, []
        return confirmed

    def take_refused(self) -> list[Fence]:
        """The messages that the broker has refused since the last call."""
        refused, self._refused = self._refused, []
        return refused

    def _on_ack(self, delivery_tag: int, multiple: bool) -> None:  # noqa: FBT001 - called by amqp
        self._confirmed += self._answered(delivery_tag, multiple=multiple)

    def _on_nack(self, delivery_tag: int, multiple: bool, *_: object) -> None:  # noqa: FBT001 - called by amqp
        self._refused += self._answered(delivery_tag, multiple=multiple)

    def _answered(self, delivery_tag: int, *, multiple: bool) -> list[Fence]:
        tags = [tag for tag in self._unanswered if tag <= delivery_tag] if multiple else [delivery_tag]
        return [self._unanswered.pop(tag) for tag in tags if tag in self._unanswered]


def _tell_traces(began: int, records: Sequence[JobRecord], confirmed: Sequence[Fence]) -> None:
    spans = traces.spans()
    if spans is not None:
        sent = set(confirmed)
        spans.together("publish", began, [(job.id, job.job_type, job.delivery) for job in records if job.fence in sent])


def connect(app: Celery, *, confirm: bool = False) -> Connection:
    """A connection to the broker on which no wait is longer than BROKER_TIMEOUT. Raises the broker's errors.

    A wait of one that RabbitMQ blocks ends with BrokerBlocked at once.

    `confirm`: each publish waits for RabbitMQ's confirm.
    """
    options: dict[str, Any] = dict(app.conf.broker_transport_options)
    url = broker_of(app)
    if url.startswith("amqp"):
        options |= {"read_timeout": BROKER_TIMEOUT, "write_timeout": BROKER_TIMEOUT, "confirm_publish": confirm}
        options["on_blocked"] = _blocked
    else:
        options |= {
            "socket_timeout": BROKER_TIMEOUT,
            "socket_connect_timeout": BROKER_TIMEOUT,
            "retry_on_timeout": False,
        }
    connection = Connection(place_of(url), transport_options=options, connect_timeout=BROKER_TIMEOUT)
    try:
        connection.connect()
    except OSError as error:
        if error.errno not in RESET_MEANWHILE:
            raise
        raise ConnectionResetError(errno.ECONNRESET, "the broker reset the connection as it was made") from error
    return connection


def _blocked(_: str) -> None:
    raise BrokerBlocked("RabbitMQ takes no messages now, being short of memory or disk")


def close_quietly(connection: Connection | None, failure: str) -> None:
    """Close a connection to the broker, if there is one; one that cannot be closed is logged as `failure`."""
    try:
        if connection is not None:
            connection.close()
    except Exception as error:  # noqa: BLE001 - a connection that is already broken cannot be closed better
        log.debug(failure, error=type(error).__name__)
