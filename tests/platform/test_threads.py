"""A thread of a body knows whose job it works for, or is told that nobody does; it is never taken for anybody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.live import LivePlatform, eventually
from tests.servers import Servers, new_database
from tests.thread_handlers import WAYS
from tracking import jobs
from tracking.models import Owner, Scope

POOLS = {"prefork": ("-P", "prefork"), "threads": ("-P", "threads"), "solo": ("-P", "solo")}
IMPORTED = 50_000  # objects; there are more than twice as many
OWNER = Owner("acme", "u7")
OPTIONS: dict[str, Any] = {"organization": OWNER.organization_id, "user": OWNER.user_id}


@pytest.fixture(scope="module", params=POOLS)
def pool(
    request: pytest.FixtureRequest, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LivePlatform]:
    """A platform with a worker of each pool: two processes, two threads, or one of either."""
    directory = tmp_path_factory.mktemp(request.param)
    options = {"CELERIAC_IMPORTS": "tests.thread_handlers,tests.sample_handlers"}
    with new_database(servers) as url, LivePlatform(url, servers.valkey_url, directory, **options) as platform:
        platform.start_worker(*POOLS[request.param], concurrency=1 if request.param == "prefork" else 3)
        yield platform


def test_a_thread_works_for_the_job_of_the_body_that_started_it(pool: LivePlatform) -> None:
    """A thread of a body asks, reports and sends for that body's job."""
    asked = {way: pool.submit("threads.ask", way, **OPTIONS) for way in WAYS}
    for way, job_id in asked.items():
        job = pool.wait_for(job_id)
        assert job.status == "succeeded", (way, job.error_message)
        assert (job.result["job"], job.result["mine"]) == (str(job_id), True), way
        assert job.message == "from a thread", way
        child = pool.job(UUID(job.result["child"]))
        assert (child.organization_id, child.user_id, child.parent_id) == ("acme", "u7", job_id), way


def test_a_thread_that_nobody_knows_is_told_so(pool: LivePlatform) -> None:
    """A thread that was not started by Python's threading raises UnknownThread."""
    job = pool.wait_for(pool.submit("threads.unknown", **OPTIONS))
    assert job.result == ["UnknownThread"] * 3


@pytest.mark.parametrize("way", ["a thread of a thread", "an executor of all bodies", "asyncio"])
def test_a_thread_hears_of_a_cancel(pool: LivePlatform, way: str, tmp_path: Path) -> None:
    """A thread of a body hears of the job's cancel from the row."""
    witness = tmp_path / "witness"
    job_id = pool.submit("threads.watch", way, str(witness), **OPTIONS)
    pool.wait_for(job_id, "running")
    with pool.database.autocommit() as connection:
        jobs.cancel(connection, job_id, Scope("acme", None), actor="u7")
    eventually(lambda: witness.exists() and witness.read_text(), what="the answer")
    assert witness.read_text() == "False\n"


def test_a_thread_that_outlives_its_body_works_for_no_later_one(pool: LivePlatform, tmp_path: Path) -> None:
    """A thread that outlives its body does not work for the next body of its process."""
    go, witness = tmp_path / "go", tmp_path / "witness"
    first = pool.submit("threads.leave", str(go), str(witness), **OPTIONS)
    assert pool.wait_for(first).status == "succeeded"
    second = pool.submit("nap", payload={"seconds": 2}, organization="other", user="u9")
    pool.wait_for(second, "running")
    go.touch()
    eventually(witness.exists, what="its answers")
    *said, child = json.loads(witness.read_text())
    assert said == ["False", "JobCancelled", "False", "False"]
    assert (pool.job(UUID(child)).organization_id, pool.job(UUID(child)).user_id) == ("acme", "u7")
    pool.wait_for(second)
    assert pool.job(second).message != "from the past"
    assert pool.job(first).message != "from the past"


def test_no_worker_looks_for_garbage_among_what_is_imported(servers: Servers, tmp_path: Path) -> None:
    """The event loop of a worker, in whose process threads run the bodies, does not stand still for such a look."""
    options = {"CELERIAC_IMPORTS": "tests.thread_handlers"}
    with new_database(servers) as url, LivePlatform(url, servers.valkey_url, tmp_path, **options) as platform:
        platform.start("celery", "-A", "tasks", "worker", *POOLS["threads"], "-Q", "default", warm=False)
        assert platform.wait_for(platform.submit("threads.imported", **OPTIONS)).result > IMPORTED
