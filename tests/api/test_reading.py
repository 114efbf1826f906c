"""GET: one job, its status, lists, what is recent, counts, history, job types."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import func, select, update

from tests.api.calling import Caller, problem
from tracking.models import JobRecord
from tracking.schema import jobs

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
STATES = ("queued", "running", "retrying", "succeeded", "failed", "cancelled")
JOB_FIELDS = {
    *("id", "dispatch", "organizationId", "projectId", "userId", "jobType", "status", "hold", "priority", "attempt"),
    *("retryCount", "maxRetries", "payload", "metadata", "result", "errorMessage", "message", "progress"),
    *("totalSteps", "currentStep", "worker", "dependsOn", "scheduledAt", "nextRetryAt", "cancelRequestedAt"),
    *("startedAt", "completedAt", "durationMs", "createdAt", "updatedAt"),
}


def age(caller: Caller, job: JobRecord, by: timedelta) -> None:
    """Move all times of a job into the past."""
    times = (jobs.c.created_at, jobs.c.started_at, jobs.c.completed_at, jobs.c.updated_at)
    with caller.api.database.autocommit() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job.id).values({time: time - by for time in times}))


def ids(found: list[dict[str, Any]]) -> list[str]:
    """The ids of jobs in JSON."""
    return [job["id"] for job in found]


def test_a_job_has_exactly_the_fields_of_the_contract(caller: Caller) -> None:
    """The JSON of a job has exactly the fields of the contract."""
    assert caller.get(f"/v1/jobs/{caller.job().id}").json().keys() == JOB_FIELDS


def test_a_finished_job_tells_its_times_and_its_result(caller: Caller) -> None:
    """A finished job has its result, UTC times with milliseconds, and its duration in ms."""
    body = caller.get(f"/v1/jobs/{caller.job('succeeded', result={'n': 1}).id}").json()
    for name in ("createdAt", "startedAt", "completedAt", "updatedAt"):
        assert INSTANT.fullmatch(body[name]), name
    took = datetime.fromisoformat(body["completedAt"]) - datetime.fromisoformat(body["startedAt"])
    assert abs(body["durationMs"] - took / timedelta(milliseconds=1)) <= 1
    assert (body["result"], body["progress"], body["dependsOn"]) == ({"n": 1}, 100, [])


def test_a_retrying_job_tells_when_it_runs_again(caller: Caller) -> None:
    """A retrying job has its nextRetryAt and its last error."""
    body = caller.get(f"/v1/jobs/{caller.job('retrying').id}").json()
    assert INSTANT.fullmatch(body["nextRetryAt"])
    assert (body["status"], body["hold"], body["errorMessage"]) == ("retrying", "backoff", "broken")


def test_attempts_and_history_are_included_when_asked_for(caller: Caller) -> None:
    """`include` adds each attempt with its worker, times and error, and the timeline in order."""
    body = caller.get(f"/v1/jobs/{caller.job('failed').id}", include="attempts,history").json()
    assert body.keys() == {*JOB_FIELDS, "attempts", "history"}
    attempt = body["attempts"][0]
    assert (attempt["attempt"], attempt["worker"], attempt["outcome"]) == (1, "worker-1", "failed")
    assert (attempt["errorType"], attempt["errorMessage"]) == ("ValueError", "broken")
    assert attempt["traceback"].startswith("Traceback")
    path = [(entry["event"], entry["from"], entry["to"]) for entry in body["history"]]
    assert path == [("created", None, "queued"), ("started", "queued", "running"), ("failed", "running", "failed")]


@pytest.mark.parametrize("params", [{"include": "all"}, {"include": ""}, {"more": "1"}])
def test_asking_a_job_for_what_there_is_not_is_refused(caller: Caller, params: dict[str, Any]) -> None:
    """Unknown includes and unknown parameters are refused."""
    problem(caller.get(f"/v1/jobs/{caller.job().id}", **params), 422, "invalid_request")


@pytest.mark.parametrize(
    ("state", "can_cancel", "can_retry"),
    [
        ("queued", True, False),
        ("running", True, False),
        ("retrying", True, False),
        ("succeeded", False, False),
        ("failed", False, True),
        ("cancelled", False, True),
    ],
)
def test_the_status_says_what_can_be_done(caller: Caller, state: str, *, can_cancel: bool, can_retry: bool) -> None:
    """CanCancel and canRetry are those of the table of states."""
    body = caller.get(f"/v1/jobs/{caller.job(state).id}/status").json()
    assert body.keys() == {"job", "progress", "progressDetail", "canCancel", "canRetry"}
    assert (body["job"]["status"], body["canCancel"], body["canRetry"]) == (state, can_cancel, can_retry)


def test_a_failed_job_without_a_retry_left_cannot_be_retried(caller: Caller) -> None:
    """CanRetry is false for a failed job without a retry left."""
    job = caller.job("failed", max_retries=0)
    assert caller.get(f"/v1/jobs/{job.id}/status").json()["canRetry"] is False


def test_the_status_tells_the_progress(caller: Caller) -> None:
    """The status has the progress as a number, and its steps, percentage, message and detail."""
    job = caller.job("running")
    caller.report(job, percent=40, message="Query data", detail={"rows": 7}, current_step=2, total_steps=6)
    status = caller.get(f"/v1/jobs/{job.id}/status").json()
    assert status["progress"] == 40
    said = {"message": "Query data", "detail": {"rows": 7}}
    assert status["progressDetail"] == {"current": 2, "total": 6, "percentage": 40, **said}


@pytest.mark.parametrize(
    ("state", "old", "seconds"),
    [
        ("queued", False, "2"),
        ("running", False, "2"),
        ("queued", True, "10"),
        ("running", True, "5"),
        ("retrying", True, "10"),
        ("succeeded", False, None),
        ("failed", True, None),
        ("cancelled", True, None),
    ],
)
def test_the_status_says_when_to_ask_again(caller: Caller, state: str, seconds: str | None, *, old: bool) -> None:
    """Retry-After is 2 s at first, 5 s while running, 10 s while waiting, and absent when finished."""
    job = caller.job(state)
    if old:
        age(caller, job, timedelta(seconds=11))
    assert caller.get(f"/v1/jobs/{job.id}/status").headers.get("retry-after") == seconds


def test_an_unchanged_status_is_not_sent_again(caller: Caller) -> None:
    """An unchanged status is 304 without a body for every form of If-None-Match that names its tag."""
    path = f"/v1/jobs/{caller.job('running').id}/status"
    tag = caller.get(path).headers["etag"]
    for given in (tag, f'"other", {tag}', tag.removeprefix("W/"), "*"):
        response = caller.get(path, headers={"If-None-Match": given})
        assert (response.status_code, response.content, response.headers["etag"]) == (304, b"", tag)
        assert response.headers["retry-after"] == "2"


def test_a_changed_status_has_another_tag(caller: Caller) -> None:
    """The tag of a status changes with progress and with the end."""
    job = caller.job("running")
    path = f"/v1/jobs/{job.id}/status"
    tags = [caller.get(path).headers["etag"]]
    caller.report(job, percent=1)
    tags.append(caller.get(path, headers={"If-None-Match": tags[-1]}).headers["etag"])
    caller.post(f"/v1/jobs/{job.id}/cancel")
    tags.append(caller.get(path, headers={"If-None-Match": tags[-1]}).headers["etag"])
    assert len(set(tags)) == 3


def test_recent_jobs_are_the_active_then_the_just_finished(caller: Caller) -> None:
    """Recent jobs are active ones, then those of the last hour, in the order of the contract."""
    old = caller.job("succeeded")
    age(caller, old, timedelta(minutes=61))
    order = [
        caller.job("queued", priority=9),
        caller.job("running"),
        caller.job("queued"),
        caller.job("failed", priority=2),
        *reversed([caller.job("succeeded"), caller.job("cancelled")]),
    ]
    assert ids(caller.get("/v1/jobs/recent").json()["jobs"]) == [str(job.id) for job in order]
    assert ids(caller.get("/v1/jobs/recent", limit=2).json()["jobs"]) == [str(job.id) for job in order[:2]]
    assert ids(caller.get("/v1/jobs/recent", status="failed").json()["jobs"]) == [str(order[3].id)]
    assert caller.get("/v1/jobs/recent", type="other").json() == {"jobs": []}


def test_counts_equal_a_group_by_of_the_rows(caller: Caller) -> None:
    """The counts of stats equal a GROUP BY of the rows for every state."""
    for number, state in enumerate(STATES, start=1):
        for _ in range(number):
            caller.job(state)
    with caller.api.database.autocommit() as connection:
        mine = jobs.c.organization_id == caller.organization
        counted = select(jobs.c.status, func.count()).where(mine).group_by(jobs.c.status)
        rows: dict[str, int] = dict(connection.execute(counted).all())
    body = caller.get("/v1/jobs/stats").json()
    assert (body["pending"], body["scheduled"], body["total"]) == (rows["queued"], 0, sum(rows.values()))
    assert body["completed"] == rows["succeeded"]
    for name in ("running", "retrying", "failed", "cancelled"):
        assert body[name] == rows[name]
    assert body["totalActive"] == rows["queued"] + rows["running"] + rows["retrying"]
    assert body["held"] == rows["retrying"]


def test_finished_jobs_are_counted_over_the_window(caller: Caller) -> None:
    """Stats count finished jobs over an hour or the given window; ages and durations are in ms."""
    age(caller, caller.job("succeeded"), timedelta(minutes=90))
    age(caller, caller.job("queued"), timedelta(minutes=2))
    assert caller.get("/v1/jobs/stats").json()["completed"] == 0
    body = caller.get("/v1/jobs/stats", window="PT2H").json()
    assert body["completed"] == 1
    assert 120_000 <= body["oldestPendingAgeMs"] < 180_000
    assert body["averageDurationMs"] is not None


@pytest.mark.parametrize("window", ["PT0S", "-PT1H", "P91D", "soon", "P" + "9" * 30 + "D", "1e400", "NaN"])
def test_a_window_without_sense_is_refused(caller: Caller, window: str) -> None:
    """A window must be longer than nothing and at most 90 days."""
    problem(caller.get("/v1/jobs/stats", window=window), 422, "invalid_request")


def test_the_history_is_what_finished_last_first(caller: Caller) -> None:
    """The history lists what finished last first, page by page, in the shape of the contract."""
    finished = [caller.job(state, payload={"n": 1}) for state in ("succeeded", "failed", "cancelled")]
    caller.job("running")
    first = caller.get("/v1/jobs/history", limit=2).json()
    rest = caller.get("/v1/jobs/history", limit=2, cursor=first["nextCursor"]).json()
    entries = first["history"] + rest["history"]
    assert ids(entries) == [str(job.id) for job in reversed(finished)]
    assert rest["nextCursor"] is None
    assert entries[1].keys() == {
        *("id", "jobId", "type", "priority", "payload", "status", "error", "retryCount"),
        *("createdAt", "startedAt", "completedAt", "durationMs"),
    }
    assert (entries[1]["status"], entries[1]["error"], entries[1]["payload"]) == ("failed", "broken", {"n": 1})


def test_the_history_can_be_narrowed(caller: Caller) -> None:
    """The history can be narrowed by type, status and time of the end."""
    job = caller.job("failed", job_type="a")
    caller.job("succeeded", job_type="b")
    narrowed = [caller.get("/v1/jobs/history", type="a"), caller.get("/v1/jobs/history", status="failed")]
    assert [ids(response.json()["history"]) for response in narrowed] == [[str(job.id)]] * 2
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    after: dict[str, Any] = {"from": later}
    assert caller.get("/v1/jobs/history", **after).json()["history"] == []
    assert len(caller.get("/v1/jobs/history", to=later).json()["history"]) == 2


@pytest.mark.parametrize(
    ("word", "state"),
    [("pending", "queued"), ("processing", "running"), ("completed", "succeeded"), ("error", "failed")],
)
def test_filters_take_the_words_of_the_older_systems(caller: Caller, word: str, state: str) -> None:
    """Every filter by status takes the older systems' words, and answers use ours."""
    wanted = [str(caller.job(each, project_id="p").id) for each in STATES if each == state]
    for _ in range(2):
        caller.job("cancelled", project_id="p")
    lists = {"/v1/jobs": "jobs", "/v1/jobs/recent": "jobs", "/v1/projects/p/jobs": "jobs"}
    if state in ("succeeded", "failed"):
        lists["/v1/jobs/history"] = "history"
    for path, name in lists.items():
        for given in (word, state):
            found = caller.get(path, status=given).json()[name]
            assert (ids(found), [job["status"] for job in found]) == (wanted, [state]), path
    both = caller.get("/v1/jobs", status=f"{word},{state}").json()["jobs"]
    assert ids(both) == wanted


