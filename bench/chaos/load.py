"""Callers of the API: they create, repeat what was not answered, cancel, look, and distrust every answer."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import httpx2

from bench.chaos.ledger import Ask, Ledger
from bench.chaos.world import World

PAUSE = 1.0  # seconds between two creates of one caller, on average
TIMEOUT = 15.0  # seconds that an answer may take; the platform's own waits are all shorter
RETRY = 0.5
WARM = 15.0  # seconds that an API may take to start
MOST_UNFINISHED = 40  # jobs of one organization: what is left over when the load ends must not take minutes
KINDS = ("quick", "work", "flaky", "later", "cancelled", "cancelled deaf", "doubled")
# What no answer may show: the inside of the server.
INSIDES = ("Traceback (most recent", "psycopg", "sqlalchemy", "SELECT ", "UPDATE jobs")


class Caller:
    """A user of one organization, until `over` is set; what it has asked for, it asks for until there is an answer."""

    def __init__(self, world: World, organization: str, over: threading.Event, rng: random.Random) -> None:
        self._ledger: Ledger = world.ledger
        self._organization = organization
        self._canary = world.canaries[organization]
        self._foreign = [word for name, word in world.canaries.items() if name != organization]
        self._api = world.api
        self._over = over
        self._random = rng
        self._client = httpx2.Client(
            base_url=world.api_url, headers={"Authorization": f"Bearer {world.token(organization)}"}, timeout=TIMEOUT
        )

    def run(self) -> None:
        """Ask for one job after another."""
        with self._client:
            while not self._over.is_set():
                self._one(self._random.choice(KINDS))
                self._look()
                self._over.wait(self._random.uniform(0, 2 * PAUSE))

    def _one(self, kind: str) -> None:
        ask = Ask(uuid4().hex, self._organization, kind)
        body = self._body(kind)
        self._ledger.ask(ask)
        for _ in range(2 if kind == "doubled" else 1):
            self._create(ask, body)
        if kind.startswith("cancelled") and ask.job_id:
            self._over.wait(self._random.uniform(0, 1))
            self._cancel(ask)

    def _body(self, kind: str) -> dict[str, Any]:
        payload: dict[str, Any] = {"canary": self._canary, "seconds": self._random.uniform(0.2, 3)}
        body: dict[str, Any] = {"priority": self._random.randint(0, 9)}
        if kind == "flaky":
            payload |= {"failures": self._random.randint(1, 4)}
        if kind == "later":
            body |= {"scheduledAt": (datetime.now(UTC) + timedelta(seconds=2)).isoformat()}
        types = {"work": "work", "flaky": "flaky", "cancelled": "work", "cancelled deaf": "deaf"}
        return {**body, "jobType": f"chaos.{types.get(kind, 'quick')}", "payload": payload}

    def _create(self, ask: Ask, body: dict[str, Any]) -> None:
        """Repeated under its key until it is answered: that is what the key is for, and the servers come back."""
        while True:
            answer = self._call("POST", "/v1/jobs", json=body, headers={"Idempotency-Key": ask.key})
            if answer is not None and answer.status_code == httpx2.codes.ACCEPTED:
                self._ledger.accept(ask, UUID(answer.json()["jobId"]))
                return
            if answer is not None and answer.is_client_error:
                self._ledger.surprise(f"a create was answered {answer.status_code}: {answer.text[:200]}")
                return
            time.sleep(RETRY)

    def _cancel(self, ask: Ask) -> None:
        answer = self._call("POST", f"/v1/jobs/{ask.job_id}/cancel")
        ask.cancelled = answer is not None and answer.status_code == httpx2.codes.OK

    def _look(self) -> None:
        path = self._random.choice(("/v1/jobs?pageSize=20", "/v1/jobs/recent", "/v1/jobs/history"))
        self._call("GET", path)
        answer = self._call("GET", "/v1/jobs/stats")
        while answer is not None and answer.is_success and answer.json()["totalActive"] > MOST_UNFINISHED:
            if self._over.wait(1):
                return
            answer = self._call("GET", "/v1/jobs/stats")

    def _call(self, method: str, path: str, **options: Any) -> httpx2.Response | None:
        """The answer, once it was looked through; None when there was none."""
        begun = time.monotonic()
        try:
            answer = self._client.request(method, path, **options)
        except httpx2.TransportError:
            self._ledger.miss()
            return None
        self._ledger.count(answer.status_code)
        if begun > self._api.since + WARM:  # not one that waited for an API that is starting again
            self._ledger.took(time.monotonic() - begun)
        for line in wrongs(answer, self._foreign):
            self._ledger.surprise(f"{method} {path.partition('?')[0]}: {line}")
        return answer


def wrongs(answer: httpx2.Response, foreign: list[str]) -> Iterator[str]:
    """What must not be in an answer, whatever is broken; `foreign` are the canaries of others."""
    unavailable = answer.status_code == httpx2.codes.SERVICE_UNAVAILABLE and "Retry-After" in answer.headers
    if answer.is_server_error and not unavailable:
        yield f"status {answer.status_code}: {answer.text[:200]}"
    yield from (f"the body shows {words!r}" for words in INSIDES if words in answer.text)
    yield from (f"the body shows {canary} of another organization" for canary in foreign if canary in answer.text)


@contextmanager
def load(world: World, seed: int) -> Iterator[Callable[[], None]]:
    """Two callers for each organization, until the value is called, which waits for their last answers."""
    over = threading.Event()
    rng = random.Random(seed)
    callers = [Caller(world, name, over, random.Random(rng.random())) for name in world.canaries for _ in range(2)]
    threads = [threading.Thread(target=caller.run, name="caller", daemon=True) for caller in callers]
    for thread in threads:
        thread.start()
    try:
        yield partial(_finish, over, threads)
    finally:
        over.set()


def _finish(over: threading.Event, threads: list[threading.Thread]) -> None:
    over.set()
    until = time.monotonic() + 2 * TIMEOUT
    for thread in threads:
        thread.join(max(0.1, until - time.monotonic()))
        assert not thread.is_alive(), "a create was not answered although all servers are back"
