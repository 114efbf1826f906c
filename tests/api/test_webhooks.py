"""Webhooks over HTTP: what they may say, what is shown of them, and the ledger."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.api.calling import Caller, problem

URL = "https://hooks.example.com/jobs"


def created(caller: Caller, **said: Any) -> dict[str, Any]:
    """A new webhook, with its secret."""
    response = caller.post("/v1/webhooks", {"url": URL, **said})
    assert response.status_code == 201, response.text
    assert response.headers["location"] == f"/v1/webhooks/{response.json()['id']}"
    body: dict[str, Any] = response.json()
    return body


def test_the_secret_is_shown_once(caller: Caller) -> None:
    """Whoever makes a webhook is told its secret, and so is who rotates it; nobody afterwards."""
    webhook = created(caller)
    assert webhook["secret"].startswith("whsec_")
    assert webhook["events"] == ["job.completed", "job.failed", "job.cancelled"]
    path = f"/v1/webhooks/{webhook['id']}"
    rotated = caller.post(f"{path}/rotate-secret").json()
    assert rotated["secret"] not in ("", webhook["secret"])
    assert rotated["formerSecretUntil"] is not None
    for shown in (caller.get(path), caller.get("/v1/webhooks"), caller.patch(path, {"description": "ours"})):
        assert shown.status_code == 200
        assert rotated["secret"] not in shown.text
        assert "whsec_" not in shown.text


@pytest.mark.parametrize(
    "said",
    [
        {"url": "ftp://hooks.example.com/"},
        {"url": "https://user:secret@hooks.example.com/"},
        {"url": "not an address"},
        {"url": "https://127.0.0.1/"},
        {"url": "https://[::1]/"},
        {"url": "https://169.254.169.254/latest"},
        {"events": []},
        {"events": ["job.exploded"]},
        {"jobTypes": []},
        {"secret": "mine"},
    ],
    ids=str,
)
def test_what_no_webhook_can_be_is_refused(caller: Caller, said: dict[str, Any]) -> None:
    """Addresses that are none, that hold a password or are in a private network, and unknown events are 422."""
    problem(caller.post("/v1/webhooks", {"url": URL, **said}), 422, "invalid_request")
    assert caller.get("/v1/webhooks").json() == {"webhooks": [], "nextCursor": None}


def test_a_change_leaves_what_it_does_not_name(caller: Caller) -> None:
    """What is left out stays; null widens types and project again, and takes neither url nor events away."""
    path = f"/v1/webhooks/{created(caller, jobTypes=['a', 'a', 'b'], projectId='p1')['id']}"
    assert caller.get(path).json()["jobTypes"] == ["a", "b"]
    changed = caller.patch(path, {"jobTypes": None, "enabled": False}).json()
    assert (changed["jobTypes"], changed["projectId"], changed["url"], changed["enabled"]) == (None, "p1", URL, False)
    for said in ({}, {"url": None}, {"events": None}, {"enabled": None}, {"url": "https://10.0.0.1/"}):
        problem(caller.patch(path, said), 422, "invalid_request")
    assert caller.delete(path).status_code == 200
    problem(caller.get(path), 404, "webhook_not_found")


def test_the_ledger_shows_what_became_of_each_delivery(caller: Caller) -> None:
    """A delivery tells its answer or its error, its tries and its message; by status, and of one job."""
    webhook_id = uuid4()
    caller.webhook(webhook_id)
    failed, delivered = caller.delivery(webhook_id, "failed"), caller.delivery(webhook_id, "succeeded")
    path = f"/v1/webhooks/{webhook_id}/deliveries"
    ledger = caller.get(path).json()["deliveries"]
    assert [(each["id"], each["status"], each["answer"], each["error"]) for each in ledger] == [
        (str(delivered.id), "succeeded", 204, None),
        (str(failed.id), "failed", None, "broken"),
    ]
    assert [each["id"] for each in caller.get(path, status="failed").json()["deliveries"]] == [str(failed.id)]
    one = caller.get(f"{path}/{failed.id}").json()
    assert one["message"] == failed.payload["message"]
    assert [each["errorMessage"] for each in one["tries"]] == ["broken"]
    assert one["messageId"] == f"msg_{failed.id.hex}"
    problem(caller.get(f"/v1/webhooks/{webhook_id}/deliveries/{uuid4()}"), 404, "delivery_not_found")
    other = uuid4()
    caller.webhook(other)
    problem(caller.get(f"/v1/webhooks/{other}/deliveries/{failed.id}"), 404, "delivery_not_found")


def test_a_delivery_that_waits_is_not_sent_again(caller: Caller) -> None:
    """What is still to be delivered is 409; what has failed waits again, and what was taken is another delivery."""
    webhook_id = uuid4()
    caller.webhook(webhook_id)
    path = f"/v1/webhooks/{webhook_id}/deliveries"
    states = {state: caller.delivery(webhook_id, state).id for state in ("queued", "failed", "succeeded")}
    problem(caller.post(f"{path}/{states['queued']}/redeliver"), 409, "illegal_move")
    assert caller.post(f"{path}/{states['failed']}/redeliver").json()["deliveryId"] == str(states["failed"])
    again = caller.post(f"{path}/{states['succeeded']}/redeliver").json()["deliveryId"]
    assert caller.get(f"{path}/{again}").json()["messageId"] == f"msg_{states['succeeded'].hex}"


def test_a_job_shows_what_was_told_of_it(caller: Caller) -> None:
    """Whoever sees a job sees its deliveries; they are in no list of jobs, and nobody else's."""
    job, webhook_id = caller.job("succeeded"), uuid4()
    caller.webhook(webhook_id)
    delivery = caller.delivery(webhook_id, "succeeded", about=job.id)
    viewer = caller.but(permissions=("jobs.view_jobs",))
    [shown] = viewer.get(f"/v1/jobs/{job.id}/deliveries").json()["deliveries"]
    assert (shown["id"], shown["jobId"], shown["webhookId"]) == (str(delivery.id), str(job.id), str(webhook_id))
    assert [each["id"] for each in viewer.get("/v1/jobs").json()["jobs"]] == [str(job.id)]
    problem(viewer.get(f"/v1/jobs/{delivery.id}"), 404, "job_not_found")
    problem(viewer.but(user="u2").get(f"/v1/jobs/{job.id}/deliveries"), 404, "job_not_found")


