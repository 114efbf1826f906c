"""Changing jobs that wait, and schedules, on their pages: by a form or as JSON, with a look at what changes."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any

import pytest

from api.dashboard.schemas import fields_of, payload_of, texts_of
from api.dashboard.sheets import difference, is_same
from tests.api.calling import Caller
from tests.api.dashboard.conftest import SignIn
from tests.api.dashboard.test_creating import SAME


def typed(page: str, **changes: str) -> dict[str, str]:
    """What the last form of a page says, with these changes, as a browser without a script sends it."""
    form = page[page.rindex('<form method="post"') :]
    found = dict(re.findall(r'<input[^>]* name="([^"]+)"[^>]* value="([^"]*)"', form))
    found |= dict(re.findall(r'<textarea name="([^"]+)"[^>]*>\n?(.*?)</textarea>', form, re.DOTALL))
    for name, options in re.findall(r'<select name="([^"]+)"[^>]*>(.*?)</select>', form, re.DOTALL):
        found |= dict.fromkeys([name], *re.findall(r'value="([^"]*)" selected', options)[:1])
    return {name: html.unescape(value) for name, value in found.items()} | changes


def confirmed(page: str) -> dict[str, str]:
    """What the form below the difference says."""
    form = page[page.index('id="changes"') : page.index("</section>", page.index('id="changes"'))]
    return {name: html.unescape(value) for name, value in re.findall(r'name="([^"]+)" value="([^"]*)"', form)}


def waiting(caller: Caller, payload: Mapping[str, Any], job_type: str = "guarded") -> str:
    """The id of a job that waits for its time."""
    body = {"jobType": job_type, "payload": payload, "priority": 2, "scheduledAt": "2999-01-01T00:00:00Z"}
    job_id: str = caller.post("/v1/jobs", body).json()["jobId"]
    return job_id


def test_a_form_shows_a_payload_as_it_is() -> None:
    """The texts of a payload in the fields of its schema make the same payload again."""
    schema = {
        "properties": {
            "name": {"type": "string"},
            "size": {"type": "integer"},
            "when": {"type": "string", "format": "date-time"},
            "sure": {"type": "boolean"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "sums": {"type": "array", "items": {"type": "number"}},
            "range": {"type": "object", "properties": {"from": {"type": "string"}}},
            "either": {"anyOf": [{"type": "object"}, {"type": "array"}]},
        }
    }
    payload = {
        "name": "a", "size": 9007199254740991, "when": "2026-01-31T12:00:00Z", "sure": False, "tags": ["1", "b"],
        "sums": [1, 2.5], "range": {"from": "x"}, "either": [1, {}],
    }  # fmt: skip
    fields = fields_of(schema)
    assert fields is not None
    assert payload_of(fields, texts_of(fields, payload)) == payload


def test_a_job_that_waits_is_changed_by_its_form(caller: Caller, reading: SignIn) -> None:
    """Priority and time are changed at once, a payload after a look at what changes; the rest stays as it was."""
    job_id = waiting(caller, {"kind": "large", "count": 3})
    client = reading(caller)
    assert f'href="/jobs/{job_id}/edit"' in client.get(f"/jobs/{job_id}").text
    form = typed(client.get(f"/jobs/{job_id}/edit").text, priority="9")
    assert (form["payload.kind"], form["payload.count"]) == ("large", "3")
    answer = client.post(f"/jobs/{job_id}/edit", data=form, headers=SAME)
    assert answer.headers["location"] == f"/jobs/{job_id}?done=edited"
    assert "The job was changed." in client.get(answer.headers["location"]).text
    assert (caller.find(job_id).priority, caller.find(job_id).payload["count"]) == (9, 3)
    form = typed(client.get(f"/jobs/{job_id}/edit").text, **{"payload.count": "4", "scheduledAt": ""})
    looked = client.post(f"/jobs/{job_id}/edit", data=form, headers=SAME)
    assert looked.status_code == 200
    assert re.search(r'class="take">- +&#34;count&#34;: 3', looked.text)
    assert re.search(r'class="add">\+ +&#34;count&#34;: 4', looked.text)
    assert caller.find(job_id).payload["count"] == 3
    assert client.post(f"/jobs/{job_id}/edit", data=confirmed(looked.text), headers=SAME).status_code == 303
    job = caller.find(job_id)
    assert (job.payload["count"], job.payload["kind"], job.scheduled_at, job.priority) == (4, "large", None, 9)
    [entry] = caller.get("/v1/audit", target=job_id, action="job.change").json()["entries"][:1]
    assert entry["source"] == "dashboard"


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"payload.count": "many"}, "payload.count", "valid integer"),
        ({"payload.kind": "huge"}, "payload.kind", "small"),
        ({"priority": "12"}, "priority", "less than or equal to 9"),
        ({"scheduledAt": "soon"}, "scheduledAt", ""),
        ({"as": "json", "payload": "{"}, "payload", "This is no JSON"),
    ],
)
def test_what_is_wrong_with_a_change_is_said_at_its_field(
    caller: Caller, reading: SignIn, changes: dict[str, str], field: str, said: str
) -> None:
    """What the handler or the API refuses is said at the field that it is about, and nothing is changed."""
    job_id = waiting(caller, {"kind": "large", "count": 3})
    client = reading(caller)
    form = typed(client.get(f"/jobs/{job_id}/edit").text, **changes)
    answer = client.post(f"/jobs/{job_id}/edit", data=form, headers=SAME)
    assert answer.status_code == 422, answer.text
    wrong = re.search(f'id="wrong-{re.escape(field)}" role="alert">([^<]+)<', answer.text)
    assert wrong, answer.text
    assert said in html.unescape(wrong[1])
    job = caller.find(job_id)
    assert (job.payload["kind"], job.payload["count"], job.priority) == ("large", 3, 2)


def test_a_payload_that_names_results_is_kept_or_changed(caller: Caller, reading: SignIn) -> None:
    """The page changes the priority of a job whose payload names results, and the payload with these names in it."""
    payload = {"kind": "small", "count": {"$from": "load"}}
    count = {"jobType": "guarded", "payload": payload, "after": [{"key": "load"}]}
    jobs = {"load": {"jobType": "generic"}, "count": count}
    job_id = caller.post("/v1/workflows", {"name": "w", "jobs": jobs}).json()["jobs"]["count"]
    client = reading(caller)
    form = typed(client.get(f"/jobs/{job_id}/edit").text, priority="7")
    assert client.post(f"/jobs/{job_id}/edit", data=form, headers=SAME).status_code == 303
    assert (caller.find(job_id).priority, caller.find(job_id).payload) == (7, payload)
    text = form["payload"].replace("small", "large")
    form = typed(client.get(f"/jobs/{job_id}/edit").text, payload=text)
    looked = client.post(f"/jobs/{job_id}/edit", data=form, headers=SAME)
    assert client.post(f"/jobs/{job_id}/edit", data=confirmed(looked.text), headers=SAME).status_code == 303
    assert caller.find(job_id).payload == {**payload, "kind": "large"}


def test_a_payload_that_does_not_fit_into_fields_is_changed_as_json(caller: Caller, reading: SignIn) -> None:
    """A type without a schema has its payload as JSON, and so has every other one if somebody wants it."""
    job_id = waiting(caller, {"a": {"b": [1.5, None]}}, "open")
    client = reading(caller)
    form = typed(client.get(f"/jobs/{job_id}/edit").text, payload='{"a": 2}')
    looked = client.post(f"/jobs/{job_id}/edit", data=form, headers=SAME)
    assert client.post(f"/jobs/{job_id}/edit", data=confirmed(looked.text), headers=SAME).status_code == 303
    assert caller.find(job_id).payload == {"a": 2}
    other = waiting(caller, {"kind": "large"})
    assert 'name="payload"' in client.get(f"/jobs/{other}/edit?as=json").text


def test_a_job_that_has_changed_meanwhile_is_not_changed(caller: Caller, reading: SignIn) -> None:
    """A change that was begun before somebody else's is refused with a link to begin again."""
    job_id = waiting(caller, {"kind": "large", "count": 3})
    client = reading(caller)
    form = typed(client.get(f"/jobs/{job_id}/edit").text, priority="9")
    assert caller.patch(f"/v1/jobs/{job_id}", {"priority": 5}).status_code == 200
    answer = client.post(f"/jobs/{job_id}/edit", data=form, headers=SAME)
    assert answer.status_code == 422
    assert "Begin again with the job as it is" in answer.text
    assert caller.find(job_id).priority == 5


