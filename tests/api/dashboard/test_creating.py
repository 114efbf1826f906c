"""The page that makes a job: by its type's schema, as JSON, and what is wrong said at its field."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from api.dashboard.asking import NotUnderstood
from api.dashboard.schemas import fields_of, flat, payload_of
from tests.api.calling import EVERYTHING, Caller
from tests.api.dashboard.conftest import SignIn, Window

SAME = {"Sec-Fetch-Site": "same-origin"}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["name", "range"],
    "$defs": {
        "Range": {
            "type": "object",
            "properties": {"from": {"type": "string", "format": "date"}, "top": {"type": "number"}},
        },
        "Ring": {"$ref": "#/$defs/Ring"},
    },
    "properties": {
        "name": {"type": "string", "description": "Of whom"},
        "size": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
        "when": {"type": "string", "format": "date-time"},
        "sure": {"type": "boolean", "default": False},
        "step": {"enum": [1, 2, "three"]},
        "tags": {"type": "array", "items": {"type": "string"}, "default": []},
        "sums": {"type": "array", "items": {"type": "number"}},
        "range": {"$ref": "#/$defs/Range"},
        "ring": {"$ref": "#/$defs/Ring"},
        "either": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
    },
}


def test_a_schema_makes_fields_and_their_texts_a_payload() -> None:
    """Each kind of value that a schema names has a field of its own, whose text is that value again, and exactly."""
    fields = fields_of(SCHEMA)
    assert fields is not None
    kinds = {each.name.removeprefix("payload."): each.kind for each in flat(fields)}
    assert kinds == {
        "name": "text", "size": "number", "when": "datetime-local", "sure": "choice", "step": "choice", "tags": "lines",
        "sums": "numbers", "range": "group", "range.from": "date", "range.top": "number", "ring": "json",
        "either": "json",
    }  # fmt: skip
    said = {
        "name": " a ", "size": "9007199254740991", "when": "2026-01-31T12:00", "sure": "false", "step": "2",
        "tags": "1\n\n b \n", "sums": "1\n2.5", "range.from": "2026-01-31", "range.top": "x", "either": "[1, {}]",
    }  # fmt: skip
    assert payload_of(fields, {f"payload.{name}": text for name, text in said.items()}) == {
        "name": " a ", "size": 9007199254740991, "when": "2026-01-31T12:00:00Z", "sure": False, "step": 2,
        "tags": ["1", "b"], "sums": [1, 2.5], "range": {"from": "2026-01-31", "top": "x"}, "either": [1, {}],
    }  # fmt: skip
    assert payload_of(fields, {}) == {"range": {}}
    with pytest.raises(NotUnderstood, match="no JSON"):
        payload_of(fields, {"payload.ring": "{"})
    assert fields_of({"type": "object"}) is None


def test_a_job_is_made_by_a_form(caller: Caller, reading: SignIn) -> None:
    """The form of a type makes its job once, with priority, time and project, and the audit has it."""
    client = reading(caller)
    page = client.get("/new?type=guarded").text
    for text in ('name="payload.kind"', 'name="payload.count"', 'type="datetime-local" name="payload.since"'):
        assert text in page, text
    form = {
        "jobType": "guarded", "payload.kind": "large", "payload.count": "3", "payload.since": "2026-01-31T12:00",
        "priority": "8", "scheduledAt": "2999-01-01T00:00", "projectId": "p1", "key": "k",
    }  # fmt: skip
    answer = client.post("/new", data=form, headers=SAME)
    assert answer.status_code == 303, answer.text
    job = caller.find(answer.headers["location"].removeprefix("/jobs/").partition("?")[0])
    assert job.payload == {"kind": "large", "count": 3, "since": "2026-01-31T12:00:00Z"}
    assert (job.priority, job.hold, job.project_id) == (8, "schedule", "p1")
    assert client.post("/new", data=form, headers=SAME).headers["location"] == answer.headers["location"]
    changed = client.post("/new", data={**form, "payload.count": "4"}, headers=SAME)
    assert changed.status_code == 422
    assert 'value="k"' not in changed.text, "another job is made when it is sent again"
    [entry] = caller.get("/v1/audit", target=str(job.id)).json()["entries"]
    assert (entry["action"], entry["source"]) == ("job.create", "dashboard")


def test_a_job_is_made_from_json(caller: Caller, reading: SignIn) -> None:
    """A type that does not say what it takes has a field for JSON, and every other one has it if somebody wants it."""
    client = reading(caller)
    assert 'name="payload"' in client.get("/new?type=open").text
    assert 'name="payload"' in client.get("/new?type=guarded&as=json").text
    form = {"jobType": "open", "as": "json", "payload": '{"a": {"b": [1.50, null]}}'}
    location = client.post("/new", data=form, headers=SAME).headers["location"]
    assert caller.find(location.removeprefix("/jobs/").partition("?")[0]).payload == {"a": {"b": [1.5, None]}}


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"jobType": "guarded"}, "payload.kind"),
        ({"jobType": "guarded", "payload.kind": "huge"}, "payload.kind"),
        ({"jobType": "guarded", "payload.kind": "small", "payload.count": "many"}, "payload.count"),
        ({"jobType": "guarded", "payload.kind": "small", "payload.since": "soon"}, "payload.since"),
        ({"jobType": "export_report", "payload.reportType": "jobs", "payload.filters": "{"}, "payload.filters"),
        ({"jobType": "open", "payload": "{"}, "payload"),
        ({"jobType": "open", "payload": "{}", "priority": "12"}, "priority"),
        ({"jobType": "open", "payload": "{}", "scheduledAt": "soon"}, "scheduledAt"),
        ({"jobType": "open", "payload": "{}", "projectId": "a/b"}, "projectId"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(caller: Caller, reading: SignIn, said: dict[str, str], field: str) -> None:
    """What the handler or the API refuses is said at the field that it is about, and no job is made."""
    answer = reading(caller).post("/new", data=said, headers=SAME)
    assert answer.status_code == 422
    assert f'id="wrong-{field}" role="alert"' in answer.text
    assert caller.get("/v1/jobs").json()["total"] == 0


def test_only_what_somebody_may_create_is_offered(caller: Caller, reading: SignIn) -> None:
    """Types that take a permission which somebody lacks are not offered, and refused; without any right is no page."""
    without = reading(caller.but(permissions=tuple(set(EVERYTHING) - {"tests.guarded"})))
    assert ">guarded</option>" not in without.get("/new").text
    assert without.get("/new?type=guarded").status_code == 422
    form = {"jobType": "guarded", "payload.kind": "small"}
    assert without.post("/new", data=form, headers=SAME).status_code == 403
    viewer = reading(caller.but(permissions=("jobs.view_jobs",)))
    assert 'href="/new"' not in viewer.get("/").text
    assert viewer.get("/new").status_code == viewer.post("/new", data=form, headers=SAME).status_code == 403
    assert reading(caller).post("/new", data=form, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert reading(caller).post("/new", data={"jobType": "nothing"}, headers=SAME).status_code == 422
    assert reading(caller).post("/new", data={f"f{n}": "" for n in range(600)}, headers=SAME).status_code == 422


def test_what_no_worker_runs_is_said_to_be_tracked_only(caller: Caller, reading: SignIn) -> None:
    """Types whose work is done elsewhere stand apart, and their form says so and asks neither for urgency nor time."""
    client = reading(caller)
    page = client.get("/new?type=generic").text
    assert "No worker runs this job" in page
    assert (
        page.index(">guarded</option>") < page.index("Done elsewhere, tracked here") < page.index(">generic</option>")
    )
    assert not any(f'name="{name}"' in page for name in ("priority", "scheduledAt"))
    assert "No worker runs this job" not in client.get("/new?type=guarded").text
    answer = client.post("/new", data={"jobType": "generic", "payload": "{}", "projectId": "p1"}, headers=SAME)
    job = caller.find(answer.headers["location"].removeprefix("/jobs/").partition("?")[0])
    assert (job.external, job.project_id) == (True, "p1")


def test_a_job_is_made_in_a_browser(window: Window, caller: Caller) -> None:
    """In a browser somebody chooses a type, corrects what was wrong, and comes to the new job."""
    page = window.sign_in(caller)
    page.get_by_role("link", name="New job").click()
    page.locator("select[name=type]").select_option("export_report")
    page.get_by_role("button", name="Go on").click()
    window.picture("new_report")
    page.get_by_role("button", name="Make the job").click()
    expect(page.get_by_role("alert").first).to_contain_text("required")
    window.picture("new_job")
    window.complaints.clear()  # the browser complains of 422
    page.locator("[name='payload.reportType']").select_option("jobs")
    page.get_by_role("button", name="Make the job").click()
    expect(page.locator("p.notice").first).to_contain_text("The job was accepted.")
