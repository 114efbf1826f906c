"""A database that is away or silent: 503 within five seconds, and everything as before when it is back."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.api.calling import Api, Caller
from tests.api.conftest import serving
from tests.api.faults import Relay, relayed
from tests.live import eventually

PATIENCE = 5  # seconds until the answer
REQUESTS = ["/v1/jobs/stats", "create"] * 15


@pytest.fixture
def behind_a_relay(api_database_url: str, api_broker_url: str, tmp_path: Path) -> Iterator[tuple[Api, Relay]]:
    """An API whose database can be silenced."""
    with relayed(api_database_url) as (url, relay), serving(url, api_broker_url, tmp_path) as api:
        yield api, relay
        relay.heal()


def timed(caller: Caller, path: str) -> tuple[int, str | None, float]:
    """Status, Retry-After and seconds of a read, or of a create; the client checks the answer after them."""
    response = caller.create() if path == "create" else caller.get(path)
    return response.status_code, response.headers.get("retry-after"), response.elapsed.total_seconds()


def test_a_silent_database_is_503_within_five_seconds_for_everyone(behind_a_relay: tuple[Api, Relay]) -> None:
    """A silent database is 503 within 5 s, on old and new connections, for more callers than connections."""
    api, relay = behind_a_relay
    caller = api.caller()
    with ThreadPoolExecutor(30) as threads:
        usual = list(threads.map(lambda path: timed(api.caller(), path), REQUESTS))
        assert {status for status, _, _ in usual} == {200, 202}
        busy = max(seconds for _, _, seconds in usual)  # what as many requests take this machine anyway
        relay.silence()
        for _ in range(2):
            answers = list(threads.map(lambda path: timed(api.caller(), path), REQUESTS))
            assert {status for status, _, _ in answers} == {503}
            assert all(retry_after for _, retry_after, _ in answers)
            assert max(seconds for _, _, seconds in answers) < PATIENCE + busy
        assert api.client.get("/healthz", timeout=2).status_code == 200
        relay.heal()
        eventually(lambda: caller.create().status_code == 202, what="recovery")
        assert caller.get("/v1/jobs").status_code == 200
