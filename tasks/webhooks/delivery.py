"""Delivery to a web address that a user named: checked, bounded in time, and never into the private network."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import Any

import httpcore
import httpx

from tasks.webhooks.addresses import is_public
from tasks.webhooks.dialling import Dialler, PrivateAddress

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
        return httpx.codes.is_success(self.status)

    def __str__(self) -> str:
        return f"{self.host} answered {self.status}"


def deliver(url: str, body: Mapping[str, Any], *, idempotency_key: str, may_be_private: bool = False) -> int:
    """POST `body` as JSON, following no redirect; returns the 2xx status. Into a private network only if that may be.

    The same `idempotency_key` at every attempt lets the receiver take the message once. Raises DeliveryDelayed when it
    is worth another attempt (no connection, 408, 425, 429, 5xx), else DeliveryRefused.
    """
    content, own = json.dumps(body, ensure_ascii=False).encode(), {"Idempotency-Key": idempotency_key}
    answer = post(url, content, own, may_be_private=may_be_private)
    if answer.status in TRY_AGAIN or answer.status in SERVER_ERRORS:
        raise DeliveryDelayed(str(answer), answer.wish)
    if not answer.is_success:
        raise DeliveryRefused(str(answer))
    return answer.status


def post(url: str, content: bytes, own: Mapping[str, str], *, may_be_private: bool) -> Answer:
    """POST `content`, which is JSON, with headers of our own; whatever the receiver answers.

    Raises DeliveryDelayed when it cannot be reached, DeliveryRefused when it may not be. Neither quotes the path of the
    address: it may hold a secret.
    """
    address = httpx.URL(url)
    if address.userinfo:
        raise DeliveryRefused("an address with a password in it would be kept with the job; use one without")
    headers = {
        "Host": address.netloc.decode("ascii"),
        "User-Agent": f"celeriac/{version('celeriac')}",
        "Content-Type": "application/json",
        "Accept-Encoding": "identity",
        "Connection": "close",
        **own,
    }
    status, wish = _post(address, content, headers, may_be_private=may_be_private)
    return Answer(address.host, status, wish)


def receiver(url: str) -> str:
    """The host of an address, and its port if that is not the usual one."""
    return httpx.URL(url).netloc.decode("ascii")


def _post(
    url: httpx.URL, content: bytes, headers: Mapping[str, str], *, may_be_private: bool
) -> tuple[int, float | None]:
    """The status, and the seconds that the receiver asks to wait."""
    dialler = Dialler(SECONDS, LARGEST_ANSWER, lambda address: may_be_private or is_public(address))
    # The authorities of SSL_CERT_FILE count, but no proxy of the environment: it would look the name up by itself.
    certificates = httpx.create_ssl_context()
    target = httpcore.URL(scheme=url.scheme, host=url.raw_host, port=url.port, target=url.raw_path)
    try:
        with (
            httpcore.ConnectionPool(ssl_context=certificates, network_backend=dialler) as pool,
            pool.stream("POST", target, headers=list(headers.items()), content=content) as response,
        ):
            # The answer is in the status. The rest is taken, as far as it is short, so that the receiver sees no reset.
            with suppress(httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError):
                for _ in response.iter_stream():
                    pass
            return response.status, _wish(response.headers)
    except PrivateAddress:
        raise DeliveryRefused(
            f"{url.host} is in a private network (CELERIAC_WEBHOOKS_PRIVATE=true allows that)"
        ) from None
    except UnicodeError as error:
        raise DeliveryRefused(f"{url.host} is not a host name") from error
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
        raise DeliveryDelayed(f"{url.host} cannot be reached: {type(error).__name__}") from error


def _wish(headers: Iterable[tuple[bytes, bytes]]) -> float | None:
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
