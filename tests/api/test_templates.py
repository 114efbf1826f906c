"""Templates over HTTP: versions, what is merged, who may use them, and schedules that name one."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.templating import merged
from tests.api.calling import EVERYTHING, Api, Caller, problem
from tests.properties import JSON, TEXTS, UNHURRIED

SMALL = {"name": "small", "jobType": "guarded", "payload": {"kind": "small"}, "priority": 3}
OBJECTS = st.dictionaries(TEXTS, JSON, max_size=4)


def created(caller: Caller, **changes: Any) -> dict[str, Any]:
    """A template that is accepted."""
    response = caller.post("/v1/templates", {**SMALL, **changes})
    assert response.status_code == 201, response.text
    answer: dict[str, Any] = response.json()
    return answer


def used(caller: Caller, **said: Any) -> dict[str, Any]:
    """The job that a use of the template has made."""
    response = caller.post("/v1/templates/small/jobs", said)
    assert response.status_code == 202, response.text
    answer: dict[str, Any] = caller.get(response.headers["Location"]).json()
    return answer


def test_a_job_is_what_the_template_and_its_caller_say(caller: Caller) -> None:
    """A job of a template has its payload, priority and metadata, with what is said on top, and names the version."""
    created(caller, metadata={"team": "a", "more": {"x": 1}}, maxRetries=2)
    job = used(caller, payload={"count": 7}, metadata={"more": {"y": 2}}, priority=9)
    assert (job["jobType"], job["payload"]) == ("guarded", {"kind": "small", "count": 7, "since": None})
    assert (job["priority"], job["maxRetries"], job["userId"]) == (9, 2, "u1")
    assert job["metadata"] == {"team": "a", "more": {"x": 1, "y": 2}, "template": "small", "templateVersion": 1}
    assert used(caller)["priority"] == 3
    assert caller.post("/v1/templates/small/jobs").status_code == 202  # without a body, and or with an empty one


def test_each_change_is_a_version_and_old_ones_stay(caller: Caller) -> None:
    """A change makes a version, an old one is read and used by its number, and the same content makes none."""
    first = created(caller)
    second = caller.patch("/v1/templates/small", {"payload": {"kind": "large"}, "priority": None}).json()
    assert (second["version"], second["payload"], second["priority"]) == (2, {"kind": "large"}, None)
    assert caller.patch("/v1/templates/small", {"payload": {"kind": "large"}}).json()["version"] == 2
    assert caller.get("/v1/templates/small", version=1).json() == {**first, "newest": 2}
    listed = caller.get("/v1/templates/small/versions", limit=1).json()
    rest = caller.get("/v1/templates/small/versions", cursor=listed["nextCursor"]).json()
    assert [each["version"] for each in (*listed["versions"], *rest["versions"])] == [2, 1]
    assert used(caller)["payload"]["kind"] == "large"
    old = used(caller, version=1)
    assert (old["payload"]["kind"], old["metadata"]["templateVersion"]) == ("small", 1)
    problem(caller.post("/v1/templates/small/jobs", {"version": 3}), 404, "template_not_found")


def test_a_change_may_ask_that_nothing_has_changed_since(caller: Caller) -> None:
    """`If-Match` with an earlier version answers 412."""
    created(caller)
    tag = caller.get("/v1/templates/small").headers["ETag"]
    assert caller.patch("/v1/templates/small", {"priority": 1}, headers={"If-Match": tag}).status_code == 200
    problem(caller.patch("/v1/templates/small", {"priority": 2}, headers={"If-Match": tag}), 412, "template_changed")


def test_what_both_say_is_checked_by_the_handler(caller: Caller) -> None:
    """A template may lack what its jobs say, and what both say together has to fit the handler."""
    created(caller, payload={"count": 2})
    body = problem(caller.post("/v1/templates/small/jobs", {}), 422, "invalid_request")
    assert body["errors"][0]["field"] == "payload.kind"
    assert used(caller, payload={"kind": "large"})["payload"]["count"] == 2
    problem(caller.post("/v1/templates/small/jobs", {"payload": {"kind": "x"}}), 422, "invalid_request")
    problem(caller.post("/v1/templates/small/jobs", {"jobType": "open"}), 422, "invalid_request")
    deep: dict[str, Any] = {}
    for _ in range(30):
        deep = {"a": deep}
    assert caller.post("/v1/templates/small/jobs", {"payload": {"kind": "small", "x": deep}}).status_code == 422


@pytest.mark.parametrize(
    ("job_type", "known", "unknown"), [("guarded", {"count": "many"}, "knd"), ("sum_of", {"y": "later"}, "z")]
)
def test_a_field_that_the_handler_does_not_know_is_refused_at_once(
    caller: Caller, job_type: str, known: dict[str, Any], unknown: str
) -> None:
    """A template with a field that no job could take away is not kept; one whose jobs can mend it is."""
    template = {"name": "typo", "jobType": job_type, "payload": {**known, unknown: 1}}
    body = problem(caller.post("/v1/templates", template), 422, "invalid_request")
    assert [each["field"] for each in body["errors"]] == [f"payload.{unknown}"]
    assert caller.post("/v1/templates", {**template, "payload": known}).status_code == 201
    problem(caller.patch("/v1/templates/typo", {"payload": template["payload"]}), 422, "invalid_request")
    assert caller.get("/v1/templates/typo").json()["newest"] == 1


def test_the_same_key_is_the_same_job_also_after_a_change(caller: Caller) -> None:
    """A use that is repeated with its key is the same job, whatever the template says by then; another one is 422."""
    created(caller)
    key = {"Idempotency-Key": "k"}
    first = caller.post("/v1/templates/small/jobs", {"priority": 1}, headers=key).json()
    caller.patch("/v1/templates/small", {"payload": {"kind": "large"}})
    again = caller.post("/v1/templates/small/jobs", {"priority": 1}, headers=key)
    assert (again.json()["jobId"], again.headers["Idempotency-Replayed"]) == (first["jobId"], "true")
    other = caller.post("/v1/templates/small/jobs", {"priority": 2}, headers=key)
    problem(other, 422, "idempotency_conflict")


def test_a_template_may_ask_for_a_permission_of_its_own(caller: Caller) -> None:
    """To use a template takes its own permission, jobs.create_jobs and the handler's; so does to set it."""
    problem(caller.post("/v1/templates", {**SMALL, "permission": "reports.all"}), 403, "permission_missing")
    chief = caller.but(permissions=(*EVERYTHING, "reports.all"))
    created(chief, permission="reports.all")
    problem(caller.post("/v1/templates/small/jobs", {}), 403, "permission_missing")
    assert chief.post("/v1/templates/small/jobs", {}).status_code == 202
    schedule = {"name": "s", "template": "small", "everySeconds": 60}
    problem(caller.post("/v1/schedules", schedule), 403, "permission_missing")
    assert chief.post("/v1/schedules", schedule).status_code == 201