def test_only_a_job_that_waits_is_offered_for_a_change(caller: Caller, reading: SignIn) -> None:
    """A job that runs has no button for it, and the page says why; without the permission there is no page."""
    running = caller.job("running")
    client = reading(caller)
    assert f'href="/jobs/{running.id}/edit"' not in client.get(f"/jobs/{running.id}").text
    assert "It is running: only a job that waits can be changed." in client.get(f"/jobs/{running.id}/edit").text
    without = reading(caller.but(permissions=["jobs.view_jobs"]))
    assert without.get(f"/jobs/{caller.job().id}/edit").status_code == 403


def test_a_retry_with_another_payload_has_the_form_of_its_type(caller: Caller, reading: SignIn) -> None:
    """A retry's payload is said in the fields of its type, and what changes is shown before the job is made."""
    job = caller.job("failed", job_type="guarded", payload={"kind": "large", "count": 3})
    client = reading(caller)
    form = typed(client.get(f"/jobs/{job.id}/retry-with").text, **{"payload.count": "4"})
    looked = client.post(f"/jobs/{job.id}/retry-with", data=form, headers=SAME)
    assert re.search(r'class="add">\+ +&#34;count&#34;: 4', looked.text)
    answer = client.post(f"/jobs/{job.id}/retry-with", data=confirmed(looked.text), headers=SAME)
    assert answer.status_code == 303
    made = caller.find(answer.headers["location"].removeprefix("/jobs/").partition("?")[0])
    assert (made.payload["count"], made.retry_of) == (4, job.id)


