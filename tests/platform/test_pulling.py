"""A pull whose worker is killed: the job runs again and goes on at the page where it was."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from tests.live import LivePlatform, eventually
from tests.paging import Told, source
from tracking import collections


def test_a_pull_whose_worker_is_killed_goes_on_at_its_page(platform: LivePlatform, tmp_path: Path) -> None:
    """After kill -9 of the process that pulls, the job asks only for pages that were not kept, and ends with all."""
    platform.environment |= {"CELERIAC_SYNC_PRIVATE": "true", "CELERIAC_SYNC_DIR": str(tmp_path)}
    reached, go_on = threading.Event(), threading.Event()

    def answers(query: dict[str, str]) -> Told:
        page = int(query["page"])
        if page == 4 and not go_on.is_set():
            reached.set()
            go_on.wait(20)
        return Told(json.dumps([{"id": page * 10 + number} for number in range(3 if page < 6 else 0)]))

    with source(answers) as server:
        platform.start_worker(concurrency=1)
        pull = {"collection": "x", "url": server.url, "key": ["id"], "paging": "page", "parameter": "page"}
        payload = {"pull": pull, "push": {"format": "jsonl"}}
        job_id = platform.submit("sync", payload=payload, organization="acme", user="u1")
        assert reached.wait(20)
        for child in psutil.Process(platform.worker_pid).children():
            child.kill()
        eventually(lambda: len(platform.events(job_id)) > 2, what="the loss")
        go_on.set()
        job = platform.wait_for(job_id, within=40)
    assert (job.status, job.attempt) == ("succeeded", 2)
    asked = [path.partition("page=")[2] for path in server.asked]
    assert (asked.count("1"), asked.count("3"), asked.count("4")) == (1, 1, 2)
    assert (job.result["pulled"]["resumed"], job.result["pulled"]["read"]) == (True, 6)
    with platform.database.autocommit() as connection:
        assert collections.count(connection, "acme", "x") == 15
    assert len((tmp_path / "acme" / "x.jsonl").read_text().splitlines()) == 15


ENDLESS = "SELECT count(*) AS n FROM range(10000000) a, range(10000000) b"


def queries(platform: LivePlatform) -> list[psutil.Process]:
    """The processes of queries of its worker."""
    found = []
    for each in psutil.Process(platform.worker_pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it ends at this moment
            if "-I" in each.cmdline():
                found.append(each)
    return found


def test_a_query_ends_with_the_time_of_its_job(platform: LivePlatform) -> None:
    """A soft time limit in the middle of a query fails the job, ends the query, and leaves the worker to others."""
    platform.start_worker(concurrency=1)
    said: dict[str, Any] = {"organization": "acme", "user": "u1"}
    limited = platform.submit("data_processing", payload={"sql": ENDLESS}, soft_time_limit=4, max_retries=0, **said)
    other = platform.submit("data_processing", payload={"sql": "SELECT 1 AS n"}, **said)
    eventually(lambda: queries(platform), what="the query")
    job = platform.wait_for(limited, within=40)
    assert (job.status, job.error_type, job.message) == ("failed", "SoftTimeLimitExceeded", "Running the query")
    assert platform.wait_for(other, within=40).status == "succeeded"
    assert queries(platform) == []


def test_a_query_dies_with_the_process_of_its_job(platform: LivePlatform) -> None:
    """After kill -9 of the process that runs a query, that of the query is gone as well, and the job runs again."""
    platform.start_worker(concurrency=1)
    job_id = platform.submit("data_processing", payload={"sql": ENDLESS}, organization="acme", user="u1")
    worker = psutil.Process(platform.worker_pid)
    eventually(lambda: platform.job(job_id).message == "Running the query", what="the query")
    (query,) = queries(platform)
    for child in worker.children():
        child.kill()
    eventually(lambda: not query.is_running() or query.status() == psutil.STATUS_ZOMBIE, within=20, what="its end")
    eventually(lambda: platform.job(job_id).attempt == 2, within=20, what="the next attempt")
    platform.run(
        f"from uuid import UUID\nfrom tasks import app, verbs\nfrom tracking.models import Scope\n"
        f"verbs.cancel(app.platform, UUID('{job_id}'), Scope('acme', None), actor='u1')"
    )
    eventually(lambda: not queries(platform), within=20, what="the end of the second query")
