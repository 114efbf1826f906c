"""A worker removes old jobs."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from tests.aged import DAY, aged
from tests.live import LivePlatform, eventually
from tests.servers import Servers
from tests.tracked import Tracked
from tracking.reads import lists


def test_a_worker_removes_old_jobs_by_itself(database_url: str, servers: Servers, tmp_path: Path) -> None:
    """A worker removes old jobs by itself and keeps young ones."""
    with LivePlatform(database_url, servers.valkey_url, tmp_path) as platform:
        with platform.database.autocommit() as connection:
            tracked = Tracked(connection)
            young = tracked.run()
            old = aged(tracked, "succeeded", 31 * DAY)
            platform.start_worker(queues=f"unused-{uuid4()}")
            eventually(lambda: lists.find(connection, old.id) is None, what="the removal")
            assert tracked.all() == [young]
        assert "retention.pruned" in (tmp_path / "worker1.log").read_text()
