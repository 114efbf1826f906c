"""A connection to the broker that is kept only to know whether the broker answers."""

from __future__ import annotations

from typing import Any

from celery import Celery
from kombu import Connection

from tasks.broker.publisher import close_quietly, connect


class Link:
    """One connection, made anew after it broke. For one thread only."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._connection: Connection | None = None

    def ask(self) -> None:
        """Ask the broker for a sign of life; no answer is waited for longer than BROKER_TIMEOUT. Raises its errors."""
        try:
            if self._connection is None:
                self._connection = connect(self._app)
            _ask(self._connection)
        except Exception:
            self.close()
            raise

    def close(self) -> None:
        connection, self._connection = self._connection, None
        close_quietly(connection, "link.close_failed")


def _ask(connection: Connection) -> None:
    """The smallest question that each broker answers."""
    channel: Any = connection.default_channel
    if connection.transport.driver_type == "amqp":
        channel.basic_qos(0, 1, a_global=False)  # nothing is consumed here
    else:
        channel.client.ping()
