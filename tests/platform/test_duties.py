"""A duty of the leader's that has to wait delays no other."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from sqlalchemy import text

from tests.live import LivePlatform, eventually
from tests.servers import Servers
from tests.tracked import Tracked


def test_a_lock_that_a_duty_waits_for_delays_neither_the_dead_workers_jobs_nor_others(
    servers: Servers, database_url: str, tmp_path: Path
) -> None:
    """A lock that retention waits for delays no other duty."""
    quick = {"CELERIAC_STATEMENT_TIMEOUT": "1", "CELERIAC_LEASE_TIMEOUT": "3", "CELERIAC_HEARTBEAT": "0.5"}
    with LivePlatform(database_url, servers.valkey_url, tmp_path, **quick) as platform:
        with platform.database.autocommit() as connection:
            tracked = Tracked(connection)
            lost = tracked.start(tracked.submit(job_type="noop"), lease=uuid4())
        with platform.database.begin() as connection:
            connection.execute(text("LOCK TABLE groups IN ACCESS EXCLUSIVE MODE"))
            platform.start_worker()
            assert platform.wait_for(lost.id, within=30).status == "succeeded"
            assert platform.wait_for(platform.submit("noop", countdown=0.2)).status == "succeeded"
            eventually(lambda: "duty.failed" in platform.log(), what="the failure of retention")
        assert "duty=retention " in platform.log()
