"""The consumer, when Celery's own code raises at a message that was read without complaint."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock
from uuid import uuid4

import pytest
from celery import signals
from celery.worker import state
from kombu.message import Message

from tasks import app
from tasks.broker.messages import DISPATCH_HEADER
from tasks.worker.consumer import Consumer
from tests.messages import task_headers


class BrokerGone(OSError):
    """The broker's connection broke."""


@pytest.fixture
def consumer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A consumer without a worker, for the tasks `odd` and `cut off`, whose strategies raise."""
    consumer: Any = Consumer.__new__(Consumer)
    consumer.lookahead = None
    consumer.app = app
    consumer.strategies = {"odd": Mock(side_effect=TypeError("odd")), "cut off": Mock(side_effect=BrokerGone)}
    consumer.connection_errors = (BrokerGone,)
    consumer.on_task_message = set()
    consumer._maximum_prefetch_restored = True
    return consumer


@pytest.fixture
def rejected() -> Iterator[list[Any]]:
    """What the worker was told to set aside."""
    heard: list[Any] = []

    def hear(message: Any, **_: Any) -> None:
        heard.append(message)

    receivers, signals.task_rejected.receivers = signals.task_rejected.receivers, []
    signals.task_rejected.connect(hear)
    yield heard
    signals.task_rejected.receivers = receivers


def _message(task: str) -> Any:
    return Message(
        "[[], {}, {}]",
        delivery_tag="1",
        content_type="application/json",
        content_encoding="utf-8",
        headers=task_headers(task, str(uuid4()), **{DISPATCH_HEADER: 1}),
        channel=Mock(no_ack_consumers=None),
    )


def test_a_message_that_celery_cannot_take_is_set_aside(consumer: Any, rejected: list[Any]) -> None:
    """A message on which Celery raises is a dead letter, acknowledged once."""
    message = _message("odd")
    consumer.create_task_handler()(message)
    assert rejected == [message]
    message.channel.basic_reject.assert_called_once_with("1", requeue=False)


def test_a_message_that_the_worker_has_taken_is_left_to_it(
    consumer: Any, rejected: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that the worker has taken is not acknowledged a second time."""
    message = _message("odd")

    def take_it(*_: Any) -> None:
        monkeypatch.setitem(state.requests, message.headers["id"], SimpleNamespace(message=message))
        raise TypeError("odd")

    consumer.strategies["odd"] = take_it
    with pytest.raises(TypeError, match="odd"):
        consumer.create_task_handler()(message)
    assert rejected == []
    message.channel.basic_reject.assert_not_called()


def test_a_broken_connection_is_no_fault_of_the_message(consumer: Any, rejected: list[Any]) -> None:
    """A message whose connection breaks is no dead letter."""
    with pytest.raises(BrokerGone):
        consumer.create_task_handler()(_message("cut off"))
    assert rejected == []
