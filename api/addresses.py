"""From where requests come: which addresses are proxies, and how much of a process one that is none may take."""

from __future__ import annotations

import ipaddress
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import structlog

from api.problems import RETRY_AFTER, Code, Problem
from tracking.settings import Settings
from tracking.urls import ANY_ADDRESS

CLOSE = {"Connection": "close"}
LOOPBACK = ("127.0.0.0/8", "::1")
TELLING = 60.0  # seconds between two lines of the log about it

log = structlog.get_logger(__name__)


class Proxies:
    """Who is believed when it says for whom it asks: addresses and networks."""

    def __init__(self, given: Sequence[str]) -> None:
        self._all = ANY_ADDRESS in given
        self._networks = [ipaddress.ip_network(each) for each in given if each != ANY_ADDRESS]
        self._trusts = lru_cache(1024)(self._look)

    def __contains__(self, host: str) -> bool:
        return self._all or self._trusts(host)

    def _look(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in self._networks)


def proxies(settings: Settings) -> Proxies:
    """Those that the settings name."""
    return Proxies(settings.trusted_proxies or LOOPBACK)


class Addresses:
    """What each address has in this process: open connections, and requests that are being answered.

    Of proxies neither is counted: what they ask is counted of whom they ask for.
    """

    def __init__(self, most: int, proxies: Proxies) -> None:
        self.most = most
        self._proxies = proxies
        self._connections: defaultdict[str, set[Any]] = defaultdict(set)
        self._requests: Counter[str] = Counter()
        self._told_at = float("-inf")

    def opened(self, host: str | None, connection: object) -> set[Any]:
        """Count a connection; all those of its address, if there is one too many, else none."""
        if not self._is_counted(host):
            return set()
        mine = self._connections[_whole(str(host))]
        mine.add(connection)
        return mine if len(mine) > self.most else set()

    def closed(self, host: str | None, connection: object) -> None:
        """Count it no more; once is enough."""
        if not self._is_counted(host):
            return
        mine = self._connections[_whole(str(host))]
        mine.discard(connection)
        if not mine:
            del self._connections[_whole(str(host))]

    @contextmanager
    def asking(self, host: str | None) -> Iterator[None]:
        """Within it a request is answered. Raises the 429 problem when the address has too many of them."""
        if not self._is_counted(host):
            yield
            return
        address = _whole(str(host))
        if self._requests[address] >= self.most:
            self._tell(address)
            detail = f"{self.most} requests of an address are answered at a time, live streams among them."
            raise Problem(Code.TOO_MANY_CONNECTIONS, detail, headers={**RETRY_AFTER, **CLOSE})
        self._requests[address] += 1
        try:
            yield
        finally:
            self._requests[address] -= 1
            if not self._requests[address]:
                del self._requests[address]

    def _is_counted(self, host: str | None) -> bool:
        return bool(self.most) and host is not None and host not in self._proxies

    def _tell(self, address: str) -> None:
        if time.monotonic() - self._told_at > TELLING:
            self._told_at = time.monotonic()
            hint = "if it is a proxy, CELERIAC_TRUSTED_PROXIES should name it"
            log.warning("address.crowded", address=address, most=self.most, hint=hint)


@lru_cache(1024)
def _whole(host: str) -> str:
    """An address, or of IPv6 the network that one customer has whole."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    mapped = address.ipv4_mapped
    return str(mapped) if mapped else str(ipaddress.ip_network((address, 64), strict=False))
