"""Workers that are told from afar to consume another queue, or one no more: their rows follow."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from tests.live import LivePlatform, eventually
from tracking.admission.rule import Limits
from tracking.models import Scope
from tracking.reads.explain import explain
from tracking.schema import workers

CONTROL = "from tasks import app; print(app.control.{}(stdin, reply=True, timeout=5))"


@pytest.fixture(autouse=True)
def _short(platform: LivePlatform) -> None:
    platform.environment |= {
        "CELERIAC_ORGANIZATION_LIMIT": "1",
        "CELERIAC_LEASE_TIMEOUT": "2",
        "CELERIAC_HEARTBEAT": "0.5",
    }


def consumed(platform: LivePlatform) -> set[str]:
    """What the row of the one worker says."""
    with platform.database.autocommit() as connection:
        return set(connection.execute(select(workers.c.queues)).scalar_one())


def test_a_queue_that_a_worker_begins_to_consume_is_served(platform: LivePlatform) -> None:
    """`celery control add_consumer` lets the jobs run that wait in line for a worker of that queue."""
    platform.start_worker()
    job_id = platform.submit("noop", queue="later")
    assert "ok" in platform.run(CONTROL.format("add_consumer"), "later")
    assert platform.wait_for(job_id, within=20).status == "succeeded"
    assert consumed(platform) == {"default", "maintenance", "later"}


def test_a_queue_that_a_worker_consumes_no_more_is_not_served(platform: LivePlatform) -> None:
    """After `celery control cancel_consumer` its jobs hold no slot, and are told to wait for a worker."""
    platform.start_worker(queues="default,maintenance,fading")
    assert "ok" in platform.run(CONTROL.format("cancel_consumer"), "fading")
    eventually(lambda: consumed(platform) == {"default", "maintenance"}, within=20, what="the next heartbeat")
    waiting = platform.submit("noop", queue="fading")
    assert platform.wait_for(platform.submit("noop"), within=20).status == "succeeded"
    with platform.database.autocommit() as connection:
        job = platform.job(waiting)
        scope = Scope(job.organization_id, None)
        [reason, *_] = explain(connection, waiting, scope, Limits(1)).reasons
    assert (job.status, job.hold, reason.kind) == ("queued", "organization_limit", "no_worker")
