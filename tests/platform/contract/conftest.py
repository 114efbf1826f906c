"""One platform for all tests of the contract, an API and a worker; each test has an organization of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psutil
import pytest
from sqlalchemy import make_url

from tests.api.calling import EVERYTHING, Api, Caller
from tests.api.conftest import serving
from tests.live import LivePlatform, eventually
from tests.servers import Servers, new_database

HANDLERS = "tests.sample_handlers,tests.api.handlers,tests.platform.contract.handlers"
RIGHTS = (
    *EVERYTHING,
    "jobs.view_all",
    "jobs.delete_jobs",
    "data.process_data",
    "notifications.send_notifications",
    "maintenance.run_cleanup",
    "maintenance.run_sync",
)
ENDED = ("succeeded", "failed", "cancelled")


@dataclass
class System:
    """A live platform as its users meet it."""

    api: Api
    platform: LivePlatform

    def caller(self, **options: Any) -> Caller:
        """Somebody who may do everything, in an organization of their own."""
        return self.api.caller(**{"permissions": RIGHTS, **options})

    def start_worker(self) -> None:
        """A worker of all queues."""
        self.platform.start_worker(concurrency=8, queues="default,maintenance,webhooks")

    def crash_worker(self) -> None:
        """Take the power from the machine of the worker."""
        main = psutil.Process(self.platform.worker_pid)
        for process in (main, *main.children(recursive=True)):
            process.kill()


@pytest.fixture(scope="session")
def system(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    directory = tmp_path_factory.mktemp("contract")
    broker = make_url(servers.valkey_url).set(database="13").render_as_string(hide_password=False)
    (directory / "copies").mkdir()
    environment = {
        "CELERIAC_IMPORTS": HANDLERS,
        "CELERIAC_EXPORTS_DIR": str(directory / "exports"),
        "CELERIAC_SYNC_DIR": str(directory / "copies"),
        "CELERIAC_WEBHOOKS_PRIVATE": "true",  # the receiver is on this machine
        "CELERIAC_LEASE_TIMEOUT": "4",
        "CELERIAC_HEARTBEAT": "0.5",
    }
    with (
        new_database(servers) as url,
        serving(url, broker, directory, **environment) as api,
        LivePlatform(url, broker, directory, **environment) as platform,
    ):
        found = System(api, platform)
        found.start_worker()
        yield found


@pytest.fixture
def someone(system: System) -> Caller:
    """Somebody who may do everything, in an organization of this test alone."""
    return system.caller()


def created(caller: Caller, job_type: str, payload: dict[str, Any] | None = None, **said: Any) -> str:
    """The id of a job that was accepted."""
    answer = caller.create(job_type, payload=payload or {}, **said)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["jobId"])


def job_of(caller: Caller, job_id: str) -> dict[str, Any]:
    """The job as its user sees it."""
    answer = caller.get(f"/v1/jobs/{job_id}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def reached(caller: Caller, job_id: str, *statuses: str, within: float = 20) -> dict[str, Any]:
    """The job once it has one of these statuses, as who asks again and again sees it; unset: once it has ended."""
    found: dict[str, Any] = {}

    def has_it() -> bool:
        found.update(job_of(caller, job_id))
        return found["status"] in (statuses or ENDED)

    eventually(has_it, within=within, what=f"{statuses or 'the end'} of {job_id}")
    return found


def succeeded(caller: Caller, job_id: str, within: float = 20) -> dict[str, Any]:
    """The job when it has succeeded; it must not end otherwise."""
    job = reached(caller, job_id, within=within)
    assert job["status"] == "succeeded", job
    return job
