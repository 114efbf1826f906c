"""The public keys that check tokens, fetched from an address; only a token with an unknown key waits for a fetch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore2
import jwt
import structlog
from pydantic_core import from_json

from tasks.authorities import Authorities
from tasks.webhooks.dialling import Dialler

PATIENCE = 3.0  # seconds for the whole answer, to its last byte
LARGEST = 1024 * 1024  # bytes of it, and of what comes before it
LIFESPAN = 300.0  # seconds; then the keys are fetched again in the background
LONGEST = 3600.0  # seconds that keys are used while their server fails
UNKNOWN_PAUSE = 30.0  # seconds after a fetch in which a key id that is not among its keys counts as unknown
FAILURE_PAUSE = 5.0  # seconds without another try after one has failed

HEADERS = [("Accept", "application/json"), ("Accept-Encoding", "identity"), ("Connection", "close")]
FAILURES = (httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError, httpcore2.ProxyError)

log = structlog.get_logger(__name__)


class KeysUnavailable(Exception):
    """The server of the keys has no keys to offer now."""


class PublicKeySet:
    """Keys by their ids, for one event loop; at most one fetch runs at any time, in a thread of its own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._trusted = Authorities()
        self._thread = ThreadPoolExecutor(1, "keys")
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._fetched_at = float("-inf")
        self._closed_until = 0.0
        self._fetch: asyncio.Task[bool] | None = None

    async def find(self, key_id: str) -> jwt.PyJWK | None:
        """The key of this id; None when there is no such key. Raises KeysUnavailable when that cannot be known now."""
        key, age = self._keys.get(key_id), time.monotonic() - self._fetched_at
        if key is not None and age < LONGEST:
            if age > LIFESPAN and not self._is_closed:
                self._fetching()
            return key
        if age < UNKNOWN_PAUSE:
            return None
        if self._is_closed or not await asyncio.shield(self._fetching()):
            raise KeysUnavailable
        return self._keys.get(key_id)

    @property
    def _is_closed(self) -> bool:
        return time.monotonic() < self._closed_until

    def _fetching(self) -> asyncio.Task[bool]:
        """The fetch that is on its way, begun if there is none: whether it brought keys."""
        if self._fetch is None or self._fetch.done():
            self._fetch = asyncio.create_task(self._renew())
        return self._fetch

    async def _renew(self) -> bool:
        try:
            body = await asyncio.get_running_loop().run_in_executor(self._thread, self._download)
            self._keys = _signing_keys(body)
        except (KeysUnavailable, *FAILURES, ValueError) as error:
            self._closed_until = time.monotonic() + FAILURE_PAUSE
            log.warning("keys.unavailable", error=type(error).__name__, reason=str(error)[:200])
            return False
        self._fetched_at = time.monotonic()
        return True

    def _download(self) -> bytes:
        dialler = Dialler(PATIENCE, LARGEST, lambda _: True, ports=None)
        body = bytearray()
        with self._pool(dialler) as pool, pool.stream("GET", self._url, headers=HEADERS) as response:
            if response.status != HTTPStatus.OK:  # a redirect, too: where keys come from is not the server's choice
                raise KeysUnavailable(f"the server answers {response.status}")
            for part in response.iter_stream():
                body += part
                dialler.left()  # of many small parts, most have arrived together
        return bytes(body)

    def _pool(self, dialler: Dialler) -> httpcore2.ConnectionPool:
        """Connections that end in time, through the proxy that the environment names, if any."""
        parts = urlsplit(self._url)
        proxy = None if proxy_bypass(str(parts.hostname)) else getproxies().get(parts.scheme)
        if proxy:
            return httpcore2.HTTPProxy(proxy, ssl_context=self._trusted, network_backend=dialler)
        return httpcore2.ConnectionPool(ssl_context=self._trusted, network_backend=dialler)


def _signing_keys(body: bytes) -> dict[str, jwt.PyJWK]:
    """The usable keys of a JWK Set (RFC 7517 §5). Raises KeysUnavailable without any, ValueError without JSON."""
    listed = from_json(body)
    listed = listed.get("keys") if isinstance(listed, dict) else None
    keys = [key for each in (listed if isinstance(listed, list) else ()) if (key := _usable(each)) is not None]
    if not keys:
        raise KeysUnavailable("it lists none that can be used")
    return {str(key.key_id): key for key in keys}


def _usable(entry: Any) -> jwt.PyJWK | None:
    try:
        key = jwt.PyJWK(entry)
    except Exception as error:  # noqa: BLE001 - whatever the library makes of another kind of entry; the others count
        log.info("keys.ignored", error=type(error).__name__)
        return None
    return key if isinstance(key.key_id, str) and key.public_key_use in ("sig", None) else None
