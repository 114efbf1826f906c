"""A connection to the broker that is kept only to know whether the broker answers, and takes messages."""

from __future__ import annotations

from typing import Any

from amqp import Message
from celery import Celery
from kombu import Connection

from tasks.broker.publisher import close_quietly, connect
from tasks.broker.transport import AmqpConnection, BrokerBlocked

NOWHERE = "celeriac.nowhere"  # a queue that there is not
A_MOMENT = 0.01  # seconds to read what has come


class Link:
    """One connection, made anew after it broke. For one thread only."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._connection: Connection | None = None

    def ask(self) -> None:
        """Ask the broker for a sign of life; no answer is waited for longer than BROKER_TIMEOUT. Raises its errors.

        Raises BrokerBlocked while RabbitMQ takes no messages.
        """
        try:
            if self._connection is None:
                self._connection = connect(self._app)
            _ask(self._connection)
        except BrokerBlocked:  # on this connection it says when that is over
            raise
        except Exception:
            self.close()
            raise

    def close(self) -> None:
        connection, self._connection = self._connection, None
        close_quietly(connection, "link.close_failed")


def _ask(connection: Connection) -> None:
    """The smallest question that each broker answers.

    RabbitMQ tells nobody that it is short of memory or disk but who publishes, so it gets a message for no queue.
    """
    channel: Any = connection.default_channel
    if connection.transport.driver_type == "amqp":
        _hear(channel.connection)
        channel.basic_publish(Message(b""), exchange="", routing_key=NOWHERE)
        channel.basic_qos(0, 1, a_global=False)  # nothing is consumed here
    else:
        channel.client.ping()


def _hear(connection: AmqpConnection) -> None:
    """Read whether a connection that was blocked still is. Raises BrokerBlocked then."""
    while connection.is_blocked:
        try:
            connection.drain_events(timeout=A_MOMENT)
        except TimeoutError:
            raise BrokerBlocked("RabbitMQ still takes no messages") from None
