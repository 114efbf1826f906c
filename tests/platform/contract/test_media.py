"""What the users of the media-library job queue rely on."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.api.calling import Caller
from tests.api.listening import Told, conversing, received
from tests.live import eventually
from tests.platform.contract.conftest import System, created, job_of, reached, succeeded
from tests.platform.contract.promises import shows
from tests.tracked import Tracked

SYSTEM = "media-library job queue"
DAY = timedelta(days=1)
LINE = {
    *("id", "jobId", "type", "priority", "payload", "status", "error", "retryCount", "createdAt"),
    *("startedAt", "completedAt", "durationMs"),
}


@shows(SYSTEM, "priority execution")
def test_the_more_urgent_job_runs_first(someone: Caller) -> None:
    """Of two jobs that wait for the same slot, the more urgent one starts first, though it came later."""
    assert someone.put(f"/v1/organizations/{someone.organization}/limit", {"limit": 1}).status_code == 200
    first = created(someone, "nap", {"seconds": 60})
    reached(someone, first, "running")
    low, high = (created(someone, "count_words", {"words": ["a"]}, priority=priority) for priority in (1, 9))
    assert {job_of(someone, job_id)["hold"] for job_id in (low, high)} == {"organization_limit"}
    assert someone.post(f"/v1/jobs/{first}/cancel").status_code == 200
    ends = [succeeded(someone, job_id)["startedAt"] for job_id in (high, low)]
    assert ends == sorted(ends)


@shows(SYSTEM, "crash recovery on start")
def test_what_ran_when_the_power_went_runs_again_after_the_next_start(system: System, someone: Caller) -> None:
    """A job that ran when the whole worker was killed runs again once a worker is started, and what waited runs too."""
    ran = created(someone, "linger", {"seconds": 300})
    reached(someone, ran, "running")
    system.crash_worker()
    waited = created(someone, "count_words", {"words": ["a"]})
    system.start_worker()
    assert succeeded(someone, waited)["attempt"] == 1
    job = succeeded(someone, ran, within=30)
    assert (job["attempt"], job["retryCount"], job["result"]) == (2, 0, None)


@shows(SYSTEM, "retries")
def test_a_failed_attempt_is_tried_again(someone: Caller) -> None:
    """A job whose handler names its error for retries says when it runs again, and succeeds then."""
    job_id = created(someone, "flaky", {"failures": 1})
    between = reached(someone, job_id, "retrying")
    assert between["hold"] in ("backoff", None)
    job = succeeded(someone, job_id)
    assert (job["retryCount"], job["attempt"], job["maxRetries"], job["result"]) == (1, 2, 2, 1)


@shows(SYSTEM, "history with retention: 30 days completed, 90 failed")
def test_finished_jobs_are_kept_for_their_time(system: System, someone: Caller) -> None:
    """The history has a completed job for 30 days and a failed one for 90, and then has them no more."""
    kept, gone = dict[str, timedelta](), dict[str, timedelta]()
    for job_type, days, ids in (
        ("noop", 29, kept), ("noop", 31, gone), ("fail", 31, kept), ("fail", 89, kept), ("fail", 91, gone),
    ):  # fmt: skip
        ids[created(someone, job_type)] = days * DAY
    for job_id in (*kept, *gone):
        reached(someone, job_id)
    with system.platform.database.autocommit() as connection:
        tracked = Tracked(connection)
        for job_id, age in (*kept.items(), *gone.items()):
            tracked.finished_ago(tracked.get(UUID(job_id)), age)
    assert system.platform.start("celeriac", "prune", log="prune.log").wait(30) == 0, system.platform.log("prune.log")
    assert {line["id"] for line in someone.get("/v1/jobs/history").json()["history"]} == set(kept)
    assert all(someone.get(f"/v1/jobs/{job_id}").status_code == 404 for job_id in gone)


@shows(SYSTEM, "circuit breaker: 5 failures, 1 minute")
def test_five_failures_in_a_row_stop_the_type_for_a_minute(someone: Caller) -> None:
    """After five failures in a row the next job of the type is held, says why, and the type shows its open circuit."""
    for _ in range(5):
        assert reached(someone, created(someone, "fail"))["status"] == "failed"
    job_id = created(someone, "fail")
    held = eventually(lambda: next(filter(lambda job: job["hold"] == "circuit", [job_of(someone, job_id)]), None))
    assert (held["status"], held["attempt"]) == ("queued", 0)
    reasons = someone.get(f"/v1/jobs/{job_id}/explain").json()
    assert "circuit" in str(reasons)
    (kind,) = [each for each in someone.get("/v1/job-types").json()["jobTypes"] if each["jobType"] == "fail"]
    circuit = kind["circuit"]
    assert (circuit["state"], circuit["failures"], circuit["pauseSeconds"]) == ("open", 5, 60)
    left = datetime.fromisoformat(circuit["openUntil"]) - datetime.now(UTC)
    assert timedelta(seconds=30) < left <= timedelta(seconds=60)
    assert someone.post(f"/v1/jobs/{job_id}/cancel").status_code == 200


@shows(SYSTEM, "recent, stats and history reads")
def test_the_reads_tell_what_is_and_what_was(someone: Caller) -> None:
    """Recent has the active jobs before the finished ones, stats count them, and the history has the finished ones."""
    done = []
    for priority in (1, 5):
        done.append(created(someone, "count_words", {"words": ["a"]}, priority=priority))
        succeeded(someone, done[-1])  # one after the other: at the same time either may end first
    failed = created(someone, "flaky", {"failures": 9}, maxRetries=0)
    assert reached(someone, failed)["status"] == "failed"
    later = created(someone, "noop", scheduledAt="2100-01-01T00:00:00Z")
    recent = [job["id"] for job in someone.get("/v1/jobs/recent").json()["jobs"]]
    assert (recent[0], recent[1], set(recent)) == (later, done[1], {later, failed, *done})
    assert [each["id"] for each in someone.get("/v1/jobs/recent", type="flaky").json()["jobs"]] == [failed]
    stats = someone.get("/v1/jobs/stats").json()
    assert {name: stats[name] for name in ("total", "pending", "scheduled", "running", "completed", "failed")} == {
        "total": 4, "pending": 0, "scheduled": 1, "running": 0, "completed": 2, "failed": 1,
    }  # fmt: skip
    history = someone.get("/v1/jobs/history", limit=2).json()
    assert [line["id"] for line in history["history"]] == [failed, done[1]]
    assert set(history["history"][0]) == LINE
    assert history["history"][0]["error"] == "failure 1"
    following = someone.get("/v1/jobs/history", cursor=history["nextCursor"]).json()["history"]
    assert [line["id"] for line in following] == [done[0]]
    assert [line["id"] for line in someone.get("/v1/jobs/history", status="error").json()["history"]] == [failed]


@shows(SYSTEM, "WebSocket events")
def test_a_websocket_tells_each_step_of_a_job(someone: Caller) -> None:
    """A WebSocket tells that a job was created, started, how far it is and how it ended, also a cancel and a retry."""
    with conversing(someone) as socket:
        assert received(socket).name == "ready"
        done = created(someone, "count_words", {"words": ["a"]}, priority=3)
        told = _until(socket, "job:completed")
        assert [each.name for each in told if each.name != "job:progress"] == [
            "job:created", "job:started", "job:completed",
        ]  # fmt: skip
        by_name = {each.name: each.data for each in told}
        assert by_name["job:created"] == {"jobId": done, "type": "count_words", "priority": 3}
        assert by_name["job:started"].keys() == {"jobId", "type", "priority", "attempt", "worker"}
        assert by_name["job:progress"]["progress"].keys() == {"current", "total", "percentage", "message", "detail"}
        assert by_name["job:completed"].keys() == {"jobId", "type", "duration"}
        created(someone, "flaky", {"failures": 9}, maxRetries=0)
        failed = _until(socket, "job:failed")[-1].data
        assert (failed["willRetry"], failed["error"], set(failed)) == (
            False, "failure 1", {"jobId", "type", "error", "willRetry", "duration"},
        )  # fmt: skip
        later = created(someone, "noop", scheduledAt="2100-01-01T00:00:00Z")
        someone.post(f"/v1/jobs/{later}/cancel")
        assert _until(socket, "job:cancelled")[-1].data == {"jobId": later, "type": "noop", "by": "u1"}
        someone.post(f"/v1/jobs/{later}/retry")
        assert _until(socket, "job:retried")[-1].data == {"jobId": later, "by": "u1"}


def _until(socket: Any, name: str) -> list[Told]:
    told = [received(socket)]
    while told[-1].name != name:
        told.append(received(socket))
    return told


@shows(SYSTEM, "follow-up jobs from a handler")
def test_a_handler_has_follow_up_jobs_made(someone: Caller) -> None:
    """A job that a handler makes is its user's, has the handler's job as its parent, and runs."""
    job = succeeded(someone, created(someone, "process_upload", {"name": "holiday.mp4"}))
    follow_up = succeeded(someone, job["result"]["followUp"])
    assert (follow_up["jobType"], follow_up["userId"], follow_up["priority"]) == ("count_words", "u1", 7)
    assert follow_up["result"] == {"wordCount": 2}


@shows(SYSTEM, "scheduled clean-up")
def test_a_schedule_cleans_up(system: System, someone: Caller) -> None:
    """A schedule of the type cleanup has such jobs run, and the platform shows what it cleans up by itself."""
    export = succeeded(someone, created(someone, "export_report", {"reportType": "jobs"}))
    (path,) = Path(system.api.exports).glob(f"{export['id']}*")
    _age(path, 31 * DAY)
    plan = {"name": "nightly", "jobType": "cleanup", "payload": {"olderThanDays": 30}, "everySeconds": 1}
    schedule = someone.post("/v1/schedules", plan).json()
    try:
        made = eventually(lambda: someone.get("/v1/jobs", scheduleId=schedule["id"]).json()["jobs"], what="a clean-up")
        job = succeeded(someone, made[-1]["id"])
    finally:
        assert someone.delete(f"/v1/schedules/{schedule['id']}").status_code == 200
    assert job["result"]["expiredExports"] == 1
    assert not path.exists()
    own = {each["name"] for each in someone.get("/v1/schedules/clean-ups").json()["cleanUps"]}
    assert "retention" in own


def _age(path: Path, by: timedelta) -> None:
    then = (datetime.now(UTC) - by).timestamp()
    os.utime(path, (then, then))
