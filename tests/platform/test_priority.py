"""One meaning of priority on both brokers."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from tests.live import LivePlatform, eventually


def test_more_urgent_jobs_start_first_in_the_same_order_on_every_broker(platform: LivePlatform, tmp_path: Path) -> None:
    """On every broker jobs start by priority 9 to 0, unset is 0, then in order of arrival."""
    platform.environment["CELERIAC_ORGANIZATION_LIMIT"] = "0"  # the order is the broker's alone
    witness = tmp_path / "order"
    priorities = [*range(10), None, None, *range(9, -1, -1), 0, 9]
    random.Random(7).shuffle(priorities)
    calls: list[tuple[str, list[Any], dict[str, Any], dict[str, Any]]] = [
        (
            "count_words",
            [],
            {"payload": {"words": [str(priority or 0), str(number)], "witness": str(witness)}},
            {} if priority is None else {"priority": priority},
        )
        for number, priority in enumerate(priorities)
    ]
    ids = platform.submit_all(calls)
    eventually(lambda: all(job.dispatched_at for job in platform.jobs()), what="dispatch")
    platform.start_worker(concurrency=1)
    for job_id in ids:
        platform.wait_for(job_id)
    expected = sorted(enumerate(priorities), key=lambda item: (-(item[1] or 0), item[0]))
    assert witness.read_text().split("\n")[:-1] == [f"{priority or 0} {number}" for number, priority in expected]
