"""The pages of the templates: without a script, and in a browser."""

from __future__ import annotations

from uuid import uuid4

import pytest
from playwright.sync_api import expect

from tests.api.calling import EVERYTHING, Caller
from tests.api.dashboard.conftest import SignIn, Window

SAME = {"Sec-Fetch-Site": "same-origin"}
HOSTILE = "<script>alert(1)</script>"


def kept(caller: Caller, name: str = "small orders") -> str:
    """A template with two versions; its address."""
    caller.template(uuid4(), name, payload={"kind": "small", "count": 2}, metadata={"team": HOSTILE}, priority=3)
    caller.patch(f"/v1/templates/{name}", {"payload": {"kind": "small", "count": 5}, "priority": 7})
    return f"/templates/{name.replace(' ', '%20')}"


def test_templates_are_shown_with_their_versions(caller: Caller, reading: SignIn) -> None:
    """The pages have each template by name, its versions, what a version says, and what it has changed."""
    address = kept(caller)
    client, stranger = reading(caller), reading(caller.api.caller())
    listed = client.get("/templates").text
    assert f'href="{address}"' in listed
    assert "There are no templates yet." in stranger.get("/templates").text
    assert stranger.get(address).status_code == 404
    page = client.get(address).text
    assert HOSTILE not in page
    assert '<span class="take">-   &#34;priority&#34;: 3,</span>' in page
    assert '<span class="add">+   &#34;priority&#34;: 7,</span>' in page
    assert page.count('id="version-') == 2
    old = client.get(f"{address}?version=1").text
    assert "version 1 of 2" in old
    assert 'id="changes"' not in old
    assert client.get(f"{address}?version=9").status_code == 404
    assert client.get(f"{address}?version=x&before=y").status_code == 200


def test_a_template_makes_a_job(caller: Caller, reading: SignIn) -> None:
    """The form makes a job as the API does: of the shown version, merged, with its priority and time, and once."""
    address = kept(caller)
    client = reading(caller)
    form = {"version": "1", "payload": '{"count": 9}', "priority": "4", "scheduledAt": "2999-01-01T06:00", "key": "k-1"}
    answer = client.post(f"{address}/run", data=form, headers=SAME)
    job = caller.find(answer.headers["location"].removeprefix("/jobs/").partition("?")[0])
    assert (job.payload["kind"], job.payload["count"], job.priority, job.hold) == ("small", 9, 4, "schedule")
    assert job.metadata["templateVersion"] == 1
    assert client.post(f"{address}/run", data=form, headers=SAME).headers["location"] == answer.headers["location"]
    assert "The job was accepted." in client.get(answer.headers["location"]).text
    entry = caller.get("/v1/audit", target=str(job.id)).json()["entries"][0]
    assert (entry["action"], entry["source"]) == ("job.create", "dashboard")


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"payload": "{nonsense"}, "payload"),
        ({"payload": "[1]"}, "payload"),
        ({"payload": "{" + '"a":{' * 5_000}, "payload"),
        ({"payload": '{"kind": "huge"}'}, "payload"),
        ({"payload": '{"count": NaN}'}, "payload"),
        ({"payload": "{}", "priority": "12"}, "priority"),
        ({"payload": "{}", "priority": "high"}, "priority"),
        ({"payload": "{}", "scheduledAt": "tomorrow"}, "scheduledAt"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(caller: Caller, reading: SignIn, said: dict[str, str], field: str) -> None:
    """What the handler or the API refuses is said at the field that it is about, and nothing that was typed is lost."""
    address = kept(caller)
    answer = reading(caller).post(f"{address}/run", data=said, headers=SAME)
    assert answer.status_code == 422
    assert f'id="wrong-{field}" role="alert"' in answer.text
    assert caller.get("/v1/jobs").json()["total"] == 0


def test_a_run_takes_the_permissions(caller: Caller, reading: SignIn) -> None:
    """Whoever may not create the jobs of a template sees it, without the form, and is refused its job."""
    address = kept(caller)
    viewer = reading(caller.but(permissions=("jobs.view_jobs",)))
    assert 'id="run"' not in viewer.get(address).text
    assert viewer.post(f"{address}/run", data={"payload": "{}"}, headers=SAME).status_code == 403
    without = reading(caller.but(permissions=tuple(set(EVERYTHING) - {"tests.guarded"})))
    assert without.post(f"{address}/run", data={"payload": "{}"}, headers=SAME).status_code == 403
    client = reading(caller)
    assert client.post(f"{address}/run", data={}, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert client.post("/templates/nothing/run", data={}, headers=SAME).status_code == 404


def test_a_template_is_run_in_a_browser(window: Window, caller: Caller) -> None:
    """In a browser somebody finds a template, corrects what they typed, and comes to the new job."""
    kept(caller)
    page = window.sign_in(caller)
    page.get_by_role("link", name="Templates").click()
    window.picture("templates")
    page.get_by_role("link", name="small orders").click()
    page.get_by_label("Payload, on top").fill('{"kind": "huge"}')
    page.get_by_role("button", name="Make the job").click()
    expect(page.get_by_role("alert")).to_contain_text("kind")
    window.picture("template")
    window.complaints.clear()  # the browser complains of 422
    page.get_by_label("Payload, on top").fill('{"count": 3}')
    page.get_by_role("button", name="Make the job").click()
    expect(page.locator("p.notice").first).to_contain_text("The job was accepted.")
