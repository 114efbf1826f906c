"""Schedules over HTTP: what they may say, who may do what, and what is shown of them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from tests.api.calling import EVERYTHING, Caller, problem
from tests.api.handlers import PERMISSION
from tests.scheduled import Scheduled

DAILY = {"name": "daily", "jobType": "guarded", "payload": {"kind": "small"}, "cron": "30 2 * * *"}
MINUTELY = {"name": "minutely", "jobType": "open", "everySeconds": 60}
BERLIN = {**DAILY, "timezone": "Europe/Berlin"}


def created(caller: Caller, body: dict[str, Any]) -> dict[str, Any]:
    """The answer to a create that is accepted."""
    response = caller.post("/v1/schedules", body)
    assert response.status_code == 201, response.text
    answer: dict[str, Any] = response.json()
    assert response.headers["Location"] == f"/v1/schedules/{answer['id']}"
    return answer


def address(schedule: dict[str, Any], what: str = "") -> str:
    """Where a schedule is, or what can be done to it."""
    return f"/v1/schedules/{schedule['id']}{what}"


def test_a_schedule_is_as_it_was_said(caller: Caller) -> None:
    """A new schedule has what was said, its owner, its times in words, and when it is due."""
    schedule = created(caller, {**BERLIN, "priority": 7, "metadata": {"why": "night"}, "overlap": "skip"})
    assert {name: schedule[name] for name in BERLIN} == BERLIN
    assert (schedule["priority"], schedule["overlap"], schedule["catchUp"]) == (7, "skip", "once")
    assert (schedule["userId"], schedule["version"], schedule["paused"]) == ("u1", 1, False)
    assert schedule["words"] == "At 02:30, Europe/Berlin"
    times = caller.get(address(schedule, "/next")).json()["times"]
    assert times[0] == schedule["nextAt"]
    assert len(times) == 5
    assert sorted(times) == times
    assert caller.get(address(schedule)).json() == schedule


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"cron": "0 30 2 * * *"}, "cron"),
        ({"cron": "61 * * * *"}, "cron"),
        ({"cron": "0 0 30 2 *"}, "cron"),
        ({"cron": "\U0001f96c * * * *"}, "cron"),
        ({"timezone": "Europe/Atlantis"}, "timezone"),
        ({"timezone": "../etc/passwd"}, "timezone"),
        ({"everySeconds": 60}, ""),
        ({"cron": None}, ""),
        ({"cron": None, "everySeconds": 0}, "everySeconds"),
        ({"cron": None, "everySeconds": 1.5}, "everySeconds"),
        ({"cron": None, "everySeconds": 60, "timezone": "UTC"}, ""),
        ({"payload": {"kind": "huge"}}, "payload.kind"),
        ({"payload": {}}, "payload.kind"),
        ({"catchUp": "some"}, "catchUp"),
        ({"nextAt": "2026-12-01T00:00:00Z"}, "nextAt"),
        ({"name": ""}, "name"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(caller: Caller, changes: dict[str, Any], field: str) -> None:
    """A wrong cron, zone, interval or payload, both ways to be due or none, and an unknown field are 422."""
    body = problem(caller.post("/v1/schedules", {**DAILY, **changes}), 422, "invalid_request")
    assert [each["field"] for each in body["errors"]][:1] == [field]
    assert caller.get("/v1/schedules").json()["schedules"] == []


def test_an_unknown_type_and_one_for_code_alone_are_refused(caller: Caller) -> None:
    """A type without a handler, and one that the API does not offer, are 422."""
    for job_type in ("forgotten", "internal"):
        problem(caller.post("/v1/schedules", {**MINUTELY, "jobType": job_type}), 422, "unknown_job_type")


def test_to_schedule_takes_the_handlers_permission_too(caller: Caller) -> None:
    """Without the handler's own permission a schedule is neither created, changed nor run."""
    schedule = created(caller, DAILY)
    lesser = caller.but(permissions=tuple(each for each in EVERYTHING if each != PERMISSION))
    problem(lesser.post("/v1/schedules", {**DAILY, "name": "other"}), 403, "permission_missing")
    problem(lesser.patch(address(schedule), {"priority": 1}), 403, "permission_missing")
    problem(lesser.post(address(schedule, "/run")), 403, "permission_missing")
    assert lesser.post(address(schedule, "/pause")).status_code == 200


def test_a_name_is_taken_once(caller: Caller) -> None:
    """A second schedule of a name answers 409, created or renamed, and another organization may have it."""
    created(caller, MINUTELY)
    problem(caller.post("/v1/schedules", MINUTELY), 409, "schedule_exists")
    other = created(caller, {**MINUTELY, "name": "other"})
    problem(caller.patch(address(other), {"name": "minutely"}), 409, "schedule_exists")
    created(caller.api.caller(), MINUTELY)


