"""A broker that Redis Sentinel watches: `sentinel://:password@host:26379/0?master_name=jobs`, several with semicolons.

kombu takes what follows the question mark as options of the transport, not from the URL.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

SCHEME = "sentinel"
MASTER, PASSWORD, USERNAME = "master_name", "sentinel_password", "sentinel_username"
FORM = "sentinel://:password@host:26379/0?master_name=jobs"


def check(url: str) -> str:
    """The URL of one or several sentinels. Raises ValueError, in one line that holds no password."""
    each = url.split(";")
    if any(urlsplit(one).scheme.lower() != SCHEME for one in each):
        raise ValueError("sentinels and other brokers cannot be mixed in one URL")
    places = [urlsplit(one) for one in each]
    wrong = {name for place in places for name in parse_qs(place.query)} - {MASTER, PASSWORD, USERNAME}
    if wrong:
        raise ValueError(f"after the question mark come {MASTER}, {PASSWORD} and {USERNAME} alone")
    if MASTER not in parse_qs(places[0].query):
        raise ValueError(f"it does not name the master that the sentinels watch: {FORM}")
    if len({(place.username, place.password, place.path.rstrip("/")) for place in places}) > 1:
        raise ValueError("each sentinel is named with the same account and database: those of the servers behind them")
    return url


def place_of(url: str) -> str:
    """The URL of a broker as kombu takes it."""
    return ";".join(one.partition("?")[0] for one in url.split(";")) if _is_one(url) else url


def options_of(url: str) -> dict[str, Any]:
    """What kombu is told besides: the master, and how the sentinels themselves are asked. Nothing for other brokers."""
    if not _is_one(url):
        return {}
    given = {name: values[0] for name, values in parse_qs(urlsplit(url.split(";", maxsplit=1)[0]).query).items()}
    account = {"password": given.get(PASSWORD), "username": given.get(USERNAME)}
    return {MASTER: given[MASTER], "sentinel_kwargs": {name: value for name, value in account.items() if value}}


def _is_one(url: str) -> bool:
    return url.lower().startswith(f"{SCHEME}:")
