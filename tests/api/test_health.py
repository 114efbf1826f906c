"""Liveness and readiness: what they depend on, and that asking costs the platform nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import text

from tests.api.calling import Api, problem
from tests.api.conftest import serving
from tests.api.faults import Silent, silent_server
from tests.live import eventually
from tracking import workers
from tracking.db import Database, migrate

NO_DATABASE = "postgresql://postgres@127.0.0.1:1/none"
NO_BROKER = "redis://127.0.0.1:1/0"


def checks(api: Api) -> dict[str, str]:
    """The state of each part."""
    found: dict[str, str] = api.client.get("/readyz").json()["checks"]
    return found


def become(api: Api, **expected: str) -> None:
    """Wait until the checks are these."""
    eventually(lambda: checks(api).items() >= expected.items(), within=10, what=f"{expected}")


def test_jobs_are_accepted_without_a_worker_and_the_answer_tells_of_it(
    database_url: str, database: Database, api_broker_url: str, tmp_path: Path
) -> None:
    """Without a worker /readyz is 200, says so, and jobs are accepted."""
    with serving(database_url, api_broker_url, tmp_path) as running:
        become(running, database="ok", worker="none", broker="ok")
        assert running.client.get("/readyz").status_code == 200
        with database.autocommit() as connection:
            workers.beat(connection, uuid4(), name="w", pid=1, queues=["default"], concurrency=1)
        become(running, database="ok", worker="ok", broker="ok")
        ready = running.client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "ready")


@pytest.mark.parametrize("broker_url", [NO_BROKER, "amqp://guest:guest@127.0.0.1:1//"])
def test_jobs_are_accepted_without_a_broker_and_the_answer_tells_of_it(
    database_url: str, tmp_path: Path, broker_url: str
) -> None:
    """Without a broker /readyz is 200 and says so; jobs go out when it is back."""
    with serving(database_url, broker_url, tmp_path) as lonely:
        become(lonely, database="ok", broker="away")
        assert lonely.client.get("/readyz").status_code == 200
        assert lonely.caller().create().status_code == 202


def test_a_right_that_is_missing_is_named_and_told_from_a_stop(
    database_url: str, database: Database, api_broker_url: str, tmp_path: Path
) -> None:
    """A lost grant is named and costs what needs it, one on jobs makes /readyz 503; a migration mends both."""
    with serving(database_url, api_broker_url, tmp_path) as running:
        caller = running.caller()
        become(running, database="ok", rights="ok")
        _say(database, "REVOKE SELECT ON templates FROM celeriac_tenant")
        become(running, database="ok", rights="lacking")
        problem(caller.get("/v1/templates"), 503, "database_right_missing")
        assert (caller.create().status_code, running.client.get("/readyz").status_code) == (202, 200)
        _say(database, "REVOKE SELECT ON jobs FROM celeriac_tenant")
        become(running, database="ungranted", rights="lacking")
        assert running.client.get("/readyz").status_code == 503
        migrate(database_url)
        become(running, database="ok", rights="ok")
        assert caller.get("/v1/templates").status_code == 200
        log = running.log.read_text()
    assert "SELECT on templates for celeriac_tenant" in log
    assert "permission denied for table templates" in log


def _say(database: Database, statement: str) -> None:
    with database.autocommit() as connection:
        connection.execute(text(statement))


def test_every_broker_is_asked_over_one_connection(api: Api, rabbitmq_url: str, tmp_path: Path) -> None:
    """Readiness asks a broker, RabbitMQ too, over one connection that it keeps."""
    with serving(str(api.database.engine.url.render_as_string(hide_password=False)), rabbitmq_url, tmp_path) as running:
        become(running, broker="ok")
        before = set(_broker_sockets(running))
        time.sleep(2.5)  # two more looks
        assert set(_broker_sockets(running)) == before
        assert len(before) == 1


def test_without_its_database_the_platform_is_not_ready(tmp_path: Path) -> None:
    """Without a database /readyz is 503 with Retry-After, and /livez answers."""
    with serving(NO_DATABASE, NO_BROKER, tmp_path) as broken:
        become(broken, database="away", worker="unknown", broker="away")
        response = broken.client.get("/readyz")
        problem(response, 503, "not_ready")
        assert int(response.headers["retry-after"]) > 0
        assert [broken.client.get(path).json() for path in ("/livez", "/healthz")] == [{"status": "ok"}] * 2


def _seconds_of_all(api: Api, threads: ThreadPoolExecutor, path: str) -> float:
    began = time.monotonic()
    list(threads.map(lambda _: api.client.get(path), range(400)))
    return time.monotonic() - began


@pytest.fixture
def silent_broker() -> Iterator[Silent]:
    """A broker that takes connections and says nothing."""
    with silent_server() as server:
        yield server


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_silent_broker_keeps_nobody_waiting_and_gets_one_connection(
    api_database_url: str, tmp_path: Path, silent_broker: Silent, scheme: str
) -> None:
    """With a silent broker any number of /readyz calls are answered at once, and no threads pile up."""
    url = f"{scheme}://127.0.0.1:{silent_broker.port}/"
    with serving(api_database_url, url, tmp_path) as api, ThreadPoolExecutor(20) as threads:
        eventually(lambda: silent_broker.accepted, what="a connection to the broker")
        become(api, database="ok")
        before = api.process.num_threads()
        usual = _seconds_of_all(api, threads, "/livez")
        began = time.monotonic()
        answers = list(threads.map(lambda _: api.client.get("/readyz").status_code, range(400)))
        assert time.monotonic() - began < 5 + 2 * usual  # what as many requests take this machine anyway
        assert set(answers) == {200}
        assert api.process.num_threads() <= before + 1
        assert silent_broker.accepted <= 1 + (time.monotonic() - began)  # one look is on its way at any time
        assert api.client.get("/v1/jobs", headers=api.caller().headers, timeout=2).status_code == 200
        eventually(lambda: checks(api)["broker"] in ("silent", "away"), within=10, what="a broker that is missed")


def _broker_sockets(api: Api) -> list[int]:
    """The local ports of the connections to RabbitMQ."""
    return [each.laddr.port for each in api.process.net_connections("tcp") if each.raddr and each.raddr.port == 5672]