def test_a_change_leaves_the_rest(caller: Caller) -> None:
    """A change names what changes; null unsets what may be unset; another way to be due replaces the first."""
    schedule = created(caller, {**BERLIN, "priority": 7, "maxRetries": 1})
    changed = caller.patch(address(schedule), {"priority": None, "payload": {"kind": "large"}}).json()
    assert (changed["priority"], changed["maxRetries"], changed["payload"]) == (None, 1, {"kind": "large"})
    assert (changed["version"], changed["nextAt"]) == (2, schedule["nextAt"])
    moved = caller.patch(address(schedule), {"cron": "0 3 * * *"}).json()
    assert (moved["timezone"], moved["words"]) == ("Europe/Berlin", "At 03:00, Europe/Berlin")
    assert caller.patch(address(schedule), {"timezone": "UTC"}).json()["cron"] == "0 3 * * *"
    often = caller.patch(address(schedule), {"everySeconds": 90}).json()
    assert (often["cron"], often["timezone"], often["words"]) == (None, None, "Every 90 seconds")
    problem(caller.patch(address(schedule), {"timezone": "UTC"}), 422, "invalid_request")
    problem(caller.patch(address(schedule), {"payload": {"kind": "huge"}}), 422, "invalid_request")
    problem(caller.patch(address(schedule), {"cron": "* * * * *", "everySeconds": 1}), 422, "invalid_request")


def test_a_change_may_ask_that_nothing_has_changed_since(caller: Caller) -> None:
    """`If-Match` with an earlier state of the schedule answers 412, and with the newest it changes."""
    schedule = created(caller, MINUTELY)
    tag = caller.get(address(schedule)).headers["ETag"]
    newer = caller.patch(address(schedule), {"priority": 1}, headers={"If-Match": tag})
    assert newer.status_code == 200
    problem(caller.patch(address(schedule), {"priority": 2}, headers={"If-Match": tag}), 412, "schedule_changed")
    newest = {"If-Match": newer.headers["ETag"]}
    assert caller.patch(address(schedule), {"priority": 2}, headers=newest).json()["priority"] == 2


def test_it_is_paused_resumed_skipped_run_and_removed(caller: Caller) -> None:
    """Each button of a schedule does what it says, and the answer is the schedule as it is then."""
    schedule = created(caller, MINUTELY)
    paused = caller.post(address(schedule, "/pause")).json()
    assert (paused["paused"], paused["pausedBy"], paused["nextAt"]) == (True, "u1", None)
    assert caller.get(address(schedule, "/next")).json() == {"times": []}
    resumed = caller.post(address(schedule, "/resume")).json()
    assert resumed["paused"] is False
    skipped = caller.post(address(schedule, "/skip-next")).json()
    later = datetime.fromisoformat(skipped["nextAt"]) - datetime.fromisoformat(resumed["nextAt"])
    assert later == timedelta(seconds=60)
    response = caller.post(address(schedule, "/run"))
    job = response.json()["jobId"]
    assert (response.status_code, response.headers["Location"]) == (202, f"/v1/jobs/{job}")
    assert caller.get(f"/v1/jobs/{job}").json()["metadata"] == {"scheduleId": schedule["id"]}
    outcomes = caller.get(address(schedule)).json()["lastOutcomes"]
    assert {(each["outcome"], each["reason"], each["by"], each["jobId"]) for each in outcomes} == {
        ("skipped", "asked", "u1", None),
        ("job", None, "u1", job),
    }
    assert caller.delete(address(schedule)).status_code == 200
    problem(caller.get(address(schedule)), 404, "schedule_not_found")
    problem(caller.delete(address(schedule)), 404, "schedule_not_found")
    assert caller.get(f"/v1/jobs/{job}").status_code == 200


def test_the_same_key_runs_a_schedule_once(caller: Caller) -> None:
    """A run that is asked for again with its key is the same job, with one outcome; the key of another is refused."""
    schedule = created(caller, DAILY)
    first, again = (caller.post(address(schedule, "/run"), headers={"Idempotency-Key": "k"}) for _ in range(2))
    assert first.json()["jobId"] == again.json()["jobId"]
    assert (first.headers.get("Idempotency-Replayed"), again.headers["Idempotency-Replayed"]) == (None, "true")
    assert len(caller.get(address(schedule, "/outcomes")).json()["outcomes"]) == 1
    caller.create("guarded", payload={"kind": "small"}, key="other")
    problem(caller.post(address(schedule, "/run"), headers={"Idempotency-Key": "other"}), 422, "idempotency_conflict")


