"""Webhooks on a live platform: from a job to the request that a receiver gets."""

from __future__ import annotations

from uuid import uuid4

from api.schemas.webhooks import Delivery
from tests.live import LivePlatform, eventually
from tests.receiving import receiving
from tests.scheduled import Scheduled
from tests.tracked import Tracked
from tests.workflowing import create, node
from tracking import webhooks
from tracking.models import Scope
from tracking.origins import By
from tracking.reads import lists
from tracking.webhooks import Wanted


def ledger(platform: LivePlatform) -> Delivery:
    """The one delivery that there is, as the ledger shows it."""
    with platform.database.autocommit() as connection:
        [delivery] = lists.after(connection, Scope("webhooks:default", None), cursor=None, size=10).jobs
    return Delivery.of(delivery)


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
        eventually(lambda: ledger(platform).answer == 500, what="its answer in the ledger")
        receiver.status = 204
        eventually(lambda: len(receiver.requests) > 1, what="a second try")
    assert {headers["webhook-id"] for _, headers, _ in receiver.requests} == {receiver.requests[0][1]["webhook-id"]}
    data = receiver.requests[-1][2]["data"]
    assert (data["jobId"], data["result"]) == (str(job), 3)
    assert platform.wait_for(ledger(platform).id).result == {"status": 204}
    delivery = ledger(platform)
    assert (delivery.webhook_id, delivery.job_id, delivery.answer, delivery.attempts) == (webhook.id, job, 204, 2)


def test_a_receiver_is_told_of_a_workflow_and_a_schedule(platform: LivePlatform) -> None:
    """A live worker tells each start and end of a workflow, and each due time of a schedule, once."""
    ends = ["workflow.completed", "workflow.started"]  # in any order: each delivery is a job of its own
    events = (*ends, "schedule.fired")
    with receiving() as receiver, platform.database.autocommit() as connection:
        url = f"http://127.0.0.1:{receiver.port}/hook"
        with platform.database.begin() as creating:
            webhooks.create(creating, uuid4(), "acme", Wanted(url, events), By("u1", None))
        platform.start_worker(queues="default,maintenance,webhooks", CELERIAC_WEBHOOKS_PRIVATE="true")
        schedule = Scheduled(platform.database).create(every_seconds=1, payload={"words": ["a"]})
        flow = create(platform.database, Tracked(connection), node("a", payload={"words": ["a"]}))
        eventually(
            lambda: (
                len({body["data"].get("dueAt") for _, _, body in receiver.requests}) > 3
                and {*ends} <= {body["type"] for _, _, body in receiver.requests}
            ),
            within=40,
            what="the end of the workflow and three due times",
        )
        told = [body for _, _, body in receiver.requests]
        of_flow = [body for body in told if "workflowId" in body["data"]]
        assert sorted(body["type"] for body in of_flow) == ends
        assert {body["data"]["workflowId"] for body in of_flow} == {str(flow.id)}
        due = [body["data"]["dueAt"] for body in told if body["data"].get("scheduleId") == str(schedule.id)]
        assert len(due) == len(set(due)) >= 3
