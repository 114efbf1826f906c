"""Alert rules: each fires on the metrics of a live API when what it tells of is brought about, and not without."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import text, update

from api.families import OfRows
from bench.chaos.proxy import Mode
from tests.alerting import firing
from tests.api.calling import Api
from tests.api.conftest import serving
from tests.api.test_metrics import counted
from tests.behind import broker_behind, database_behind
from tests.live import eventually
from tests.tracked import LEASE_TIMEOUT, Tracked, new_job
from tracking.admission import holds
from tracking.admission.rule import UNLIMITED
from tracking.db import Database
from tracking.jobs.dispatch import mark_dispatched
from tracking.jobs.submit import submit
from tracking.models import Fence, Owner
from tracking.reads.fleet import all_queues
from tracking.reads.measured import measured
from tracking.reads.overview import overview
from tracking.schema import jobs

SHOWN = 15.0  # seconds within which metrics show what has happened: they are read anew every five
FEW = 2  # connections of a pool


@pytest.fixture
def own(database_url: str, api_broker_url: str, tmp_path: Path) -> Iterator[Api]:
    """An API on a database of this test alone."""
    with serving(database_url, api_broker_url, tmp_path, CELERIAC_ORGANIZATION_LIMIT="0") as api:
        yield api


def fires(api: Api, alert: str, **options: Any) -> list[dict[str, str]]:
    """For which labels the rule holds now."""
    return firing(alert, api.client.get("/metrics").text, **options)


def comes(api: Api, alert: str, **options: Any) -> list[dict[str, str]]:
    """For which labels the rule holds, once it does."""
    found: list[dict[str, str]] = eventually(lambda: fires(api, alert, **options), within=SHOWN, what=alert)
    return found


def goes(api: Api, alert: str, **options: Any) -> None:
    """Wait until the rule holds no longer."""
    eventually(lambda: not fires(api, alert, **options), within=SHOWN, what=f"the end of {alert}")


def waited(database: Database, job_id: UUID, seconds: int) -> None:
    """Let it be as if all that has happened to a job had been so long ago."""
    times = (jobs.c.created_at, jobs.c.updated_at, jobs.c.due_at, jobs.c.scheduled_at, jobs.c.dispatched_at)
    ago = timedelta(seconds=seconds)
    with database.begin() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job_id).values({each: each - ago for each in times}))


def sent(database: Database, queue: str) -> UUID:
    """A job that waits for a worker, as its message is at the broker."""
    new = new_job(owner=Owner("acme", "u1"), queue=queue)
    with database.begin() as connection:
        submit(connection, new, UNLIMITED)
        mark_dispatched(connection, [Fence(new.id, 1)])
    return new.id


def just_due(database: Database, queue: str) -> UUID:
    """A job that was to wait for a day, which is over since a moment ago; its message is not sent yet."""
    new = new_job(owner=Owner("globex", "u1"), queue=queue, delay=timedelta(days=1))
    with database.begin() as connection:
        submit(connection, new, UNLIMITED)
    waited(database, new.id, 86_400)
    with database.begin() as connection:
        assert [job.id for job in holds.lift_due(connection, UNLIMITED, 10)] == [new.id]
    return new.id


def test_a_database_that_is_silent(database_url: str, api_broker_url: str, tmp_path: Path) -> None:
    """DatabaseAway fires while the database says nothing, and is over with that."""
    with database_behind(database_url) as (url, proxy), serving(url, api_broker_url, tmp_path) as api:
        assert not fires(api, "DatabaseAway")
        proxy.switch(Mode.BLACK_HOLE)
        assert comes(api, "DatabaseAway") == [{}]
        proxy.switch(Mode.OPEN)
        goes(api, "DatabaseAway")


def test_a_queue_that_is_slow(own: Api) -> None:
    """QueueSlow names the queue whose first job has waited for a quarter of an hour, and none of what was just due."""
    first = sent(own.database, "slow")
    just_due(own.database, "prompt")
    waited(own.database, first, 890)
    eventually(lambda: 'queue="prompt"' in own.client.get("/metrics").text, within=SHOWN, what="the queue")
    assert not fires(own, "QueueSlow")
    with own.database.autocommit() as connection:  # the same for people
        shown = {each.name: each.oldest for each in overview(connection, window=timedelta(hours=1)).loads}
        queues = {each.name: each.oldest for each in all_queues(connection, LEASE_TIMEOUT)}
    for oldest in (shown, queues):
        assert (oldest["prompt"] or timedelta.max) < timedelta(minutes=1) < (oldest["slow"] or timedelta.min)
    waited(own.database, first, 11)
    assert comes(own, "QueueSlow") == [{"queue": "slow"}]


def test_messages_that_the_broker_does_not_take(database_url: str, api_broker_url: str, tmp_path: Path) -> None:
    """MessagesNotSent fires when a job could have been sent for a minute, not for one that has just come due."""
    with broker_behind(api_broker_url) as (url, proxy), serving(database_url, url, tmp_path) as api:
        proxy.switch(Mode.REFUSE)
        just_due(api.database, "default")
        job_id = UUID(api.caller().create().json()["jobId"])
        waited(api.database, job_id, 50)
        eventually(lambda: "celeriac_unsent_jobs 2.0" in api.client.get("/metrics").text, within=SHOWN, what="both")
        assert not fires(api, "MessagesNotSent")
        waited(api.database, job_id, 11)
        assert comes(api, "MessagesNotSent") == [{}]
        with api.database.begin() as connection:
            mark_dispatched(connection, [Fence(job_id, 1)])
        goes(api, "MessagesNotSent")


def test_more_jobs_than_the_broker_takes(database_url: str, api_broker_url: str, tmp_path: Path) -> None:
    """DispatchBacklog fires when jobs are created faster than a broker takes them, and is over when it does again."""
    unlimited = {"CELERIAC_ORGANIZATION_LIMIT": "0"}
    with broker_behind(api_broker_url) as (url, proxy), serving(database_url, url, tmp_path, **unlimited) as api:
        caller = api.caller()
        many = [{"jobType": "open", "payload": {}} for _ in range(1000)]
        assert caller.post("/v1/jobs/bulk", {"jobs": many}).is_success
        goes(api, "DispatchBacklog")
        proxy.switch(Mode.BLACK_HOLE)
        for _ in range(2):
            assert caller.post("/v1/jobs/bulk", {"jobs": many}).is_success
        assert comes(api, "DispatchBacklog") == [{}]
        proxy.switch(Mode.OPEN)
        goes(api, "DispatchBacklog")


def test_live_events_that_are_held_up(own: Api) -> None:
    """EventsLate fires while a transaction that has written history does not end; here after 3 seconds, to be quick."""
    assert not fires(own, "EventsLate", beyond=3)
    with own.database.begin() as connection:
        submit(connection, new_job(), UNLIMITED)
        assert comes(own, "EventsLate", beyond=3) == [{}]
    goes(own, "EventsLate", beyond=3)


def test_events_that_nobody_counts(own: Api) -> None:
    """NotCounted fires when the leader is more than 100,000 events behind, and is over when it has counted them."""
    own.caller().create()
    assert not fires(own, "NotCounted")
    with own.database.begin() as connection:
        connection.execute(text("SELECT setval('history_id_seq', nextval('history_id_seq') + 100000)"))
    own.caller().create()
    assert comes(own, "NotCounted") == [{}]
    counted(own.database)
    goes(own, "NotCounted")


def test_a_pool_without_a_free_connection(database_url: str, api_broker_url: str, tmp_path: Path) -> None:
    """PoolExhausted names the pool all of whose connections wait for a lock, and no other pool."""
    with (
        serving(database_url, api_broker_url, tmp_path, CELERIAC_POOL_SIZE=str(FEW)) as api,
        ThreadPoolExecutor(FEW) as threads,
    ):
        caller = api.caller()
        locked = [caller.create().json()["jobId"] for _ in range(FEW)]
        assert not fires(api, "PoolExhausted")
        with api.database.begin() as connection:
            connection.execute(text("SELECT FROM jobs FOR UPDATE"))
            cancels = [threads.submit(caller.post, f"/v1/jobs/{job_id}/cancel") for job_id in locked]
            assert comes(api, "PoolExhausted") == [{"pool": "main"}]
        assert [cancel.result().status_code for cancel in cancels] == [200] * FEW
        goes(api, "PoolExhausted")


def test_more_active_jobs_than_are_read(tracked: Tracked) -> None:
    """NumbersCapped fires with as many active jobs as metrics are made of, here two, and not with fewer."""
    tracked.submit()
    assert not firing("NumbersCapped", _text_of(tracked, most=2))
    tracked.submit()
    assert firing("NumbersCapped", _text_of(tracked, most=2)) == [{}]


def _text_of(tracked: Tracked, *, most: int) -> str:
    registry = CollectorRegistry()
    registry.register(OfRows(measured(tracked.connection, LEASE_TIMEOUT, most=most), organizations=False))
    return generate_latest(registry).decode()