def test_a_schedule_that_fits_no_more_cannot_be_run(caller: Caller) -> None:
    """A run of a schedule whose payload does not fit its handler any more answers 409 with the reason."""
    schedule = caller.schedule(uuid4(), "old", payload={"kind": "huge"})
    body = problem(caller.post(f"/v1/schedules/{schedule.id}/run"), 409, "schedule_unfit")
    assert "payload.kind" in body["detail"]


def test_the_jobs_of_a_schedule_are_listed(caller: Caller) -> None:
    """`scheduleId` lists the jobs that a schedule has made and no other, of those that the caller sees."""
    schedule = created(caller, MINUTELY)
    made = [caller.post(address(schedule, "/run")).json()["jobId"] for _ in range(3)]
    caller.create()
    found = caller.get("/v1/jobs", scheduleId=schedule["id"]).json()
    assert ([job["id"] for job in found["jobs"]], found["total"]) == (list(reversed(made)), 3)
    assert caller.but(user="u2").get("/v1/jobs", scheduleId=schedule["id"]).json()["total"] == 0


def test_the_jobs_of_a_removed_schedule_are_found_by_it(caller: Caller) -> None:
    """Jobs stay when their schedule is removed, and `scheduleId` still finds them, for their organization alone."""
    schedule = created(caller, MINUTELY)
    job = caller.post(address(schedule, "/run")).json()["jobId"]
    assert caller.delete(address(schedule)).status_code == 200
    found = caller.get("/v1/jobs", scheduleId=schedule["id"]).json()
    assert [each["id"] for each in found["jobs"]] == [job]
    assert caller.api.caller().get("/v1/jobs", scheduleId=schedule["id"]).json()["total"] == 0


def test_outcomes_are_read_page_by_page(caller: Caller) -> None:
    """Pages of outcomes put together are all of them, newest first."""
    schedule = caller.schedule(uuid4(), "s", job_type="open", payload={}, every_seconds=3600)
    scheduled = Scheduled(caller.api.database)
    scheduled.run(
        "INSERT INTO schedule_outcomes (schedule_id, due_at, last_due_at, became, reason)"
        " SELECT :id, at, at, 'skipped', 'late' FROM (SELECT now() - n * interval '1 hour' AS at"
        " FROM generate_series(1, 5) AS n) AS times",
        id=schedule.id,
    )
    found, cursor = [], None
    while True:
        query: dict[str, Any] = {"limit": 2} if cursor is None else {"limit": 2, "cursor": cursor}
        page = caller.get(f"/v1/schedules/{schedule.id}/outcomes", **query).json()
        found += [each["dueAt"] for each in page["outcomes"]]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert found == sorted(set(found), reverse=True)
    assert len(found) == 5


def test_the_list_is_read_page_by_page(caller: Caller) -> None:
    """Pages of schedules put together are all of them, by name."""
    for number in range(3):
        created(caller, {**MINUTELY, "name": f"s{number}"})
    first = caller.get("/v1/schedules", limit=2).json()
    rest = caller.get("/v1/schedules", limit=2, cursor=first["nextCursor"]).json()
    assert [each["name"] for each in (*first["schedules"], *rest["schedules"])] == ["s0", "s1", "s2"]
    assert rest["nextCursor"] is None


def test_who_may_not_manage_schedules_sees_their_own(caller: Caller) -> None:
    """A user sees their own schedules; `jobs.view_all` and `jobs.manage_schedules` show those of the organization."""
    schedule = created(caller, MINUTELY)
    viewer = caller.but(user="u2", permissions=("jobs.view_jobs",))

    def seen(by: Caller) -> tuple[int, int]:
        listed: httpx2.Response = by.get("/v1/schedules")
        return by.get(address(schedule)).status_code, len(listed.json()["schedules"])

    assert seen(viewer) == (404, 0)
    assert seen(viewer.but(permissions=("jobs.view_jobs", "jobs.view_all"))) == (200, 1)
    assert seen(viewer.but(permissions=("jobs.view_jobs", "jobs.manage_schedules"))) == (200, 1)
    assert seen(caller.but(permissions=("jobs.view_jobs",))) == (200, 1)


def test_operators_see_what_the_platform_cleans_up(caller: Caller) -> None:
    """The clean-ups of the leading worker are shown to operators with their times and how they went."""
    scheduled = Scheduled(caller.api.database)
    scheduled.run(
        "INSERT INTO clean_ups (name, every_seconds, began_at, removed) VALUES ('retention', 60, now(), 7)"
        " ON CONFLICT (name) DO UPDATE SET removed = 7"
    )
    found = {each["name"]: each for each in caller.get("/v1/schedules/clean-ups").json()["cleanUps"]}
    assert (found["retention"]["removed"], found["retention"]["words"]) == (7, "Every minute")
