"""Cancel and retry: legal moves only, and 409 for the others."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from tests.api.calling import EVERYTHING, Caller, problem


@pytest.mark.parametrize("state", ["queued", "running", "retrying"])
def test_an_active_job_can_be_cancelled(caller: Caller, state: str) -> None:
    """A cancel of an active job is in its row, and history says who asked and why."""
    job = caller.job(state)
    response = caller.post(f"/v1/jobs/{job.id}/cancel", {"reason": "not needed"})
    assert (response.status_code, response.json()) == (
        200,
        {"message": "Job cancelled successfully", "status": "cancelled"},
    )
    last = caller.timeline(job.id)[-1]
    assert (last.event, last.actor, last.detail["reason"]) == ("cancelled", caller.user, "not needed")


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled"])
def test_a_finished_job_cannot_be_cancelled(caller: Caller, state: str) -> None:
    """Cancelling a finished job is 409 and changes nothing."""
    job = caller.job(state)
    problem(caller.post(f"/v1/jobs/{job.id}/cancel"), 409, "illegal_move")
    assert caller.find(job.id) == job


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_failed_or_cancelled_job_can_be_retried(caller: Caller, state: str) -> None:
    """A retry queues a failed or cancelled job again under a new dispatch number."""
    job = caller.job(state)
    response = caller.post(f"/v1/jobs/{job.id}/retry")
    assert (response.status_code, response.json()) == (
        200,
        {"message": "Job retry initiated successfully", "status": "queued"},
    )
    again = caller.find(job.id)
    assert (again.status, again.retry_count) == ("queued", 1)
    assert again.dispatch == job.dispatch + 1


@pytest.mark.parametrize("state", ["queued", "running", "retrying", "succeeded"])
def test_no_other_job_can_be_retried(caller: Caller, state: str) -> None:
    """Retrying a job that has not failed and was not cancelled is 409 and changes nothing."""
    job = caller.job(state)
    problem(caller.post(f"/v1/jobs/{job.id}/retry", {"force": True}), 409, "illegal_move")
    assert caller.find(job.id).status == state


def test_force_lifts_the_limit_of_retries(caller: Caller) -> None:
    """A retry beyond maxRetries is 409, which says that `force` allows it."""
    job = caller.job("failed", max_retries=0)
    body = problem(caller.post(f"/v1/jobs/{job.id}/retry"), 409, "illegal_move")
    assert "force" in body["detail"]
    assert caller.post(f"/v1/jobs/{job.id}/retry", {"force": True}).status_code == 200


def test_a_cancelled_job_whose_body_still_stops_has_to_be_waited_for(caller: Caller) -> None:
    """Retrying a job that is still stopping is 409 with Retry-After, and canRetry is false."""
    job = caller.job("running")
    caller.post(f"/v1/jobs/{job.id}/cancel")
    response = caller.post(f"/v1/jobs/{job.id}/retry")
    problem(response, 409, "illegal_move")
    assert int(response.headers["retry-after"]) > 0
    assert caller.get(f"/v1/jobs/{job.id}/status").json()["canRetry"] is False


@pytest.mark.parametrize("move", ["cancel", "retry"])
@pytest.mark.parametrize("body", [{"more": 1}, {"force": "yes"}, {"reason": 5}, {"reason": "x" * 1001}, []])
def test_a_move_takes_only_what_it_knows(caller: Caller, move: str, body: object) -> None:
    """A cancel or retry with an unknown field is 422 and changes nothing."""
    job = caller.job("cancelled" if move == "retry" else "queued")
    problem(caller.post(f"/v1/jobs/{job.id}/{move}", body), 422, "invalid_request")
    assert caller.find(job.id) == job


def test_retrying_needs_the_handlers_own_permission(caller: Caller) -> None:
    """Retrying a guarded job needs its handler's permission; cancelling it needs only jobs.cancel_jobs."""
    job = caller.job("failed", job_type="guarded")
    limited = caller.but(permissions=("jobs.retry_jobs", "jobs.cancel_jobs"))
    problem(limited.post(f"/v1/jobs/{job.id}/retry"), 403, "permission_missing")
    assert caller.post(f"/v1/jobs/{job.id}/retry").status_code == 200
    assert limited.post(f"/v1/jobs/{job.id}/cancel").status_code == 200


def test_a_job_without_a_handler_cannot_be_retried(caller: Caller) -> None:
    """A job whose handler is unknown here cannot be retried, since its permission is unknown too."""
    problem(caller.post(f"/v1/jobs/{caller.job('failed', job_type='gone').id}/retry"), 422, "unknown_job_type")


@pytest.mark.parametrize("move", ["cancel", "retry"])
def test_what_nobody_has_cannot_be_moved(caller: Caller, move: str) -> None:
    """Cancelling or retrying a job that does not exist is 404."""
    problem(caller.post(f"/v1/jobs/{uuid4()}/{move}"), 404, "job_not_found")


@pytest.mark.parametrize(("move", "state"), [("cancel", "queued"), ("retry", "failed")])
def test_the_whole_organizations_jobs_can_be_moved_with_view_all(caller: Caller, move: str, state: str) -> None:
    """Another user's job can be moved with jobs.view_all, and is 404 without it."""
    job = caller.job(state)
    other = caller.but(user="u2")
    problem(other.post(f"/v1/jobs/{job.id}/{move}"), 404, "job_not_found")
    chief = other.but(permissions=(*EVERYTHING, "jobs.view_all"))
    assert chief.post(f"/v1/jobs/{job.id}/{move}").status_code == 200


@pytest.mark.parametrize(("move", "state"), [("cancel", "queued"), ("retry", "failed")])
def test_of_fifty_moves_at_once_one_succeeds(caller: Caller, move: str, state: str) -> None:
    """Of fifty simultaneous cancels or retries one succeeds, and the others are 409."""
    job = caller.job(state, max_retries=100)
    with ThreadPoolExecutor(10) as threads:
        answers = list(threads.map(lambda _: caller.post(f"/v1/jobs/{job.id}/{move}"), range(50)))
    assert Counter(answer.json().get("code", answer.status_code) for answer in answers) == {200: 1, "illegal_move": 49}
