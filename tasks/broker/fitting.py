"""Whether a broker is of a kind on which messages can be sent and taken as the platform does."""

from __future__ import annotations

from typing import Any

from kombu import Connection
from redis.exceptions import ResponseError

from tracking.errors import ConfigurationError

CLUSTER = (
    "BROKER_URL: it is a node of a Redis Cluster, where the ten lists of a queue and what is not acknowledged lie on"
    " several nodes; a worker needs them on one. Take a Redis that is none, with Sentinel or behind one address"
)
QUORUM = (
    "BROKER_URL: its virtual host makes quorum queues, or has one of that name: they have no ten priorities before"
    " RabbitMQ 4.3. Set its default_queue_type to classic, and let no policy change it"
)
QUORUM_SAID = "rabbit_quorum_queue"  # by RabbitMQ, of a queue that it refuses to make


def require_fitting_broker(connection: Connection) -> None:
    """Refuse a broker on which jobs could not run. Raises ConfigurationError, and the broker's own errors."""
    if connection.transport.driver_type != "redis":
        return
    channel: Any = connection.default_channel
    try:
        cluster = channel.client.info("cluster")
    except ResponseError:  # an account that may not ask
        return
    if cluster.get("cluster_enabled"):
        raise ConfigurationError(CLUSTER)
