"""Messages that a worker answers without a task: something is written first, and the broker hears of it then."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from uuid import UUID

import structlog
from celery.utils.log import get_logger

from tasks.persistence import DatabaseAway, persist
from tasks.platform import Platform

log = structlog.get_logger(__name__)


def tell_all(ended: Sequence[tuple[Any, Callable[[], None]]], errors: tuple[type[Exception], ...]) -> None:
    """Tell of requests whose ends are written, and acknowledge them together; in the event loop."""
    waiting = [request for request, _ in ended if not request.acknowledged]
    for request, tell in ended:
        request.acknowledged = True  # together with the others, instead of by itself
        try:
            tell()
        except Exception:  # as Celery's pool has it: this is the event loop of all jobs
            log.exception("end.untold", job_id=str(request.fence.job_id))
    acknowledge_all([request.message for request in waiting], errors)


def acknowledge_all(messages: Iterable[Any], errors: tuple[type[Exception], ...]) -> None:
    """Acknowledge messages, in the event loop; what a broken connection does not take comes again and is refused."""
    by_channel: dict[int, list[Any]] = defaultdict(list)
    for message in messages:
        by_channel[id(message.channel)].append(message)
    for each in by_channel.values():
        _acknowledge(each[0].channel, each, errors)


def _acknowledge(channel: Any, messages: Sequence[Any], errors: tuple[type[Exception], ...]) -> None:
    if not hasattr(channel, "acknowledge_all"):  # of a broker that is neither RabbitMQ nor Redis
        for message in messages:
            message.ack_log_error(log, errors)
        return
    waiting = [message for message in messages if not message.acknowledged]
    try:
        channel.acknowledge_all([message.delivery_tag for message in waiting])
    except errors as error:
        log.warning("messages.unacknowledged", count=len(waiting), error=type(error).__name__)
    for message in waiting:
        message._state = "ACK"  # noqa: SLF001 - as its own `ack` does


class Answers:
    """How a worker acknowledges such messages, or gives them back."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._platform: Platform = consumer.app.platform

    def after(self, message: Any, write: Callable[[], object], job_id: UUID) -> None:
        """Have `write` called soon, and the message acknowledged then; with a full backlog it goes back."""
        if not self._platform.recorder.record(lambda: self._write(message, write, job_id)):
            self.give_back(message)

    def give_back(self, message: Any) -> None:
        """Let the broker give it to somebody else, or again."""
        self._in_event_loop(lambda logger, errors: message.reject_log_error(logger, errors, requeue=True))

    def _write(self, message: Any, write: Callable[[], object], job_id: UUID) -> None:
        try:
            persist(write, patience=self._platform.settings.claim_patience, job_id=str(job_id))
        except DatabaseAway:
            log.warning("message.given_back", job_id=str(job_id))
            self.give_back(message)
        else:
            self._in_event_loop(message.ack_log_error)

    def _in_event_loop(self, answer: Callable[[Any, Any], None]) -> None:
        """The broker's connection is not to be used by other threads."""
        self._consumer.call_soon_ack(answer, get_logger(__name__), self._consumer.connection_errors)
