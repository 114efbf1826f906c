"""PostgreSQL fails over to a standby under load: nothing that was accepted is lost or doubled."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

import httpx2

from tests.api.calling import Caller
from tests.api.conftest import Servers, serving
from tests.live import LivePlatform, empty_queues, eventually
from tests.rolling import calling
from tests.standby import pair
from tests.verifying import broken
from tracking.urls import check_database

CALLERS = 3
LASTING = "600"  # seconds of a lease: what runs stays with its worker, so that a body which begins again is a mistake


@dataclass
class Producers:
    """Who creates one job after another, each under a key with which a request without an answer is repeated.

    `accepted`: the job of each key. `words`: what its body leaves behind. `others`: answers that nobody may get.
    """

    caller: Caller
    witness: Path
    accepted: dict[str, UUID] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    others: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """They go on until the end of the block, and until their last request is answered."""
        with calling(self._create_all, CALLERS, self._over, within=120):
            yield

    def wait_for(self, more: int) -> float:
        """The seconds until so many further jobs are accepted."""
        began, before = time.monotonic(), len(self.accepted)
        eventually(lambda: self.others or len(self.accepted) >= before + more, what="further jobs")
        assert self.others == []
        return time.monotonic() - began

    def _create_all(self) -> None:
        while not self._over.is_set() and not self.others:
            self._create(uuid4().hex)

    def _create(self, key: str) -> None:
        payload: dict[str, object] = {"words": [key], "witness": str(self.witness)}
        for _ in range(600):
            answer = self._asked(key, payload)
            if answer is not None and answer.status_code == 202:
                self.accepted[key] = UUID(answer.json()["jobId"])
                return
            if answer is not None and (answer.status_code != 503 or "retry-after" not in answer.headers):
                break
            self.refused[answer.json()["code"] if answer is not None else "no answer"] += 1
            time.sleep(0.1)  # a caller's own pause between two tries
        self.others.append(f"{key}: {answer.text if answer is not None else 'no answer'}")

    def _asked(self, key: str, payload: dict[str, object]) -> httpx2.Response | None:
        try:
            return self.caller.create("count_words", key=key, payload=payload)
        except httpx2.TransportError:
            return None


def test_a_promoted_standby_takes_over_and_nothing_accepted_is_lost_or_doubled(
    servers: Servers, tmp_path: Path
) -> None:
    """The primary dies under load and its standby is promoted: API and worker go on, every job ends once."""
    empty_queues(servers.valkey_url)
    witness = tmp_path / "bodies"
    with pair(tmp_path) as databases:
        url = check_database(databases.url)
        with (
            LivePlatform(url, servers.valkey_url, tmp_path, CELERIAC_LEASE_TIMEOUT=LASTING) as platform,
            serving(url, servers.valkey_url, tmp_path, DATABASE_URL=databases.url) as api,
        ):
            worker = platform.start_worker(DATABASE_URL=databases.url)
            producers = Producers(api.caller("acme"), witness)
            with producers.at_work():
                producers.wait_for(50)
                databases.kill_primary()
                eventually(lambda: producers.refused, what="a refusal")
                databases.promote()
                away = producers.wait_for(50)
            assert set(producers.refused) <= {"database_unavailable", "database_read_only"}, producers.refused
            eventually(lambda: api.client.get("/readyz").status_code == 200, what="readiness")
            for job_id in producers.accepted.values():
                assert platform.wait_for(job_id, within=120).status == "succeeded"
            assert worker.poll() is None
            rows = {job.id: job for job in platform.jobs()}
            assert len(producers.accepted) == len(rows) == len(set(producers.accepted.values()))
            assert [events for each in rows if (events := platform.events(each)).count("completed") != 1] == []
            starts = Counter(witness.read_text().split())
            assert {key: starts[key] for key in producers.accepted if starts[key] != 1} == {}
            assert broken(platform.database) == {}
            sys.stdout.write(f"accepted {len(rows)}, away for {away:.1f} s, refused {dict(producers.refused)}\n")
