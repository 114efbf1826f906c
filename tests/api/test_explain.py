"""GET /v1/jobs/{id}/explain: why a job does not run, in fields and in one sentence."""

from __future__ import annotations

from typing import Any

import pytest

from api.schemas.explanation import EXAMPLE
from tests.api.calling import Api, Caller, problem


def explained(caller: Caller, job_id: object) -> dict[str, Any]:
    """The explanation of a job."""
    response = caller.get(f"/v1/jobs/{job_id}/explain")
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def test_a_job_in_line_is_explained_as_in_the_description(caller: Caller) -> None:
    """A job in line is explained with the fields of the description's example and its five holders."""
    holders = [caller.job("running") for _ in range(5)]
    waiting = [caller.create().json()["jobId"] for _ in range(3)][-1]
    body = explained(caller, waiting)
    (reason,) = (reason for reason in body["reasons"] if reason["kind"] == "organization_limit")
    assert body.keys() == EXAMPLE.keys()
    assert reason.keys() == EXAMPLE["reasons"][0].keys()
    assert (body["jobId"], body["status"], body["hold"]) == (waiting, "queued", "organization_limit")
    assert (reason["taken"], reason["place"], reason["limit"]) == (5, 3, 5)
    assert reason["holders"] == [str(holder.id) for holder in holders]
    assert reason["sentence"] == EXAMPLE["sentence"]


def test_the_sentence_is_that_of_the_first_reason(caller: Caller) -> None:
    """The explanation's sentence is that of its first reason, which is the hold."""
    job = caller.job(scheduled_at=None, delay=None, queue="nobody's")
    body = explained(caller, job.id)
    assert body["sentence"] == body["reasons"][0]["sentence"] == "No living worker consumes the queue nobody's."


@pytest.mark.parametrize("state", ["queued", "running", "retrying", "succeeded", "failed", "cancelled"])
def test_a_job_in_every_state_is_explained(caller: Caller, state: str) -> None:
    """A job that runs or has ended is explained with the kind of reason of that state."""
    body = explained(caller, caller.job(state).id)
    kind = "no_worker" if state in ("queued", "retrying") else state
    assert kind in [reason["kind"] for reason in body["reasons"]]
    assert all(reason["sentence"].endswith(".") for reason in body["reasons"])


def test_a_cancel_is_explained_by_whom_and_why(caller: Caller) -> None:
    """A cancelled job is explained with who cancelled it and the reason of the request."""
    job = caller.job()
    caller.post(f"/v1/jobs/{job.id}/cancel", {"reason": "not needed"})
    (reason,) = explained(caller, job.id)["reasons"]
    assert (reason["by"], reason["reason"]) == (caller.user, "not needed")


def test_nothing_of_another_organization_or_user_is_shown(api: Api) -> None:
    """An explanation shows no holder, dependency or pause of another organization or user."""
    mine = api.caller(user="u-mine")
    other_user = mine.but(user="u-other")
    stranger = api.caller(user="u-stranger")
    hidden = [other_user.job("running") for _ in range(5)] + [stranger.job("running") for _ in range(5)]
    stranger.post("/v1/organization/pause", {"reason": "u-stranger's"})
    text = mine.get(f"/v1/jobs/{mine.create().json()['jobId']}/explain").text
    assert not [job for job in hidden if str(job.id) in text]
    assert "u-other" not in text
    assert "u-stranger" not in text
    assert '"taken":5' in text


def test_somebody_elses_job_is_not_explained(caller: Caller) -> None:
    """Explaining another organization's job is 404, as for a job that does not exist."""
    job = caller.job()
    for other in (caller.but(user="u2"), caller.api.caller()):
        problem(other.get(f"/v1/jobs/{job.id}/explain"), 404, "job_not_found")
