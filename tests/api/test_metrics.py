"""Metrics: what Prometheus reads is what the rows say, and tells nobody of the organizations."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from prometheus_client.parser import text_string_to_metric_families

from tests.api.calling import Api, problem
from tests.api.conftest import serving
from tests.live import eventually
from tracking import workers
from tracking.db import Database
from tracking.reads.overview import By, overview

ROOT = Path(__file__).parents[2]
ENDS = ("_bucket", "_count", "_sum", "_created")  # of the samples of a histogram
NO_DATABASE = "postgresql://postgres@127.0.0.1:1/none"


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
        assert samples["celeriac_type_ended_last_hour", "cancelled", of_type.name] == 1
        assert samples["celeriac_jobs", "default", "waiting"] == samples["celeriac_queue_workers", "idle"] == 1
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
    before = scraped(api)
    [name, *_] = [name for name in before if name[0] == "celeriac_jobs"] or [("celeriac_jobs", "default", "waiting")]
    api.caller().create()
    eventually(lambda: scraped(api) != before and scraped(api).get(name), within=15, what="the new job")


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
        told = {name.removesuffix(end) for name, *_ in samples for end in (*ENDS, "")}
        documented = set(re.findall(r"`(celeriac_\w+)`", (ROOT / "docs" / "metrics.md").read_text()))
        assert documented <= told
        assert {name for name, *_ in samples} <= {
            each for name in documented for each in (name, *map(name.__add__, ENDS))
        }


def test_without_a_database_they_say_so(api_broker_url: str, tmp_path: Path) -> None:
    """Without a database there are no numbers of jobs, rather than old ones."""
    with serving(NO_DATABASE, api_broker_url, tmp_path) as api:
        samples = scraped(api)
        assert samples["celeriac_up",] == 0
        assert not [name for name in samples if name[0] == "celeriac_jobs"]
