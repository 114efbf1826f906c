"""API and workers behind a pooler of transactions."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from tests.api.conftest import serving
from tests.live import LivePlatform
from tests.pooler import pooler
from tests.servers import Servers
from tests.tracking.test_pooler import say_limits


def test_jobs_are_created_led_and_run_behind_a_pooler(servers: Servers, database_url: str, tmp_path: Path) -> None:
    """Behind a pooler an API creates and counts jobs, and a worker leads, lets through what is due, and runs it."""
    say_limits(database_url)
    with pooler(database_url) as pooled:
        places = {"DATABASE_URL": pooled, "DATABASE_DIRECT_URL": database_url}
        with (
            serving(database_url, servers.valkey_url, tmp_path, **places) as api,
            LivePlatform(database_url, servers.valkey_url, tmp_path, **places) as platform,
        ):
            platform.start_worker()
            caller, due = api.caller(), platform.submit("noop", countdown=0.2)
            created = [UUID(caller.create().json()["jobId"]) for _ in range(8)]
            assert {each["id"] for each in caller.get("/v1/jobs").json()["jobs"]} == set(map(str, created))
            assert caller.get("/v1/jobs/stats").json()["total"] == len(created)
            assert platform.wait_for(due).status == "succeeded"
