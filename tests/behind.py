"""The servers of a test behind a proxy that can do to their connections what a bad network does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import make_url

from bench.chaos.proxy import Proxy, to_port, to_socket


@contextmanager
def broker_behind(proxied_url: str) -> Iterator[tuple[str, Proxy]]:
    """The URL of the same broker behind a proxy."""
    url = make_url(proxied_url)
    with Proxy(to_port(url.port or 5672)) as proxy:
        yield url.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False), proxy


@contextmanager
def database_behind(proxied_url: str) -> Iterator[tuple[str, Proxy]]:
    """The URL of the same database behind a proxy."""
    url = make_url(proxied_url)
    directory = str(url.query["host"])
    with Proxy(to_socket(f"{directory}/.s.PGSQL.5432")) as proxy:
        behind = url.set(host="127.0.0.1", port=proxy.port, query={})
        yield behind.render_as_string(hide_password=False), proxy
