"""Metrics: what Prometheus reads is what the rows say, and tells nobody of the organizations."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from tests.api.calling import Api, problem
from tests.api.conftest import serving
from tests.live import eventually
from tests.tracked import Tracked
from tracking import totals, workers
from tracking.db import Database
from tracking.leadership import resign, try_to_lead
from tracking.reads import measured
from tracking.reads.overview import By, overview
from tracking.reads.tail import last_number

OPEN = text(
    """INSERT INTO circuits (job_type, organization_id, key, failures, pause, probe_at)
       VALUES ('count_words', 'acme', '', 5, '1 minute', now() + interval '1 hour')"""
)
WAIT_FOR_IT = text("SELECT count(*) FROM pg_locks WHERE relation = 'audit'::regclass AND NOT granted")
ROOT = Path(__file__).parents[2]
ENDS = ("_bucket", "_count", "_sum", "_created")  # of the samples of a histogram
NO_DATABASE = "postgresql://postgres@127.0.0.1:1/none"


def counted(database: Database) -> None:
    """Have what has happened counted, as the leader does."""
    with database.begin() as connection:
        totals.count(connection, last_number(connection), most=10_000)


def scraped(api: Api, **headers: str) -> dict[tuple[str, ...], float]:
    """Each sample by its name and the values of its labels, in the order of their names."""
    response = api.client.get("/metrics", headers=headers)
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def test_they_are_what_the_rows_say(database_url: str, database: Database, api_broker_url: str, tmp_path: Path) -> None:
    """Jobs by queue, type, state and reason, and workers, are those of the database; organizations are not told."""
    with serving(database_url, api_broker_url, tmp_path) as api:
        with database.autocommit() as connection:
            workers.beat(connection, uuid4(), name="w", pid=1, queues=["default", "idle"], concurrency=3)
        caller = api.caller()
        for number in range(3):
            assert caller.create(scheduledAt="2990-01-01T00:00:00Z" if number else None).status_code == 202
        cancelled = caller.create().json()["jobId"]
        assert caller.post(f"/v1/jobs/{cancelled}/cancel").status_code == 200
        samples = scraped(api)
        with database.autocommit() as connection:
            loads = overview(connection, window=timedelta(hours=1)).loads
        [of_type] = [load for load in loads if load.by is By.TYPE]
        assert of_type.name is not None
        assert samples["celeriac_up",] == 1
        assert samples["celeriac_type_jobs", "waiting", of_type.name] == of_type.waiting == 1
        assert samples["celeriac_type_jobs", "held", of_type.name] == samples["celeriac_held_jobs", "schedule"] == 2
        assert samples["celeriac_jobs", "default", "waiting"] == samples["celeriac_queue_workers", "idle"] == 1
        assert samples["celeriac_jobs", "idle", "waiting"] == samples["celeriac_jobs", "idle", "running"] == 0
        assert samples["celeriac_oldest_waiting_seconds", "idle"] == 0
        assert samples["celeriac_queue_slots", "default"] == 3
        assert 0 < samples["celeriac_oldest_waiting_seconds", "default"] < 60
        assert (samples["celeriac_workers", "alive"], samples["celeriac_workers", "silent"]) == (1, 0)
        assert not [name for name in samples if "organization" in name[0]]


def test_answers_are_counted_by_their_route(api: Api) -> None:
    """Answers are told by the route, never by the address that somebody asked for."""
    caller, stranger = api.caller(), uuid4()
    caller.get(f"/v1/jobs/{stranger}")
    caller.get(f"/nothing/{stranger}")
    samples = scraped(api)
    assert samples["celeriac_http_request_seconds_count", "GET", "/v1/jobs/{id}", "4xx"] >= 1
    assert samples["celeriac_http_request_seconds_count", "none", "none", "4xx"] >= 1
    assert str(stranger) not in api.client.get("/metrics").text


def test_rows_are_read_once_for_many_who_ask(api: Api) -> None:
    """Who asks again within seconds gets the same rows, and later new ones."""
    name = ("celeriac_jobs", "default", "waiting")
    before = scraped(api).get(name, 0)
    api.caller().create()
    eventually(lambda: scraped(api).get(name, 0) > before, within=15, what="the new job")


def test_a_token_shows_organizations_and_keeps_others_out(
    database_url: str, api_broker_url: str, tmp_path: Path
) -> None:
    """With a token set nobody else gets anything, and its bearer sees which organizations wait most."""
    with serving(database_url, api_broker_url, tmp_path, CELERIAC_METRICS_TOKEN="s3cret") as api:
        assert api.caller("acme").create().status_code == 202
        assert api.caller("acme").create(scheduledAt="2990-01-01T00:00:00Z").status_code == 202
        problem(api.client.get("/metrics"), 401, "token_missing")
        for wrong in ("Bearer s3cre", "s3cret", "Bearer S3cret"):
            problem(api.client.get("/metrics", headers={"Authorization": wrong}), 401, "token_invalid")
        samples = scraped(api, Authorization="Bearer s3cret")
        assert samples["celeriac_organization_jobs", "acme", "waiting"] == 1
        shown = api.client.get("/metrics", headers={"Authorization": "Bearer s3cret"}).text
        told = set(re.findall(r"^# TYPE (celeriac_\w+)", shown, re.MULTILINE))
        documented = set(re.findall(r"`(celeriac_\w+)`", (ROOT / "docs" / "metrics.md").read_text()))
        assert documented <= told
        assert {name for name, *_ in samples} <= {
            each for name in documented for each in (name, *map(name.__add__, ENDS))
        }
        assert {name.removesuffix("_created") for name in told} <= documented


def test_without_a_database_they_say_so(api_broker_url: str, tmp_path: Path) -> None:
    """Without a database there are no numbers of jobs, rather than old ones."""
    with serving(NO_DATABASE, api_broker_url, tmp_path) as api:
        samples = scraped(api)
        assert samples["celeriac_up",] == 0
        assert not [name for name in samples if name[0] == "celeriac_jobs"]


def test_callers_with_all_slow_reads_keep_no_scrape_waiting(
    database_url: str, database: Database, api_broker_url: str, tmp_path: Path
) -> None:
    """While callers have every connection for slow reads, a scrape has the rows all the same, at once."""
    patient = {"CELERIAC_POOL_SIZE": "2", "CELERIAC_READ_TIMEOUT": "10"}
    with serving(database_url, api_broker_url, tmp_path, **patient) as api, ThreadPoolExecutor(2) as threads:
        with database.begin() as connection:
            connection.execute(text("LOCK TABLE audit IN ACCESS EXCLUSIVE MODE"))
            reads = [threads.submit(api.caller().get, "/v1/audit") for _ in range(2)]
            with database.autocommit() as other:
                eventually(lambda: other.scalar(WAIT_FOR_IT) == 2, within=10, what="both reads")
            began = time.monotonic()
            samples = scraped(api)
            took = time.monotonic() - began
        assert [read.result().status_code for read in reads] == [200, 200]
    assert samples["celeriac_up",] == 1
    assert samples["celeriac_database_connections", "slow_reads", "in_use"] == 2
    assert took < 1.5


def test_what_has_happened_is_counted(
    database_url: str, database: Database, api_broker_url: str, tmp_path: Path
) -> None:
    """Jobs, attempts, refused messages and times are counters and histograms by type and queue, which only grow."""
    with serving(database_url, api_broker_url, tmp_path) as api:
        caller = api.caller()
        counted(database)
        assert scraped(api)["celeriac_uncounted_events",] == 0
        for state in ("succeeded", "failed", "failed", "cancelled", "running"):
            caller.job(state)
        counted(database)
        of_it = ("default", "open")
        samples = eventually(
            lambda: (found := scraped(api)).get(("celeriac_jobs_created_total", *of_it)) and found,
            within=15,
            what="the new numbers",
        )
        assert samples["celeriac_jobs_created_total", *of_it] == 5
        assert samples["celeriac_jobs_ended_total", "failed", *of_it] == 2
        assert samples["celeriac_attempts_total", "failed", *of_it] == 2
        assert {samples["celeriac_attempts_total", each, *of_it] for each in ("lost", "retried", "released")} == {0}
        assert samples["celeriac_job_wait_seconds_count", *of_it] == 4
        assert samples["celeriac_job_run_seconds_count", *of_it] == 3
        assert samples["celeriac_job_run_seconds_bucket", "+Inf", *of_it] == 3
        assert samples["celeriac_job_run_seconds_bucket", "5.0", *of_it] == 3


def test_a_leader_and_what_the_broker_lacks_are_shown(pool: Database, tracked: Tracked) -> None:
    """Whether somebody leads, how many jobs were not confirmed by the broker, and which circuits are open."""
    lease = timedelta(seconds=20)
    tracked.submit()
    before = measured.measured(tracked.connection, lease)
    assert (before.is_led, before.unsent, before.circuits) == (False, 1, [])
    assert before.oldest_unsent is not None
    with pool.autocommit() as leading:
        assert try_to_lead(leading)
        tracked.connection.execute(OPEN)
        after = measured.measured(tracked.connection, lease)
        resign(leading)
    assert after.is_led
    assert [(each.job_type, each.is_half_open, each.number) for each in after.circuits] == [("count_words", False, 1)]


def test_no_more_jobs_are_read_than_a_number(tracked: Tracked) -> None:
    """Of more active jobs than are read the numbers are those of some, and say so."""
    for _ in range(3):
        tracked.submit()
    few, all_of_them = (measured.measured(tracked.connection, timedelta(seconds=20), most=most) for most in (2, 10))
    assert (few.is_capped, all_of_them.is_capped) == (True, False)
    assert [load.waiting for load in few.active[measured.By.QUEUE]] == [2]
    assert [load.waiting for load in all_of_them.active[measured.By.ORGANIZATION]] == [3]
