"""Delivery to a web address that a user named: checked, bounded in time, and never into the private network."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import httpx

from tracking.settings import settings

TIMEOUT = httpx.Timeout(10, connect=5)  # seconds for each wait; the job's time limit bounds their sum
TRY_AGAIN = frozenset({408, 425, 429})
SERVER_ERRORS = range(500, 600)

# Addresses with another one inside: a translator in the network may lead them there (RFC 6052, 8215, 3056).
TRANSLATED = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16")))


class DeliveryDelayed(ConnectionError):
    """The receiver cannot take the message now; a later attempt may succeed."""


class DeliveryRefused(Exception):
    """The message cannot be delivered to this address."""


def deliver(url: str, body: Mapping[str, Any], *, idempotency_key: str) -> int:
    """POST `body` as JSON, following no redirect; returns the 2xx status.

    The same `idempotency_key` at every attempt lets the receiver take the message once. Raises DeliveryDelayed when it
    is worth another attempt (no connection, 408, 425, 429, 5xx), else DeliveryRefused. Neither quotes the
    path of the address: it may hold a secret.
    """
    address = httpx.URL(url)
    if address.userinfo:
        raise DeliveryRefused("an address with a password in it would be kept with the job; use one without")
    headers = {"Idempotency-Key": idempotency_key, "User-Agent": f"celeriac/{version('celeriac')}"}
    status = _post(address, _reachable(address), body, headers)
    if status in TRY_AGAIN or status in SERVER_ERRORS:
        raise DeliveryDelayed(f"{address.host} answered {status}")
    if not httpx.codes.is_success(status):
        raise DeliveryRefused(f"{address.host} answered {status}")
    return status


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in TRANSLATED)


def _reachable(url: httpx.URL) -> str:
    """An IP address of the URL's host that may be connected to."""
    port = url.port or {"http": 80, "https": 443}[url.scheme]
    try:
        found = socket.getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise DeliveryDelayed(f"{url.host} cannot be resolved") from error
    except UnicodeError as error:
        raise DeliveryRefused(f"{url.host} is not a host name") from error
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        if settings().webhooks_private or is_public(address):
            return address
    raise DeliveryRefused(f"{url.host} is in a private network (CELERIAC_WEBHOOKS_PRIVATE=true allows that)")


def _post(url: httpx.URL, address: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> int:
    # To the address that was checked, not to the name: a second look-up could give another one. The certificate is
    # still checked against the name.
    headers = {**headers, "Host": url.netloc.decode("ascii")}
    extensions = {"sni_hostname": url.raw_host.decode("ascii")}
    target = url.copy_with(host=address)
    # The authorities of SSL_CERT_FILE count, but no proxy of the environment: it would look the name up by itself.
    certificates = httpx.create_ssl_context()
    try:
        with (
            httpx.Client(verify=certificates, timeout=TIMEOUT, trust_env=False, follow_redirects=False) as client,
            client.stream("POST", target, json=body, headers=headers, extensions=extensions) as response,
        ):
            return response.status_code  # the body is not read: nobody needs it, and it may be endless
    except httpx.TransportError as error:
        raise DeliveryDelayed(f"{url.host} cannot be reached: {type(error).__name__}") from error
