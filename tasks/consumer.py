"""The worker's consumer: whatever message arrives, it lives and goes on, and what is no task is set aside.

Celery's own consumer checks less: a body of another shape, or an id that is an object, raises in its event loop and
ends the worker. Nobody has acknowledged the message then, so it goes to the next worker and ends that one, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pydantic
from celery.exceptions import InvalidTaskError
from celery.worker import state
from celery.worker.consumer import Consumer as CeleryConsumer

from tasks import commands  # noqa: F401 - a worker's answers to remote control
from tasks.encoding import from_header
from tasks.transport import UNREADABLE, is_outage

Limit = pydantic.StrictFloat | pydantic.StrictInt | None


class Headers(pydantic.BaseModel):
    """What Celery uses of a message's headers without looking (its message protocol, version 2)."""

    task: str
    id: str
    timelimit: tuple[Limit, Limit] | None = None
    eta: None = None  # a job waits in its row; a message that has to wait would be kept in the worker's memory


BODY: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(tuple[list[Any], dict[str, Any], dict[str, Any] | None])


class Consumer(CeleryConsumer):
    """Celery's consumer, in front of which every message is read once."""

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], None]:
        """What is called with every message."""
        handle = super().create_task_handler(*args, **options)

        def on_message(message: Any) -> None:
            try:
                check(message)
            except Exception as error:  # noqa: BLE001 - whatever a decoder makes of hostile bytes
                self.on_invalid_task(None, message, error)
                return
            try:
                handle(message)
            except Exception as error:
                if _is_taken(message) or is_outage(error, self.connection_errors):  # type: ignore[attr-defined]
                    raise
                self.on_invalid_task(None, message, error)

        return on_message

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """A message that kombu could not unpack: Celery would only log it."""
        self.on_invalid_task(None, message, exc)


def check(message: Any) -> None:
    """Read a message as a task, and make its headers those that were sent.

    Raises InvalidTaskError, or what kombu raises for a body that it cannot decode.
    """
    if message.content_type == UNREADABLE:
        raise InvalidTaskError("its envelope cannot be read")
    if isinstance(message.headers, dict):
        message.headers = {name: from_header(value) for name, value in message.headers.items()}
    try:
        Headers.model_validate(message.headers)
    except pydantic.ValidationError as error:
        raise InvalidTaskError(f"its headers are not those of a task: {_first(error)}") from None
    body = message.decode()
    try:
        BODY.validate_python(body)
    except pydantic.ValidationError as error:
        raise InvalidTaskError(f"its body is not [args, kwargs, embed]: {_first(error)}") from None


def _first(error: pydantic.ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'all of it'}: {first['msg']}"


def _is_taken(message: Any) -> bool:
    """Whether the worker has begun to run it, so that its request will acknowledge it."""
    request = state.requests.get(message.headers["id"])
    return request is not None and request.message is message
