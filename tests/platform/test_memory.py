"""The memory of a process that runs bodies."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil

from tests.live import LivePlatform
from tests.servers import Servers

MOST = 10 << 20  # bytes; each attempt that failed left 130 KB


def test_a_process_does_not_grow_by_what_failed_attempts_leave(
    servers: Servers, database_url: str, tmp_path: Path
) -> None:
    """A process that has run 240 attempts that failed is hardly larger than after the first 40."""
    with LivePlatform(database_url, servers.valkey_url, tmp_path) as platform:
        platform.code = Path(__file__).parents[2]  # not forked from a process of the tests, which has its own garbage
        platform.start_worker(concurrency=1)
        first, second = _size_after(platform, 20), _size_after(platform, 100)
    assert second - first < MOST, (first, second)


def _size_after(platform: LivePlatform, share: int) -> int:
    """Bytes of the one process, after so many jobs that fail twice, each with a circuit of its own."""
    arguments = {"payload": {"failures": 2}}
    calls: list[Any] = [("flaky", [], arguments, {"organization": uuid4().hex}) for _ in range(share)]
    for job_id in platform.submit_all(calls):
        assert platform.wait_for(job_id).attempt == 3
    [process] = psutil.Process(platform.worker_pid).children()
    return int(process.memory_info().rss)
