"""Callers of several API processes that go on while these are replaced one after the other, and what they were told."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from uuid import uuid4

import httpx2

from tests.live import eventually

CALLERS = 2
NAP = 5.0  # seconds that a job would run which is cancelled
TURN = 0.05  # seconds between two jobs of a caller


@contextmanager
def calling(call: Callable[[], None], callers: int, over: threading.Event, *, within: float) -> Iterator[None]:
    """So many threads call until the block is over, which `over` tells them; each ends so many seconds later."""
    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(within)
    assert not any(thread.is_alive() for thread in threads)


@dataclass
class Load:
    """Jobs over HTTP, by whichever API answers, as behind a balancer: a request that got no answer is repeated.

    `expected`: how each accepted job is to end. `faults`: answers that nobody may get.
    """

    token: Callable[[str], str]
    witness: str
    addresses: list[str] = field(default_factory=list)
    expected: dict[str, str] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    posts: list[float] = field(default_factory=list)
    reads: list[float] = field(default_factory=list)
    _client: httpx2.Client = field(default_factory=lambda: httpx2.Client(timeout=30))
    _over: threading.Event = field(default_factory=threading.Event)
    _turns: Iterator[int] = field(default_factory=count)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Callers submit, look, cancel and retry until the block is over."""
        with closing(self._client), calling(self._call, CALLERS, self._over, within=60):
            yield

    def wait_for(self, more: int) -> None:
        """So many further jobs were accepted."""
        before = len(self.expected)
        eventually(lambda: self.faults or len(self.expected) >= before + more, what="the load")
        assert self.faults == []

    def ask(self, method: str, path: str, organization: str = "acme", **options: object) -> httpx2.Response:
        """The answer of some API to a request that may be repeated."""
        headers = {"Authorization": f"Bearer {self.token(organization)}", **dict(options.pop("headers", {}))}  # type: ignore[call-overload]
        deadline = time.monotonic() + 30
        while True:
            address = self.addresses[next(self._turns) % len(self.addresses)]
            try:
                answer = self._client.request(method, f"{address}{path}", headers=headers, **options)  # type: ignore[arg-type]
            except httpx2.TransportError:  # it is being replaced
                assert time.monotonic() < deadline
                time.sleep(0.01)
                continue
            if answer.status_code >= 500 or answer.status_code in (401, 403, 422):
                self.faults.append(f"{method} {path}: {answer.status_code} {answer.text}")
            return answer

    def figures(self) -> str:
        """The 99th percentiles since the last time that they were asked for, in milliseconds."""
        each = {"POST": self.posts, "status": self.reads}
        said = [f"{name} {statistics.quantiles(times, n=100)[98] * 1000:.0f} ms" for name, times in each.items()]
        for times in each.values():
            times.clear()
        return "p99: " + ", ".join(said)

    def _call(self) -> None:
        for number in count():
            if self._over.is_set():
                return
            kind = ("count_words", "count_words", "flaky", "count_words", "nap", "fail")[number % 6]
            try:
                getattr(self, f"_{kind}")()
            except Exception as error:  # noqa: BLE001 - the test says which
                self.faults.append(repr(error))
                return
            time.sleep(TURN)

    def _submit(self, job_type: str, payload: object, organization: str = "acme") -> str:
        began = time.monotonic()
        # The second time by the next API: the same key is the same job there.
        asked = {"json": {"jobType": job_type, "payload": payload}, "headers": {"Idempotency-Key": uuid4().hex}}
        answers = [
            self.ask("POST", "/v1/jobs", organization, **dict(asked)) for _ in range(1 + (len(self.expected) % 10 == 0))
        ]
        self.posts.append((time.monotonic() - began) / len(answers))
        [job_id] = {str(answer.json()["jobId"]) for answer in answers}
        self.expected[job_id] = "succeeded"
        return job_id

    def _status(self, job_id: str, organization: str = "acme") -> str:
        began = time.monotonic()
        answer = self.ask("GET", f"/v1/jobs/{job_id}/status", organization).json()
        self.reads.append(time.monotonic() - began)
        return str(answer["job"]["status"])

    def _count_words(self) -> None:
        word = uuid4().hex
        job_id = self._submit("count_words", {"words": [word], "witness": self.witness})
        self.words[job_id] = word
        self._status(job_id)

    def _flaky(self) -> None:
        organization = uuid4().hex  # with a circuit of its own: failures in a row would open that of all
        self._status(self._submit("flaky", {"failures": 1}, organization), organization)

    def _nap(self) -> None:
        job_id = self._submit("nap", {"seconds": NAP, "steps": 50})
        if len(self.expected) % 3:  # while it waits; else while it runs
            eventually(lambda: self._status(job_id) != "queued", what="its start")
        self.ask("POST", f"/v1/jobs/{job_id}/cancel")
        assert self._status(job_id) == "cancelled"
        self.expected[job_id] = "cancelled"

    def _fail(self) -> None:
        organization = uuid4().hex  # as above
        job_id = self._submit("fail", {}, organization)
        self.expected[job_id] = "failed"
        eventually(lambda: self._status(job_id, organization) == "failed", what="its failure")
        self.ask("POST", f"/v1/jobs/{job_id}/retry", organization)