def test_templates_are_of_one_organization(caller: Caller) -> None:
    """A name is taken once in an organization, and another one neither reads, uses, changes nor removes it."""
    created(caller)
    problem(caller.post("/v1/templates", SMALL), 409, "template_exists")
    stranger = caller.api.caller()
    assert stranger.get("/v1/templates").json()["templates"] == []
    for answer in (
        stranger.get("/v1/templates/small"),
        stranger.get("/v1/templates/small/versions"),
        stranger.post("/v1/templates/small/jobs", {}),
        stranger.patch("/v1/templates/small", {}),
        stranger.delete("/v1/templates/small"),
    ):
        problem(answer, 404, "template_not_found")
    created(stranger)
    assert caller.delete("/v1/templates/small").status_code == 200
    problem(caller.get("/v1/templates/small"), 404, "template_not_found")
    assert stranger.get("/v1/templates/small").status_code == 200


def test_a_schedule_of_a_template_makes_what_it_says_then(caller: Caller) -> None:
    """A schedule may name a template, whose times it has unless it says them; each job is of the newest version."""
    created(caller, schedule={"everySeconds": 60, "overlap": "skip"})
    schedule = caller.post("/v1/schedules", {"name": "s", "template": "small", "payload": {"count": 5}}).json()
    assert (schedule["everySeconds"], schedule["overlap"], schedule["jobType"]) == (60, "skip", "guarded")
    own = caller.post("/v1/schedules", {"name": "own", "template": "small", "cron": "@daily"}).json()
    assert (own["cron"], own["everySeconds"], own["overlap"]) == ("@daily", None, "skip")
    caller.patch("/v1/templates/small", {"payload": {"kind": "large"}})
    made = caller.post(f"/v1/schedules/{schedule['id']}/run").json()["jobId"]
    job = caller.get(f"/v1/jobs/{made}").json()
    assert (job["payload"]["kind"], job["payload"]["count"]) == ("large", 5)
    assert (job["metadata"]["templateVersion"], job["metadata"]["scheduleId"]) == (2, schedule["id"])
    problem(caller.patch(f"/v1/schedules/{schedule['id']}", {"jobType": "open"}), 422, "invalid_request")
    caller.delete("/v1/templates/small")
    lost = problem(caller.post(f"/v1/schedules/{schedule['id']}/run"), 404, "template_not_found")
    assert lost["detail"] == "there is no template 'small'"


