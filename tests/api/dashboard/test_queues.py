"""Queues that operators pause, by the API and on the page of the workers."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tests.api.calling import EVERYTHING, Caller, problem
from tests.api.dashboard.conftest import SignIn
from tracking.states import Hold

SAME = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def queue() -> str:
    """A queue of this test alone."""
    return f"queue-{uuid4().hex[:8]}"


def test_an_operator_pauses_a_queue_and_resumes_it(caller: Caller, queue: str) -> None:
    """A paused queue is listed with who has paused it, holds what comes, tells whoever waits, and is in the audit."""
    caller.job(queue=queue)
    said = caller.post(f"/v1/queues/{queue}/pause", {"reason": "moving"})
    assert (said.status_code, said.json()["name"], said.json()["pause"]["reason"]) == (200, queue, "moving")
    [listed] = [each for each in caller.get("/v1/queues").json()["queues"] if each["name"] == queue]
    assert listed["pause"] == said.json()["pause"]
    assert listed["pause"]["pausedBy"] == caller.user
    job = caller.job(queue=queue)
    assert caller.find(job.id).hold is Hold.PAUSED
    [reason] = [each for each in caller.get(f"/v1/jobs/{job.id}/explain").json()["reasons"] if each["kind"] == "paused"]
    assert (reason["queue"], reason["pausedBy"], reason["everywhere"]) == (queue, None, True)
    again = caller.post(f"/v1/queues/{queue}/pause", {"reason": "another"})
    assert again.json() == said.json(), "it was paused already"
    assert caller.post(f"/v1/queues/{queue}/resume").json() == {"name": queue, "pause": None}
    entries = caller.get("/v1/audit", organization="*", target=queue).json()["entries"]
    assert [(each["action"], each["actor"], each["detail"]) for each in entries] == [
        ("queue.resume", caller.user, {}),
        ("queue.pause", caller.user, {"reason": "moving"}),
    ]


def test_a_slip_is_told(caller: Caller, queue: str) -> None:
    """A queue that no living worker consumes and no job is in is not found; one that is paused can be resumed."""
    problem(caller.post(f"/v1/queues/{queue}/pause"), 404, "queue_not_found")
    problem(caller.post(f"/v1/queues/{queue}/resume"), 404, "queue_not_found")
    job = caller.job(queue=queue)
    assert caller.post(f"/v1/queues/{queue}/pause").status_code == 200
    caller.post(f"/v1/jobs/{job.id}/cancel")
    assert caller.post(f"/v1/queues/{queue}/resume").status_code == 200


def test_the_page_of_the_workers_pauses_and_resumes(caller: Caller, queue: str, reading: SignIn) -> None:
    """An operator pauses a queue by its button, sees who has paused it, and resumes it; others may not."""
    caller.job(queue=queue)
    client = reading(caller)
    assert f'action="/queues/{queue}/pause"' in client.get("/workers").text
    ordinary = reading(caller.but(permissions=tuple(set(EVERYTHING) - {"jobs.manage_platform"})))
    assert ordinary.post(f"/queues/{queue}/pause", headers=SAME).status_code == 403
    answer = client.post(f"/queues/{queue}/pause", headers={**SAME, "Accept": "text/html"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/workers?done=paused")
    page = client.get("/workers?done=paused").text
    assert "What waits in the queue does not start; what runs goes on." in page
    assert f"<b>{queue}</b><span>Paused by {caller.user} since" in page
    assert f'action="/queues/{queue}/resume"' in page
    assert client.post(f"/queues/{queue}/resume", headers={**SAME, "Accept": "application/json"}).json() == {
        "message": "What waited in the queue starts again."
    }
    assert f"<b>{queue}</b><span>Paused" not in client.get("/workers").text