@pytest.mark.parametrize("what", ["workflow", "schedule"])
def test_a_workflow_and_a_schedule_show_what_was_told_of_them(what: str, caller: Caller) -> None:
    """Whoever sees a workflow or a schedule sees its deliveries, page by page and by status; nobody else does."""
    subject, webhook_id = uuid4(), uuid4()
    caller.workflow(subject) if what == "workflow" else caller.schedule(subject, "nightly")
    caller.webhook(webhook_id)
    caller.delivery(webhook_id, "succeeded")  # of something else
    told = [caller.delivery(webhook_id, state, about=subject, what=what) for state in ("failed", "succeeded")]
    viewer, path = caller.but(permissions=("jobs.view_jobs",)), f"/v1/{what}s/{subject}/deliveries"
    shown = viewer.get(path).json()["deliveries"]
    assert [(each["id"], each[f"{what}Id"]) for each in shown] == [(str(job.id), str(subject)) for job in told[::-1]]
    assert [each["id"] for each in viewer.get(path, status="failed").json()["deliveries"]] == [str(told[0].id)]
    first = viewer.get(path, limit=1).json()
    assert viewer.get(path, limit=1, cursor=first["nextCursor"]).json()["deliveries"] == [shown[1]]
    for other in (viewer.but(user="u2"), viewer.but(organization="globex")):
        problem(other.get(path), 404, f"{what}_not_found")