def test_a_template_of_another_type_takes_no_schedule_over(caller: Caller) -> None:
    """A schedule makes no job of a template that was made anew with another type, until somebody saves it again."""
    created(caller, schedule={"everySeconds": 60})
    path = f"/v1/schedules/{caller.post('/v1/schedules', {'name': 's', 'template': 'small'}).json()['id']}"
    caller.delete("/v1/templates/small")
    created(caller, jobType="open", schedule={"everySeconds": 60})
    refused = problem(caller.post(f"{path}/run"), 409, "schedule_unfit")
    assert refused["detail"] == "its template 'small' is of the type open now, not guarded"
    assert caller.get(path).json()["jobType"] == "guarded"
    assert caller.patch(path, {"overlap": "skip"}).json()["jobType"] == "open"
    made = caller.post(f"{path}/run").json()["jobId"]
    assert caller.get(f"/v1/jobs/{made}").json()["jobType"] == "open"


@pytest.mark.parametrize(
    "changes",
    [{"jobType": "guarded"}, {"template": None}, {"template": "none"}, {"cron": "@daily"}, {"everySeconds": 0}],
    ids=str,
)
def test_a_schedule_says_either_a_type_or_a_template(caller: Caller, changes: dict[str, Any]) -> None:
    """A schedule with both a type and a template, with neither, or with two ways to be due is refused."""
    created(caller)
    body = {"name": "s", "template": "small", "everySeconds": 60, **changes}
    assert caller.post("/v1/schedules", body).status_code in (404, 422)
    problem(caller.post("/v1/schedules", {"name": "s", "template": "small"}), 422, "invalid_request")


def test_the_list_is_read_page_by_page(caller: Caller) -> None:
    """Pages of templates put together are all of them, by name."""
    for number in range(3):
        caller.template(uuid4(), f"t{number}")
    first = caller.get("/v1/templates", limit=2).json()
    rest = caller.get("/v1/templates", limit=2, cursor=first["nextCursor"]).json()
    assert [each["name"] for each in (*first["templates"], *rest["templates"])] == ["t0", "t1", "t2"]


@UNHURRIED
@given(below=OBJECTS, above=OBJECTS)
def test_a_merge_has_all_of_the_upper_one_and_the_rest_of_the_lower(
    below: dict[str, Any], above: dict[str, Any]
) -> None:
    """Of two objects the merge has each member of the upper one, merged where both are objects, and others as below."""
    both = merged(below, above)
    assert both.keys() == below.keys() | above.keys()
    for name, value in both.items():
        if name not in above:
            assert value == below[name]
        elif isinstance(above[name], dict) and isinstance(below.get(name), dict):
            assert value == merged(below[name], above[name])
        else:
            assert value == above[name]


@pytest.mark.parametrize(
    "schedule",
    [
        {"cron": "0 6 * * *", "everySeconds": 60},
        {"timezone": "Europe/Berlin", "everySeconds": 60},
        {"cron": "0 6 * * *", "timezone": "Europe/Berlin", "everySeconds": 60},
    ],
    ids=str,
)
def test_a_template_is_due_in_one_way(caller: Caller, schedule: dict[str, Any]) -> None:
    """A template whose schedules would be due by cron and at an interval is refused, when it is made or changed."""
    for answer in (
        caller.post("/v1/templates", {**SMALL, "name": "other", "schedule": schedule}),
        caller.patch(f"/v1/templates/{created(caller)['name']}", {"schedule": schedule}),
    ):
        assert "cron" in problem(answer, 422, "invalid_request")["detail"]
    own = {"name": "own", "template": "small", "everySeconds": 60}
    assert caller.patch("/v1/templates/small", {"schedule": {"cron": "0 6 * * *"}}).status_code == 200
    assert caller.post("/v1/schedules", own).json()["everySeconds"] == 60


def test_a_template_that_was_kept_with_two_ways_makes_no_schedule(api: Api, caller: Caller) -> None:
    """A schedule of a template that says both, as was once possible, is refused with the reason."""
    created(caller, schedule={"everySeconds": 60})
    both = """UPDATE template_versions SET schedule = '{"cron": "0 6 * * *", "everySeconds": 60}'"""
    with api.database.autocommit() as connection:
        connection.exec_driver_sql(both)
    refused = problem(caller.post("/v1/schedules", {"name": "s", "template": "small"}), 422, "invalid_request")
    assert "the template 'small'" in refused["detail"]
