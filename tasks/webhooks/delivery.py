"""Delivery to a web address that a user named: checked, bounded in time, and never into the private network."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Self

import httpcore2
import httpx2

from tasks.webhooks.asking import Forbidden, Unreachable, asking
from tracking.settings import Settings

SECONDS = 15.0  # for all of a delivery: looking up, connecting, sending, the answer
LARGEST_ANSWER = 64 * 1024  # bytes that are read of an answer
LONGEST_WAIT = 3600.0  # seconds that a receiver may ask us to wait
TRY_AGAIN = frozenset({408, 425, 429})
SERVER_ERRORS = range(500, 600)


class DeliveryDelayed(ConnectionError):
    """The receiver cannot take the message now; a later attempt may succeed.

    `retry_after` are the seconds that the receiver asked for, at most LONGEST_WAIT; None when it did not.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeliveryRefused(Exception):
    """The message cannot be delivered to this address."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver has answered, and the seconds that it asks to wait; None: it does not."""

    host: str
    status: int
    wish: float | None

    @property
    def is_success(self) -> bool:
        """Whether it has taken the message."""
        return httpx2.codes.is_success(self.status)

    def __str__(self) -> str:
        return f"{self.host} answered {self.status}"


@dataclass(frozen=True, slots=True)
class Reach:
    """Where deliveries may go: into private networks at any port, else to these ports of the public internet."""

    may_be_private: bool
    ports: Collection[int]

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As the operator says."""
        return cls(settings.webhooks_private, settings.webhooks_ports)


def deliver(url: str, body: Mapping[str, Any], *, idempotency_key: str, reach: Reach) -> int:
    """POST `body` as JSON, following no redirect; returns the 2xx status.

    The same `idempotency_key` at every attempt lets the receiver take the message once. Raises DeliveryDelayed when it
    is worth another attempt (no connection, 408, 425, 429, 5xx), else DeliveryRefused.
    """
    content, own = json.dumps(body, ensure_ascii=False).encode(), {"Idempotency-Key": idempotency_key}
    answer = post(url, content, own, reach=reach)
    if answer.status in TRY_AGAIN or answer.status in SERVER_ERRORS:
        raise DeliveryDelayed(str(answer), answer.wish)
    if not answer.is_success:
        raise DeliveryRefused(str(answer))
    return answer.status


def post(url: str, content: bytes, own: Mapping[str, str], *, reach: Reach) -> Answer:
    """POST `content`, which is JSON, with headers of our own; whatever the receiver answers.

    Raises DeliveryDelayed when it cannot be reached, DeliveryRefused when it may not be. Neither quotes the path of the
    address: it may hold a secret.
    """
    try:
        with asking(
            *("POST", url, {"Content-Type": "application/json", **own}, content),
            seconds=SECONDS,
            most=LARGEST_ANSWER,
            may_be_private=reach.may_be_private,
            ports=None if reach.may_be_private else reach.ports,
            setting="CELERIAC_WEBHOOKS_PRIVATE",
        ) as (response, _dialler):
            # The answer is in the status. The rest is taken, as far as it is short, so that the receiver sees no reset.
            with suppress(httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError):
                for _ in response.iter_stream():
                    pass
            return Answer(httpx2.URL(url).host, response.status, wish_of(response.headers))
    except Forbidden as error:
        raise DeliveryRefused(str(error)) from error
    except Unreachable as error:
        raise DeliveryDelayed(str(error)) from error


def receiver(url: str) -> str:
    """The host of an address, and its port if that is not the usual one."""
    return httpx2.URL(url).netloc.decode("ascii")


def wish_of(headers: Iterable[tuple[bytes, bytes]]) -> float | None:
    """Retry-After in seconds: a number of them, or a date (RFC 9110, 10.2.3); None without one that can be read."""
    value = next((value.decode("latin-1").strip() for name, value in headers if name.lower() == b"retry-after"), "")
    if value.isascii() and value.isdigit():
        return min(float(value[:10]), LONGEST_WAIT)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max((moment - datetime.now(UTC)).total_seconds(), 0.0), LONGEST_WAIT)
