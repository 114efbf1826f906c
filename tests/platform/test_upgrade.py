"""A release before this one on the schema of this one, beside it, and replaced by it under load."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import jwt
import psutil
import pytest
from sqlalchemy import select, text

from tests import earlier
from tests.commands import search_path
from tests.live import LivePlatform, Process, empty_queues, eventually
from tests.rolling import Load
from tests.servers import Servers, new_database
from tests.verifying import broken
from tracking.schema import jobs, metadata

PERMISSIONS = ("jobs.create_jobs", "jobs.view_jobs", "jobs.cancel_jobs", "jobs.retry_jobs")
PAGE = Path(__file__).parents[2] / "docs" / "upgrading.md"
[COMMANDS] = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
SHARE = 25  # jobs that are accepted between two steps


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of the earlier release."""
    return earlier.extract(tmp_path_factory.mktemp("earlier"))


def _token(organization: str) -> str:
    now = int(time.time())
    claims: dict[str, Any] = {
        "sub": "u1",
        "org": organization,
        "permissions": PERMISSIONS,
        "iat": now,
        "exp": now + 600,
    }
    return jwt.encode({**claims, "iss": "celeriac", "aud": "celeriac"}, os.environ["CELERIAC_JWT_SECRET"], "HS256")


def _start_api(platform: LivePlatform, name: str) -> tuple[Process, str]:
    process = platform.start("celeriac", "api", "--port", "0", log=f"{name}.log")

    def port() -> int | None:
        found = psutil.Process(process.pid).net_connections("tcp")
        return next((each.laddr.port for each in found if each.status == psutil.CONN_LISTEN), None)

    return process, f"http://127.0.0.1:{eventually(port, what='start of the API')}"


def _stop(process: Process) -> None:
    process.terminate()
    assert process.wait(60) == 0


def test_an_earlier_release_works_beside_this_one_and_is_replaced_by_it_under_load(
    servers: Servers, broker_url: str, code: Path, tmp_path: Path
) -> None:
    """Workers and API of an earlier release run on this schema and are replaced under load without a loss."""
    empty_queues(broker_url)
    with new_database(servers, "template1") as url, LivePlatform(url, broker_url, tmp_path) as platform:
        _upgrade(platform, code, Load(_token, str(tmp_path / "witness")))


def _upgrade(platform: LivePlatform, code: Path, load: Load) -> None:
    platform.code = code
    assert platform.start("celeriac", "migrate").wait(120) == 0
    assert "schema   " in _follow_the_page(platform)
    workers = [platform.start_worker(), platform.start_worker()]
    apis = [_start_api(platform, f"api{number}") for number in range(2)]
    assert {Path(f"/proc/{each.pid}/cwd").readlink() for each in (*workers, *(api for api, _ in apis))} == {code}
    platform.code = None
    load.addresses = [address for _, address in apis]
    with load.going_on():
        load.wait_for(SHARE)
        print(f"\nbefore: {load.figures()}")  # noqa: T201 - the figures of the page
        for number, (api, _) in enumerate(apis):
            began, new = time.monotonic(), platform.start_worker()
            load.wait_for(SHARE)  # three workers: of both releases, or of this one and the last to go
            _stop(workers[number])
            newer = _start_api(platform, f"api{number}-new")
            load.addresses[number] = newer[1]
            _stop(api)
            load.wait_for(SHARE)
            workers[number] = new
            print(f"step {number + 1}, {time.monotonic() - began:.0f} s: {load.figures()}")  # noqa: T201 - as above
        _add_columns(platform)
        load.wait_for(SHARE)
    ends = eventually(lambda: _ends(platform), what="the end of all jobs")
    assert {job_id: status for job_id, (status, _) in ends.items()} == load.expected
    assert {attempts for status, attempts in ends.values() if status == "failed"} == {2}
    assert load.faults == []
    assert Counter(Path(load.witness).read_text().split()) == Counter(load.words.values())
    assert broken(platform.database) == {}
    print(f"{len(ends)} jobs")  # noqa: T201 - as above


def _add_columns(platform: LivePlatform) -> None:
    """What the next migration may do, under the load of this release, whose connections have prepared statements."""
    for table in metadata.sorted_tables:
        with platform.database.autocommit() as connection:
            connection.execute(text(f"ALTER TABLE {table.name} ADD COLUMN came_later int"))


def _follow_the_page(platform: LivePlatform) -> str:
    """What the commands of the page print, each of which succeeds."""
    done = subprocess.run(
        ["bash", "-euc", COMMANDS],
        cwd=platform.directory,
        env={**platform.environment, "PATH": search_path(platform.directory)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done
    return done.stdout


def _ends(platform: LivePlatform) -> dict[str, tuple[str, int]] | None:
    """How all jobs have ended, and in which attempt; None: one has not."""
    with platform.database.autocommit() as connection:
        rows = connection.execute(select(jobs.c.id, jobs.c.status, jobs.c.attempt, jobs.c.completed_at)).all()
    return None if any(row.completed_at is None for row in rows) else {str(row[0]): (row[1], row[2]) for row in rows}
