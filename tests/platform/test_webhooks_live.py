"""Webhooks on a live platform: from a job to the request that a receiver gets."""

from __future__ import annotations

from uuid import uuid4

from tests.live import LivePlatform, eventually
from tests.receiving import receiving
from tracking import webhooks
from tracking.models import Scope
from tracking.origins import By
from tracking.reads import lists
from tracking.webhooks import Wanted


def test_a_receiver_is_told_of_a_job_even_when_it_fails_at_first(platform: LivePlatform) -> None:
    """What a receiver answers with an error is sent again, with the same id, while the organization's jobs go on."""
    events = ("job.completed",)
    with receiving() as receiver, platform.database.begin() as connection:
        receiver.status = 500
        url = f"http://127.0.0.1:{receiver.port}/hook"
        webhook = webhooks.create(connection, uuid4(), "default", Wanted(url, events), By("u1", None))
        connection.commit()
        platform.start_worker(queues="default,maintenance,webhooks", CELERIAC_WEBHOOKS_PRIVATE="true")
        job = platform.submit("add", 1, 2)
        eventually(lambda: receiver.requests, what="a first try")
        receiver.status = 204
        eventually(lambda: len(receiver.requests) > 1, what="a second try")
    assert {headers["webhook-id"] for _, headers, _ in receiver.requests} == {receiver.requests[0][1]["webhook-id"]}
    data = receiver.requests[-1][2]["data"]
    assert (data["jobId"], data["result"]) == (str(job), 3)
    with platform.database.autocommit() as connection:
        [delivery] = lists.after(connection, Scope("webhooks:default", None), cursor=None, size=10).jobs
    assert platform.wait_for(delivery.id).result == {"status": 204}
    assert (delivery.project_id, delivery.user_id) == (str(webhook.id), str(job))
