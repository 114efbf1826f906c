"""Many acknowledgements in one frame or round trip: the broker forgets exactly what was answered."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from uuid import uuid4

import amqp
from amqp import spec
from hypothesis import given
from hypothesis import strategies as st
from kombu import Connection

from tasks.broker.transport import AmqpChannel
from tests.live import eventually
from tests.servers import Servers


class Recorded(AmqpChannel):
    """A channel to a broker that closes it, as RabbitMQ does, for a tag that is not unacknowledged."""

    def __init__(self) -> None:
        self._unanswered = {}
        self.no_ack_consumers = {"remote control"}
        self.callbacks = {"tasks": lambda _: None, "remote control": lambda _: None}
        self.unacknowledged: set[int] = set()
        self.frames = 0

    def deliver(self, tag: int, consumer: str = "tasks") -> None:
        if consumer == "tasks":
            self.unacknowledged.add(tag)
        self._on_basic_deliver(consumer, tag, *(False, "", ""), amqp.Message())

    def send_method(self, sig: Any, *arguments: Any, **_: Any) -> None:
        self.frames += 1
        tag, flag = arguments[1]
        assert tag in self.unacknowledged, "PRECONDITION_FAILED - unknown delivery tag"
        is_multiple = sig == spec.Basic.Ack and flag
        self.unacknowledged -= {each for each in self.unacknowledged if each <= tag} if is_multiple else {tag}


@given(st.data())
def test_rabbitmq_forgets_exactly_what_was_answered(data: st.DataObject) -> None:
    """Whatever is acknowledged together, alone, or rejected, in any order: the rest stays, no other tag is named."""
    channel, waiting, tag = Recorded(), set[int](), 0
    for _ in range(data.draw(st.integers(1, 12))):
        for _ in range(data.draw(st.integers(0, 6))):
            tag += 1
            consumer = data.draw(st.sampled_from(["tasks", "tasks", "remote control"]))
            channel.deliver(tag, consumer)
            waiting |= {tag} if consumer == "tasks" else set()
        if not waiting:
            continue
        how = data.draw(st.sampled_from(["together", "together", "alone", "rejected"]))
        some = data.draw(st.lists(st.sampled_from(sorted(waiting)), unique=True, min_size=1))
        if how == "together":
            channel.acknowledge_all(some)
        else:
            for each in some:
                _ = channel.basic_ack(each) if how == "alone" else channel.basic_reject(each, requeue=True)
        waiting -= set(some)
        assert channel.unacknowledged == waiting


def test_one_frame_answers_all_that_were_delivered_before_the_first_that_still_runs() -> None:
    """A long job's message has no answer: those before it go with one frame, those behind it each with its own."""
    channel = Recorded()
    for tag in range(1, 101):
        channel.deliver(tag)
    channel.acknowledge_all([tag for tag in range(1, 101) if tag != 90])
    assert (channel.frames, channel.unacknowledged) == (1 + 10, {90})


def test_a_message_that_is_answered_already_is_named_to_no_broker() -> None:
    """To acknowledge again what was acknowledged sends nothing."""
    channel = Recorded()
    channel.deliver(1)
    channel.acknowledge_all([1])
    channel.acknowledge_all([1])
    assert channel.frames == 1


def test_valkey_forgets_exactly_what_was_answered(servers: Servers) -> None:
    """Of five unacknowledged messages three are acknowledged in one round trip, and two stay for their worker."""
    queue = f"acknowledged-{uuid4()}"
    with Connection(servers.valkey_url) as connection, connection.SimpleQueue(queue) as waiting:
        for number in range(5):
            waiting.put(number)
        messages: list[Any] = [waiting.get(timeout=5) for _ in range(5)]
        channel, tags = messages[0].channel, [message.delivery_tag for message in messages]
        assert set(tags) <= _unacknowledged(channel)
        channel.acknowledge_all(tags[:3])
        assert _unacknowledged(channel) & set(tags) == set(tags[3:])
        assert channel.qos._dirty == set(tags[:3])  # what kombu counts no more
        for message in messages[3:]:
            message.ack()


def _unacknowledged(channel: Any) -> set[str]:
    return {each.decode() for each in channel.client.hkeys(channel.unacked_key)}


def test_valkey_gives_a_worker_as_many_messages_at_once_as_it_has_room_for(servers: Servers) -> None:
    """Of thirty messages in three priorities a channel with room for twelve takes those that come first one by one."""
    queue = f"at-once-{uuid4()}"
    with Connection(servers.valkey_url) as connection:
        with connection.SimpleQueue(queue) as waiting:
            for number in range(30):
                waiting.put(number, priority=number % 3)
        taken: list[Any] = []
        consumer = connection.Consumer([waiting.queue], callbacks=[lambda _, each: taken.append(each)])
        consumer.qos(prefetch_count=12)
        channel: Any = consumer.channel
        channel.room = channel.qos.can_consume_max_estimate
        consumer.consume()

        def have_come() -> bool:
            with suppress(TimeoutError):
                connection.drain_events(timeout=0.1)
            return len(taken) >= 12

        eventually(have_come, what="messages")
        assert [each.payload for each in taken] == [*range(2, 30, 3), 1, 4][:12]
        assert {each.delivery_tag for each in taken} <= _unacknowledged(channel)
        channel.acknowledge_all([each.delivery_tag for each in taken])
        assert not {each.delivery_tag for each in taken} & _unacknowledged(channel)
        consumer.cancel()


def test_what_is_answered_at_once_is_not_left_behind(servers: Servers) -> None:
    """Messages that come together and are acknowledged, or requeued, at once are gone, or come again."""
    queue = f"answered-{uuid4()}"
    with Connection(servers.valkey_url) as connection, connection.SimpleQueue(queue) as waiting:
        for number in range(20):
            waiting.put(number)
        seen: list[int] = []

        def answer(body: int, message: Any) -> None:
            seen.append(body)
            _ = message.requeue() if body % 2 and seen.count(body) == 1 else message.ack()

        consumer = connection.Consumer([waiting.queue], callbacks=[answer])
        consumer.qos(prefetch_count=12)
        channel: Any = consumer.channel
        channel.room = channel.qos.can_consume_max_estimate
        consumer.consume()

        def have_come() -> bool:
            with suppress(TimeoutError):
                connection.drain_events(timeout=0.1)
            return len(seen) == 30

        eventually(have_come, what="messages")
        consumer.cancel()
        assert sorted(seen) == sorted([*range(20), *range(1, 20, 2)])
        left = channel.client.hvals(channel.unacked_key)
        assert not [each for each in left if queue in each.decode()]