def schedule(caller: Caller, **said: Any) -> str:
    """The id of a schedule."""
    body = {"name": "nightly", "jobType": "guarded", "payload": {"kind": "large"}, "cron": "30 2 * * *", **said}
    schedule_id: str = caller.post("/v1/schedules", body).json()["id"]
    return schedule_id


def test_a_schedule_is_changed_by_its_form(caller: Caller, reading: SignIn) -> None:
    """When it is due is changed at once, what it makes after a look at what changes; the rest stays as it was."""
    schedule_id = schedule(caller)
    client = reading(caller)
    assert f'href="/schedules/{schedule_id}/edit"' in client.get("/schedules").text
    address = f"/schedules/{schedule_id}/edit"
    form = typed(client.get(address).text, cron="", timezone="", everySeconds="600", overlap="skip")
    answer = client.post(address, data=form, headers=SAME)
    assert answer.headers["location"] == "/schedules?done=changed"
    known = caller.get(f"/v1/schedules/{schedule_id}").json()
    assert (known["cron"], known["everySeconds"], known["overlap"]) == (None, 600, "skip")
    assert (known["name"], known["payload"], known["catchUp"]) == ("nightly", {"kind": "large"}, "once")
    form = typed(client.get(address).text, **{"payload.kind": "small", "priority": "3"})
    looked = client.post(address, data=form, headers=SAME)
    assert re.search(r'class="add">\+ +&#34;kind&#34;: &#34;small&#34;', looked.text)
    assert client.post(address, data=confirmed(looked.text), headers=SAME).status_code == 303
    known = caller.get(f"/v1/schedules/{schedule_id}").json()
    assert (known["payload"], known["priority"], known["everySeconds"]) == ({"kind": "small"}, 3, 600)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"cron": "61 * * * *"}, "cron"),
        ({"cron": ""}, "cron"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"everySeconds": "0", "cron": ""}, "everySeconds"),
        ({"payload.kind": "huge"}, "payload.kind"),
        ({"name": ""}, "name"),
        ({"priority": "12"}, "priority"),
    ],
)
def test_what_is_wrong_with_a_schedule_is_said_at_its_field(
    caller: Caller, reading: SignIn, changes: dict[str, str], field: str
) -> None:
    """What the API refuses of a schedule is said at the field that it is about, and nothing is changed."""
    schedule_id = schedule(caller)
    client = reading(caller)
    known = caller.get(f"/v1/schedules/{schedule_id}").json()
    form = typed(client.get(f"/schedules/{schedule_id}/edit").text, **changes)
    answer = client.post(f"/schedules/{schedule_id}/edit", data=form, headers=SAME)
    assert answer.status_code == 422, answer.text
    assert f'id="wrong-{field}" role="alert"' in answer.text, answer.text
    assert caller.get(f"/v1/schedules/{schedule_id}").json()["version"] == known["version"]


def test_a_schedule_that_has_changed_meanwhile_is_not_changed(caller: Caller, reading: SignIn) -> None:
    """A change of a schedule that was begun before somebody else's is refused with a link to begin again."""
    schedule_id = schedule(caller)
    client = reading(caller)
    form = typed(client.get(f"/schedules/{schedule_id}/edit").text, cron="0 3 * * *")
    assert caller.patch(f"/v1/schedules/{schedule_id}", {"priority": 5}).status_code == 200
    answer = client.post(f"/schedules/{schedule_id}/edit", data=form, headers=SAME)
    assert answer.status_code == 422
    assert "Begin again with the schedule as it is" in answer.text


def test_the_order_of_names_is_no_difference() -> None:
    """Objects that differ in the order of their names alone, at any depth, are shown as the same."""
    one, other = {"a": 1, "b": {"c": [{"d": 1, "e": 2}], "f": 2}}, {"b": {"f": 2, "c": [{"e": 2, "d": 1}]}, "a": 1}
    assert is_same(difference(one, other))
    assert not is_same(difference(one, {**other, "a": 2}))
