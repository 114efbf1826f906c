"""The database keeps organizations apart by itself: what a query forgets to say is not shown."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.api import unscoped
from tests.api.calling import PLAIN, Api
from tests.api.describing import hold_to_description
from tests.api.test_authorization import ABOUT_ONE_JOB, REACHING, TABLE, Operation, operations, outcomes
from tests.live import LivePlatform, eventually

STRANGER = "other organization"
# Of another organization each answers 404, or lists what it has not; what else there is about no job of anybody's.
SOME = {"get_job", "get_job_status", "cancel_job", "retry_job", "list_jobs", "get_webhook", "get_file"}
ISOLATED = sorted(
    {*ABOUT_ONE_JOB, *REACHING, "list_files", "list_operations", "schedule_outcomes"} - {"create_schedule"}
)


@contextmanager
def forgetful(api: Api, broker_url: str, directory: Path, **environment: str) -> Iterator[Api]:
    """The same API, with the same rows, whose queries do not say of which organization."""
    settings = {
        "CELERIAC_IMPORTS": "tests.sample_handlers,tests.api.handlers",
        "CELERIAC_EXPORTS_DIR": str(api.exports),
        "CELERIAC_JWT_SECRET": api.secret,
        **environment,
    }
    url = api.database.engine.url.render_as_string(hide_password=False)
    with LivePlatform(url, broker_url, directory, **settings) as platform:
        process = psutil.Process(
            platform.start(sys.executable, "-m", unscoped.__name__, "api", "--port", "0", log="api.log").pid
        )
        port = eventually(lambda: _port(process), within=60, what="start of the API")
        address, hooks = f"http://127.0.0.1:{port}", {"response": [hold_to_description]}
        with httpx2.Client(verify=PLAIN, base_url=address, timeout=30, event_hooks=hooks) as client:
            client.get("/healthz")
            yield Api(address, api.secret, client, platform.database, process, directory / "api.log", api.exports)


def _port(process: psutil.Process) -> int | None:
    listening = [each.laddr.port for each in process.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
    return next(iter(listening), None)


@pytest.fixture(scope="module")
def asked(api: Api) -> list[Operation]:
    """The operations that are about what an organization has."""
    return [operation for operation in operations(api) if operation.name in ISOLATED]


def test_a_forgotten_condition_shows_nothing_of_another_organization(
    api: Api, asked: list[Operation], api_broker_url: str, tmp_path: Path
) -> None:
    """With the condition of their organization taken out of all queries, the API still isolates as the table says."""
    with TABLE.open(newline="") as file:
        promised = {row["operation"]: row[STRANGER] for row in csv.DictReader(file)}
    with forgetful(api, api_broker_url, tmp_path) as leaky:
        assert {each.name: outcomes(leaky, each, [STRANGER])[0] for each in asked} == {
            each.name: promised[each.name] for each in asked
        }


def test_without_the_database_the_condition_would_be_all_that_there_is(
    api: Api, asked: list[Operation], api_broker_url: str, tmp_path: Path
) -> None:
    """The same queries leak where the database does not keep organizations apart: so the test before this one tells."""
    with TABLE.open(newline="") as file:
        promised = {row["operation"]: row[STRANGER] for row in csv.DictReader(file)}
    some = [each for each in asked if each.name in SOME]
    with forgetful(api, api_broker_url, tmp_path, **{unscoped.UNTOLD: "yes"}) as leaky:
        leaking = {each.name for each in some if outcomes(leaky, each, [STRANGER]) != [promised[each.name]]}
    assert leaking == SOME
