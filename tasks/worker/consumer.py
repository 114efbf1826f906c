"""The worker's consumer: whatever message arrives, it lives and goes on, and what is no task is set aside.

Celery's own consumer checks less: a body of another shape, or an id that is an object, raises in its event loop and
ends the worker. Nobody has acknowledged the message then, so it goes to the next worker and ends that one, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import pydantic
import structlog
from amqp.exceptions import PreconditionFailed, RecoverableConnectionError
from celery.exceptions import InvalidTaskError
from celery.worker import loops, state
from celery.worker.consumer import Consumer as CeleryConsumer

from tasks.broker.frames import UNREADABLE
from tasks.broker.messages import decode, fence_of
from tasks.broker.transport import is_outage
from tasks.encoding import from_header
from tasks.worker import (
    commands,  # noqa: F401 - a worker's answers to remote control
    outage,
)
from tasks.worker.adopting import Call, Door, Headers, first_fault, foreign_headers
from tasks.worker.answering import Answers
from tasks.worker.lookahead import lookahead_of
from tasks.worker.repeats import Repeats
from tracking.values import storable_text

log = structlog.get_logger(__name__)

T = TypeVar("T")

FORMER_HEADER = "job_id"  # by which messages were told as ours before their jobs' dispatches had numbers

BODY: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(tuple[list[Any], dict[str, Any], dict[str, Any] | None])


class OwnHeaders(Headers):
    """Those of the platform's own messages."""

    eta: None = None  # a job waits in its row; a message that has to wait would be kept in the worker's memory


class Consumer(CeleryConsumer):
    """Celery's consumer, in front of which every message is read once."""

    def __init__(self, on_task_request: Callable[[Any], None], **options: Any) -> None:
        super().__init__(on_task_request, **options)
        self.lookahead = lookahead_of(options["controller"])
        if self.lookahead is not None:
            self.on_task_request = self.lookahead.take

    def register_with_event_loop(self, hub: Any) -> None:
        """The event loop begins, with a new connection."""
        super().register_with_event_loop(hub)
        if self.lookahead is not None:
            self.lookahead.register(hub)

    def connect(self) -> Any:
        """Connect to the broker; while that is away, whatever is in the worker goes on."""
        controller: Any = self.controller  # type: ignore[attr-defined]  # missing in the stubs
        if controller.hub is not None and not self.first_connection_attempt:
            outage.go_on_until(self._come_back, controller)
            # Celery ends those of a connection with it, and takes for them what was not there before it: also the time
            # limits of what has begun just now.
            self.timer_entries_before_start = outage.timers(controller.hub)
        return super().connect()

    def _come_back(self) -> None:
        """Wait until the broker can be reached, as Celery waits. In a thread."""
        self.connection_for_read().release()

    def on_close(self) -> None:
        """The connection is gone, or the worker stops."""
        taken_back, staying = self.lookahead.bodies.take_back() if self.lookahead is not None else ([], [])
        super().on_close()
        if self.lookahead is not None:
            self.lookahead.reconnect(taken_back, staying)

    def loop(self, *args: Any) -> None:
        """Read messages until the connection ends.

        RabbitMQ closes a channel with 406 when a delivery is not acknowledged within its `consumer_timeout`, which a
        long job exceeds. Celery takes that for the end of the worker. It is the end of a connection: the next one gets
        the deliveries again, and the claim refuses those whose job runs.
        """
        hub: Any = self.hub  # type: ignore[attr-defined]  # missing in the stubs
        if self.lookahead is not None:
            self.lookahead.bound(self.task_consumer.channel)  # type: ignore[attr-defined]  # as above
        try:
            (loops.asynloop if hub is not None else loops.synloop)(*args)
        except PreconditionFailed as error:
            log.warning("broker.refused_to_wait", worker=self.hostname, said=storable_text(error.reply_text))
            raise RecoverableConnectionError(str(error)) from error

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], None]:
        """What is called with every message."""
        handle = super().create_task_handler(*args, **options)

        def run(message: Any) -> None:
            try:
                handle(message)
            except Exception as error:
                if _is_taken(message) or is_outage(error, self.connection_errors):  # type: ignore[attr-defined]
                    raise
                self.on_invalid_task(None, message, error)

        answers = Answers(self)
        door, repeats = Door(self, answers), Repeats(self, answers, run)
        if self.lookahead is not None:
            self.lookahead.direct.bind(repeats.take)

        def on_message(message: Any) -> None:
            try:
                call = read(message)
            except Exception as error:  # noqa: BLE001 - whatever a decoder makes of hostile bytes
                self.on_invalid_task(None, message, error)
                return
            if call is None:
                repeats.take(message)
            elif call.headers.task in self.strategies:  # type: ignore[attr-defined]
                door.take(message, call)
            else:
                run(message)

        return on_message

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """A message that kombu could not unpack: Celery would only log it."""
        self.on_invalid_task(None, message, exc)


def read(message: Any) -> Call | None:
    """Read a message as a task, and make its headers those that were sent; None when it says that it is our own.

    Raises InvalidTaskError, or what kombu raises for a body that it cannot decode.
    """
    if message.content_type == UNREADABLE:
        raise InvalidTaskError("its envelope cannot be read")
    if isinstance(message.headers, dict):
        message.headers |= {
            name: from_header(value) for name, value in message.headers.items() if isinstance(value, dict | list)
        }
    fence = fence_of(message.headers.get("id"), message.headers)
    if fence is not None:
        message.fence = fence
        _checked(lambda: OwnHeaders.model_validate(message.headers))
        _body(decode(message))
        return None
    if FORMER_HEADER in message.headers and "task" in message.headers:
        raise InvalidTaskError("it was sent by an earlier version of the platform, and its job has been sent anew")
    body = message.decode() if "task" not in message.headers else None
    if isinstance(body, Mapping) and "task" in body:  # Celery's message protocol, version 1
        headers, others = _checked(lambda: foreign_headers(message.headers, {"group": body.get("taskset"), **body}))
        return Call(headers, _body(body_of_version_1(body)), others)
    headers, others = _checked(lambda: foreign_headers(message.headers, message.headers))
    return Call(headers, _body(message.decode()), others)


def body_of_version_1(body: Mapping[str, Any]) -> list[Any]:
    """The same call as a body of version 2."""
    embedded = {"callbacks": body.get("callbacks"), "errbacks": body.get("errbacks"), "chord": body.get("chord")}
    args = body.get("args")
    return [[] if args is None else args, body.get("kwargs") or {}, embedded]


def _body(body: Any) -> Any:
    try:
        return BODY.validate_python(body)
    except pydantic.ValidationError as error:
        raise InvalidTaskError(f"its body is not [args, kwargs, embed]: {first_fault(error)}") from None


def _checked(headers: Callable[[], T]) -> T:
    try:
        return headers()
    except pydantic.ValidationError as error:
        raise InvalidTaskError(f"its headers are not those of a task: {first_fault(error)}") from None


def _is_taken(message: Any) -> bool:
    """Whether the worker has begun to run it, so that its request will acknowledge it."""
    request = state.requests.get(message.headers["id"])
    return request is not None and request.message is message
