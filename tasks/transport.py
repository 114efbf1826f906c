"""One meaning of priority on RabbitMQ and on Redis: 0-9, higher is more urgent, unset is 0."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from kombu import transport
from kombu.transport import redis as kombu_redis


class Channel(kombu_redis.Channel):
    """kombu's Redis channel with ten priorities, the highest first.

    kombu empties its lists in ascending order of priority, so the message's priority is reversed where the list is
    chosen. Not when it is published: a message that is sent again would be turned around twice.
    """

    priority_steps = list(range(10))  # noqa: RUF012 - kombu declares it so

    @cached_property
    def _synchronous_client(self) -> Any:
        return super()._create_client()  # type: ignore[misc]  # missing in the stubs

    def _create_client(self, asynchronous: bool = False) -> Any:  # noqa: FBT001, FBT002 - kombu's signature
        # kombu makes a client for every publish and acknowledgement, which costs more than the command itself.
        if asynchronous:
            return super()._create_client(asynchronous=True)  # type: ignore[misc]  # missing in the stubs
        return self._synchronous_client

    def _get_message_priority(self, message: dict[str, Any], reverse: bool = False) -> int:  # noqa: FBT001, FBT002
        return int(super()._get_message_priority(message, reverse=not reverse))


class Transport(kombu_redis.Transport):
    """kombu's Redis transport with our channel."""

    Channel = Channel


def register() -> None:
    """Take the place of kombu's `redis` and `rediss`.

    The schemes stay, so that Flower recognises the broker. Must run before the first connection of a process.
    """
    for scheme in ("redis", "rediss"):
        transport.TRANSPORT_ALIASES[scheme] = f"{__name__}:Transport"
