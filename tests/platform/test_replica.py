"""Lists are read from a replica while it is near, and from the primary otherwise; what a job is now never is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.chaos.proxy import Mode
from tests.api.calling import Api, Caller
from tests.api.conftest import Servers, serving
from tests.live import eventually
from tests.standby import Pair, ask, pair
from tracking.db import Database, run
from tracking.settings import settings
from tracking.tenancy import confined_to
from tracking.urls import check_database

LISTS = ("/v1/jobs", "/v1/jobs/stats", "/v1/jobs/history", "/v1/projects/p/jobs", "/v1/errors", "/v1/audit")


@dataclass
class Replicated:
    """An API with a primary and a replica, another one whose replica must be near, and both databases."""

    api: Api
    strict: Api
    databases: Pair

    def state(self) -> str:
        """What `/readyz` of the strict one says of the replica."""
        return str(self.strict.client.get("/readyz").json()["checks"]["replica"])

    def stop_replay(self) -> None:
        """The standby shows nothing further of what it gets."""
        ask(self.databases.standby, "SELECT pg_wal_replay_pause()")
        eventually(
            lambda: ask(self.databases.standby, "SELECT pg_get_wal_replay_pause_state()") == "paused",
            what="a replica that stands still",
        )

    def resume_replay(self) -> None:
        """It shows all that it has."""
        ask(self.databases.standby, "SELECT pg_wal_replay_resume()")


@pytest.fixture(scope="module")
def both(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicated]:
    """APIs that read lists from a replica, which may be ten minutes behind, or two seconds."""
    directory = tmp_path_factory.mktemp("replica")
    with pair(directory) as databases:
        primary, standby = (check_database(databases.url_of(door)) for door in databases.doors)
        with (
            _reading(primary, standby, servers, directory / "any", lag="600") as api,
            _reading(primary, standby, servers, directory / "strict", lag="2") as strict,
        ):
            yield Replicated(api, strict, databases)


def _reading(primary: str, standby: str, servers: Servers, directory: Path, lag: str) -> AbstractContextManager[Api]:
    directory.mkdir()
    places = {"DATABASE_REPLICA_URL": standby, "CELERIAC_REPLICA_LAG": lag}
    return serving(primary, servers.valkey_url, directory, **places)


@pytest.fixture
def replicated(both: Replicated) -> Iterator[Replicated]:
    """The same, near at first and at last."""
    eventually(lambda: both.state() == "ok", what="a replica that is near")
    yield both
    both.databases.doors[1].switch(Mode.OPEN)
    both.resume_replay()


def total(caller: Caller) -> int:
    """How many jobs a list shows."""
    return int(caller.get("/v1/jobs").json()["total"])


def test_lists_are_read_from_the_replica_and_a_job_from_the_primary(replicated: Replicated) -> None:
    """A list shows what the replica has; the status of a job, and jobs named by their ids, are those of the primary."""
    caller = replicated.api.caller()
    caller.create()
    eventually(lambda: total(caller) == 1, what="the first job in the list")
    replicated.stop_replay()
    created = caller.create().json()["jobId"]
    assert total(caller) == 1, "the replica has not got it yet"
    assert caller.get(f"/v1/jobs/{created}/status").json()["job"]["status"] == "queued"
    assert caller.get("/v1/jobs", ids=created).json()["total"] == 1
    assert caller.get(f"/v1/jobs/{created}/explain").status_code == 200
    assert {path: answer.status_code for path in LISTS if (answer := caller.get(path)).status_code != 200} == {}


def test_a_replica_that_is_behind_is_not_read(replicated: Replicated) -> None:
    """Lists are read from the primary while the replica is further behind than it may be."""
    caller = replicated.strict.caller()
    replicated.stop_replay()
    caller.create()
    eventually(lambda: replicated.state() == "behind", what="a replica that is behind")
    assert total(caller) == 1
    replicated.resume_replay()
    eventually(lambda: replicated.state() == "ok", what="a replica that has caught up")
    assert total(caller) == 1


@pytest.mark.parametrize("mode", [Mode.REFUSE, Mode.BLACK_HOLE])
def test_a_replica_that_is_away_is_not_read(replicated: Replicated, mode: Mode) -> None:
    """Lists are read from the primary while the replica is away, from the first failure on."""
    caller = replicated.strict.caller()
    caller.create()
    eventually(lambda: total(caller) == 1, what="the job in the list")
    replicated.databases.doors[1].switch(mode)
    assert caller.get("/v1/jobs").json()["total"] == 1
    eventually(lambda: replicated.state() in ("away", "silent"), what="a replica that is away")
    assert total(caller) == 1
    assert replicated.strict.client.get("/readyz").status_code == 200


def test_a_primary_where_nothing_happens_makes_no_lag(replicated: Replicated) -> None:
    """A replica of a primary that writes nothing is near."""
    states = {replicated.state() for _ in range(100)}
    assert states == {"ok"}
    assert 'celeriac_database_connections{pool="replica",state="most"}' in replicated.api.client.get("/metrics").text


def test_organizations_are_kept_apart_on_the_replica_too(replicated: Replicated) -> None:
    """On the replica a list shows one organization's jobs, and a query without a condition does so as well."""
    ours, theirs = replicated.api.caller(), replicated.api.caller()
    ours.create()
    theirs.create()
    eventually(lambda: (total(ours), total(theirs)) == (1, 1), what="one job each")
    database = Database(check_database(replicated.databases.url_of(replicated.databases.doors[1])), settings())
    try:
        with confined_to(ours.organization), database.autocommit() as connection:
            [rows] = run(connection, ("SELECT DISTINCT organization_id FROM jobs", {}))
        assert [row.organization_id for row in rows] == [ours.organization]
    finally:
        database.close()
