"""Checks of the broker: that it answers, confirms, and hands out what is urgent first."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import amqp
from kombu import Connection, Producer, Queue

from tasks.broker.link import Link
from tasks.broker.publisher import close_quietly, connect
from tasks.broker.transport import BROKER_TIMEOUT, BrokerBlocked
from tasks.doctor.findings import Check, Finding, failed, fine, new_name, warning
from tasks.platform import Platform

CANARIES = (5, 0, 9, 3, 7, 1)  # priorities, in the order in which they are sent
LIFE = 60_000  # milliseconds after which RabbitMQ removes the queue of a check that was killed
RABBITMQ_WAITS = 1800  # seconds: consumer_timeout, unless somebody has changed it
REDIS_WAITS = 3600  # seconds: kombu's visibility_timeout, likewise


def checks(platform: Platform) -> list[Check]:
    """Those of the broker."""
    needs = ("broker",)
    return [
        Check("broker", lambda: _broker(platform)),
        Check("confirms", lambda: _confirms(platform), needs),
        Check("priority", lambda: _priority(platform), (*needs, "confirms")),
        Check("acknowledgement", lambda: _acknowledgement(platform)),
    ]


def is_rabbitmq(platform: Platform) -> bool:
    """Whether the broker is RabbitMQ; else it is Redis or Valkey."""
    return platform.settings.broker.startswith("amqp")


def _broker(platform: Platform) -> Finding:
    name = "RabbitMQ" if is_rabbitmq(platform) else "Redis"
    link = Link(platform.app)
    try:
        link.ask()  # connects
        began = time.monotonic()
        link.ask()
    except BrokerBlocked as error:
        mend = "free some there: `rabbitmq-diagnostics alarms` tells which; jobs wait in their rows until then"
        return failed("broker", str(error), mend)
    except Exception as error:  # noqa: BLE001 - each transport has errors of its own
        said = f"{name} does not answer: {type(error).__name__}"
        return failed("broker", said, "start it, or set BROKER_URL to where it is; jobs wait in their rows until then")
    finally:
        link.close()
    return fine("broker", f"{name} answers within {(time.monotonic() - began) * 1000:.1f} ms")


def _confirms(platform: Platform) -> Finding:
    with _queue_of_its_own(platform) as (queue, producer):
        began = time.monotonic()
        try:
            _publish(producer, queue, 0)
        except amqp.exceptions.MessageNacked:
            mend = "look for a policy that bounds queues (`rabbitmqctl list_policies`), and at the broker's log"
            return failed("confirms", "the broker refuses the message, although its queue is there", mend)
        took = (time.monotonic() - began) * 1000
        message = _get(queue)
    if message is None:
        return failed("confirms", "the broker has confirmed a message that it does not have", "look at its log")
    return fine("confirms", f"a message is confirmed within {took:.1f} ms, and is there")


def _priority(platform: Platform) -> Finding:
    """Messages of several priorities, sent in one order, come in another."""
    with _queue_of_its_own(platform) as (queue, producer):
        for priority in CANARIES:
            _publish(producer, queue, priority)
        got = [_priority_of(message) for message in iter(lambda: _get(queue), None)]
    wanted = sorted(CANARIES, reverse=True)
    wrong = _made_otherwise(platform) if is_rabbitmq(platform) else None
    if wrong is not None:
        said = f"the queue {wrong} was made otherwise than here, such as without x-max-priority"
        mend = f"without a worker, `rabbitmqctl delete_queue {wrong}`: the rows send its messages again"
        return failed("priority", said, mend)
    if got == wanted:
        return fine("priority", f"sent as {_words(CANARIES)}, received as {_words(got)}")
    mend = "let nothing change the priorities of messages or the arguments of queues on the way, such as a policy"
    return failed("priority", f"sent as {_words(CANARIES)}, received as {_words(got)}", mend)


def _made_otherwise(platform: Platform) -> str | None:
    """A queue of RabbitMQ's in which messages have other priorities, or none, as somebody else has made it."""
    with closing(connect(platform.app, confirm=False)) as connection:
        for queue in platform.app.amqp.queues.values():
            found = queue(connection.channel())
            try:
                found.queue_declare(passive=True)  # one that is not there yet stays so
                found.queue_declare()
            except (amqp.NotFound, amqp.AccessRefused):  # whose account may not ask, a worker's will
                continue
            except amqp.PreconditionFailed:
                return str(queue.name)
    return None


def _acknowledgement(platform: Platform) -> Finding:
    """Whether a handler may run longer than the broker waits for an acknowledgement, which comes with its outcome."""
    if not is_rabbitmq(platform):
        waits = platform.app.conf.broker_transport_options.get("visibility_timeout", REDIS_WAITS)
        return fine("acknowledgement", f"a message is delivered again after {waits} s, and refused while its job runs")
    default = platform.app.conf.task_time_limit
    known = {name: task for name, task in platform.app.tasks.items() if not name.startswith("celery.")}
    limits = {name: getattr(task, "time_limit", None) or default for name, task in known.items()}
    longer = sorted(name for name, limit in limits.items() if limit is None or limit > RABBITMQ_WAITS)
    said = f"consumer_timeout of RabbitMQ is {RABBITMQ_WAITS} s, unless it was changed there, which cannot be read here"
    if not longer:
        return fine("acknowledgement", f"no handler runs longer than {max(limits.values(), default=0):g} s; {said}")
    which = ", ".join(f"{name} ({f'{limits[name]:g} s' if limits[name] else 'no limit'})" for name in longer[:3])
    mend = "raise consumer_timeout above them, or give them a time_limit: meanwhile a worker loses its connection"
    return warning("acknowledgement", f"{len(longer)} handlers may run longer: {which}; {said}", mend)


@contextmanager
def _queue_of_its_own(platform: Platform) -> Iterator[tuple[Queue, Producer]]:
    connection: Connection | None = None
    try:
        connection = connect(platform.app, confirm=True)
        name = new_name()
        arguments = {"x-max-priority": 9, "x-expires": LIFE}
        queue = Queue(
            name, routing_key=name, exclusive=True, auto_delete=True, durable=False, queue_arguments=arguments
        )
        bound = queue(connection.default_channel)
        bound.declare()
        try:
            yield bound, Producer(connection.default_channel, auto_declare=False)
        finally:
            bound.delete()
    finally:
        close_quietly(connection, "doctor.close_failed")


def _publish(producer: Producer, queue: Queue, priority: int) -> None:
    """Returns when the broker has confirmed it, or, being Redis, answered. Raises what says that it has not."""
    producer.publish(
        {"canary": priority},
        routing_key=queue.name,
        exchange="",
        priority=priority,
        retry=False,
        confirm_timeout=BROKER_TIMEOUT,
    )


def _get(queue: Queue) -> Any:
    return queue.get(no_ack=True, accept=["json"])


def _priority_of(message: Any) -> int:
    return int(message.payload["canary"])


def _words(priorities: Any) -> str:
    return " ".join(map(str, priorities)) or "nothing"
