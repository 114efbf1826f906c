"""What the API answers while PostgreSQL refuses: one code for each kind of outage, reads while only writes fail."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import httpx2
import psutil
import pytest
from fastapi import FastAPI
from sqlalchemy import NullPool, create_engine, text

from api import problems
from celeriac.embedded import postgres
from celeriac.embedded.processes import own_directory
from celeriac.embedded.supervisor import Supervisor
from tests.api.calling import Api, Caller, problem
from tests.api.conftest import serving
from tests.live import eventually
from tests.servers import Servers, new_database
from tracking.db import Database, migrate
from tracking.settings import settings

END_OTHERS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND usename = '{role}'"""


@pytest.fixture(scope="module")
def own(servers: Servers, api_broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API on a database of this module, where a statement may take a second."""
    with (
        new_database(servers) as url,
        serving(url, api_broker_url, tmp_path_factory.mktemp("own"), CELERIAC_STATEMENT_TIMEOUT="1") as api,
    ):
        yield api


@pytest.fixture
def caller(own: Api) -> Caller:
    """Somebody who may do everything."""
    return own.caller()


@contextmanager
def altered(api: Api, change: str, back: str) -> Iterator[None]:
    """The database changed in the eyes of every new connection; there is no other."""
    _alter(api, change)
    try:
        yield
    finally:
        _alter(api, back)


def _alter(api: Api, statement: str) -> None:
    url = api.database.engine.url.set(username="postgres")  # whom no limit binds
    with create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool).connect() as connection:
        for each in ("SET default_transaction_read_only = off", statement, END_OTHERS):
            connection.execute(text(each.format(name=url.database, role=postgres.ROLE)))
    forget_connections(api)


def forget_connections(api: Api) -> None:
    """Those that the server has ended: a read finds it out and is repeated, which a write must not be."""
    api.database.close()
    for path in ("/v1/jobs", "/v1/organization"):  # a slow read and another one: each has its connections
        api.caller().get(path)


def reads(caller: Caller, job: Any) -> dict[str, httpx2.Response]:
    paths = ("/v1/jobs", "/v1/jobs/recent", "/v1/jobs/stats", "/v1/jobs/history", "/v1/job-types", "/v1/organization")
    of_job = (f"/v1/jobs/{job}", f"/v1/jobs/{job}/status", f"/v1/jobs/{job}/explain")
    return {path: caller.get(path) for path in (*paths, *of_job)}


def writes(caller: Caller, waiting: Any, failed: Any) -> dict[str, httpx2.Response]:
    posts: dict[str, Any] = {
        "/v1/jobs": {"jobType": "open"},
        f"/v1/jobs/{waiting}/cancel": None,
        f"/v1/jobs/{failed}/retry": None,
        "/v1/job-types/open/pause": None,
        "/v1/job-types/open/resume": None,
        "/v1/organization/pause": None,
        "/v1/organization/resume": None,
    }
    limit = f"/v1/organizations/{caller.organization}/limit"
    return {
        **{path: caller.post(path, body) for path, body in posts.items()},
        "limit": caller.put(limit, {"limit": 3}),
        "no limit": caller.put(limit, {"limit": None}),
        "with a key": caller.create(key=uuid4().hex),
        "with dependencies": caller.create(dependsOn=[str(waiting)]),
    }


READ_ONLY = {
    "setting of the database": (
        "ALTER DATABASE {name} SET default_transaction_read_only = on",
        "ALTER DATABASE {name} RESET default_transaction_read_only",
    ),
    "setting of the role": (
        "ALTER ROLE {role} IN DATABASE {name} SET default_transaction_read_only = on",
        "ALTER ROLE {role} IN DATABASE {name} RESET default_transaction_read_only",
    ),
    "rights of the role": (
        "REVOKE INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public FROM {role}, celeriac_platform, celeriac_tenant",
        "GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}, celeriac_platform, celeriac_tenant",
    ),
}


def check_that_only_reads_are_answered(caller: Caller, waiting: Any, failed: Any) -> None:
    """Reads are 200, writes 503 with a code of their own; nothing has changed."""
    before = caller.timeline(waiting), caller.timeline(failed)
    assert {path: found.status_code for path, found in reads(caller, waiting).items() if found.status_code != 200} == {}
    for response in writes(caller, waiting, failed).values():
        problem(response, 503, "database_read_only")
        assert int(response.headers["retry-after"]) > 0
    assert (caller.timeline(waiting), caller.timeline(failed)) == before
    assert caller.get("/v1/jobs").json()["total"] == 2


@pytest.mark.parametrize(("change", "back"), READ_ONLY.values(), ids=READ_ONLY.keys())
def test_a_database_that_takes_no_writes_is_read_and_says_so(caller: Caller, change: str, back: str) -> None:
    """A read-only database serves reads, answers writes with its own code, and recovers."""
    waiting, failed = caller.job().id, caller.job("failed").id
    with altered(caller.api, change, back):
        check_that_only_reads_are_answered(caller, waiting, failed)
    assert {response.status_code for response in writes(caller, waiting, failed).values()} <= {200, 202}


def test_a_statement_that_takes_too_long_has_a_code_of_its_own(caller: Caller) -> None:
    """A statement over its time limit is query_too_slow, and other requests are served."""
    waiting, failed = caller.job().id, caller.job("failed").id
    by_payload = {"action": "retry", "filter": {"q": "payload.customer:42"}}
    with caller.api.database.begin() as connection, ThreadPoolExecutor(6) as threads:
        connection.execute(text("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE"))
        slow: list[Callable[[], httpx2.Response]] = [
            lambda: caller.get(f"/v1/jobs/{waiting}"),
            lambda: caller.get("/v1/jobs"),
            caller.create,
            lambda: caller.post(f"/v1/jobs/{waiting}/cancel"),
            lambda: caller.post(f"/v1/jobs/{failed}/retry"),
            lambda: caller.but(user="u2").post("/v1/bulk", {**by_payload, "dryRun": True}),
        ]
        answers = [*threads.map(lambda ask: ask(), slow)]
        # By itself: an organization has two slow reads at a time, and who waits for a turn may get none as well.
        answers.append(caller.post("/v1/bulk", by_payload))
        for response in answers:
            problem(response, 503, "query_too_slow")
            assert int(response.headers["retry-after"]) > 0
        assert caller.get("/v1/job-types").status_code == 200
    assert caller.get(f"/v1/jobs/{waiting}").json()["status"] == "queued"
    assert caller.get("/v1/bulk").json()["operations"] == []
    assert caller.post("/v1/bulk", by_payload).status_code == 202, "nobody waits for one that was not begun"


def test_no_room_for_another_connection_is_overload(caller: Caller) -> None:
    """A database without a free connection is there, and has too much to do: 503 `overloaded`."""
    with altered(
        caller.api,
        "ALTER DATABASE {name} CONNECTION LIMIT 0",
        "ALTER DATABASE {name} CONNECTION LIMIT -1",
    ):
        for response in (caller.get("/v1/jobs"), caller.create()):
            problem(response, 503, "overloaded")
    assert caller.create().status_code == 202


def test_a_connection_that_is_killed_at_work_is_an_outage(caller: Caller) -> None:
    """A connection that is killed at work is answered with 503 and Retry-After."""
    job = caller.job()
    with caller.api.database.begin() as blocking, ThreadPoolExecutor(1) as threads:
        blocking.execute(text("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE"))
        answer = threads.submit(caller.post, f"/v1/jobs/{job.id}/cancel")
        with caller.api.database.autocommit() as connection:
            waits = text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                " AND wait_event_type = 'Lock' AND query LIKE '%cancelled%'"
            )
            eventually(lambda: connection.execute(waits).all(), within=2, what="a cancel that waits")
        problem(answer.result(), 503, "database_unavailable")
    assert caller.post(f"/v1/jobs/{job.id}/cancel").status_code == 200


def test_a_pool_without_a_free_connection_is_too_many_requests(database_url: str) -> None:
    """A pool without a free connection is overloaded, not database_unavailable."""
    configuration = settings().model_copy(update={"connect_timeout": 1})
    pool = Database(database_url, configuration, pool_size=1)
    app = FastAPI()
    problems.install(app)

    @app.get("/read")
    def read() -> None:
        with pool.autocommit():
            raise AssertionError("there is no connection")

    async def ask() -> httpx2.Response:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://api") as client:
            return await client.get("/read")

    with pool.autocommit():
        response = anyio.run(ask)
    pool.close()
    problem(response, 503, "overloaded")
    assert response.headers["retry-after"]


def test_a_standby_is_read_and_a_restart_is_survived(api_broker_url: str, tmp_path: Path) -> None:
    """One API process survives a primary, an outage, a standby and its promotion."""
    directory = own_directory(tmp_path / "cluster")
    cluster = postgres.open_cluster(directory)
    url = cluster.url.replace("postgresql:", "postgresql+psycopg:")
    standby = cluster.data / "standby.signal"
    with ExitStack() as stack:
        stack.callback(postgres.discard, directory)
        with _running(cluster):
            migrate(url)
            api = stack.enter_context(serving(url, api_broker_url, tmp_path))
            caller = api.caller()
            waiting, failed = caller.job().id, caller.job("failed").id
        began = time.monotonic()
        for response in (caller.get("/v1/jobs"), caller.post(f"/v1/jobs/{waiting}/cancel"), caller.create()):
            problem(response, 503, "database_unavailable")
        assert time.monotonic() - began < 5
        standby.touch()
        with _running(cluster):
            forget_connections(api)
            check_that_only_reads_are_answered(caller, waiting, failed)
        standby.unlink()
        with _running(cluster):
            forget_connections(api)
            assert {response.status_code for response in writes(caller, waiting, failed).values()} <= {200, 202}
            assert api.process.status() != psutil.STATUS_ZOMBIE


@contextmanager
def _running(cluster: postgres.Cluster) -> Iterator[None]:
    with Supervisor(show=lambda *_: None) as supervisor:
        supervisor.start(postgres.part(cluster))
        yield