def test_a_projects_jobs_and_counts_are_its_own(caller: Caller) -> None:
    """The reads of a project show its jobs only."""
    job = caller.job(project_id="p 1 ü")
    caller.job("running", project_id="p2")
    caller.job()
    assert ids(caller.get("/v1/projects/p 1 ü/jobs", status="queued").json()["jobs"]) == [str(job.id)]
    stats = caller.get("/v1/projects/p2/jobs/stats").json()
    assert (stats["pending"], stats["running"]) == (0, 1)
    problem(caller.get("/v1/projects/p2/jobs", projectId="p1"), 422, "invalid_request")


def test_job_types_describe_what_can_be_created(caller: Caller) -> None:
    """A job type has the schema of its payload, its permission, its steps and its retry policy."""
    types = {entry["jobType"]: entry for entry in caller.get("/v1/job-types").json()["jobTypes"]}
    guarded = types["guarded"]
    assert guarded["payloadSchema"]["properties"]["kind"]["enum"] == ["small", "large"]
    assert (guarded["permission"], guarded["steps"]) == ("tests.guarded", ["Look", "Do"])
    assert guarded["retryPolicy"]["maxRetries"] == 5
    assert not any(name.startswith("celery.") for name in types)


@pytest.mark.parametrize("tail", ["", "/status", "/explain"])
def test_what_is_not_there_is_404_and_what_is_no_id_is_422(caller: Caller, tail: str) -> None:
    """An unknown id is 404, and text that is no id is 422."""
    problem(caller.get(f"/v1/jobs/{uuid4()}{tail}"), 404, "job_not_found")
    problem(caller.get(f"/v1/jobs/nonsense{tail}"), 422, "invalid_request")


def test_the_plus_of_a_time_zone_may_be_unescaped(caller: Caller) -> None:
    """A time as browsers write it into an address, where a plus is read as a space, is that time."""
    job = caller.job("failed")
    zone = timezone(timedelta(hours=5, minutes=30))
    found, none = (
        caller.get(f"/v1/jobs?createdFrom={(job.created_at + by).astimezone(zone).isoformat()}").json()["total"]
        for by in (timedelta(), timedelta(hours=1))
    )
    assert (found, none) == (1, 0)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("jobs?createdFrom=yesterday", "createdFrom: Input should be text such as 2026-01-31T12:00:00Z"),
        ("jobs/stats?window=1h", "window: Input should be a span of time such as PT15M or P7D, or all"),
    ],
)
def test_a_wrong_time_is_answered_with_an_example(caller: Caller, query: str, words: str) -> None:
    """What is no time is answered with one that is, for people who know neither ISO 8601 nor Python."""
    assert problem(caller.get(f"/v1/{query}"), 422, "invalid_request")["detail"].startswith(words)
