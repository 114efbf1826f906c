"""Many jobs at once, and a retry with another payload, at the dashboard, without a script."""

from __future__ import annotations

import html
import json
import re
from typing import Any

import httpx2
import pytest

from tests.api.calling import EVERYTHING, Api, Caller
from tests.api.dashboard.conftest import SignIn
from tests.api.dashboard.test_pages import SAME
from tests.api.handlers import PERMISSION
from tests.api.test_operations import worked


@pytest.fixture
def caller(api: Api) -> Caller:
    """Somebody with every permission there is of an organization."""
    return api.caller(permissions=(*EVERYTHING, "jobs.delete_jobs"))


def hidden(page: str) -> dict[str, str]:
    """The hidden fields of a page's forms that are sent."""
    fields = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page)
    return {name: html.unescape(value) for name, value in fields}


def operations(caller: Caller) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = caller.get("/v1/bulk").json()["operations"]
    return found


def test_selected_jobs_are_looked_at_and_then_done(caller: Caller, reading: SignIn) -> None:
    """Selected jobs are shown before anything is done, and one button then does it, once however often pressed."""
    jobs = [caller.job() for _ in range(3)]
    client = reading(caller)
    query = {"which": "selected", "action": "cancel", "id": [str(job.id) for job in jobs[:2]]}
    look = client.get("/bulk/new", params=query).text
    assert "Cancel 2 jobs" in look
    assert operations(caller) == []
    for _ in range(2):
        answer = client.post("/bulk", data=hidden(look), headers=SAME)
        assert answer.status_code == 303
    (operation,) = operations(caller)
    assert answer.headers["location"] == f"/bulk/{operation['id']}"
    worked(caller, operation)
    shown = client.get(answer.headers["location"]).text
    assert "completed" in shown
    assert [caller.find(job.id).status for job in jobs] == ["cancelled", "cancelled", "queued"]
    assert answer.headers["location"] in client.get("/bulk").text
    entries = caller.get("/v1/audit", target=operation["id"]).json()["entries"]
    assert [(each["action"], each["source"]) for each in entries] == [("bulk.create", "dashboard")]


def test_all_that_match_a_search_are_done(caller: Caller, reading: SignIn) -> None:
    """All that match a search become an operation with that filter, with a canary, and what was refused is shown."""
    for _ in range(3):
        caller.job("failed")
    caller.job("failed", job_type="guarded", max_retries=0)
    waiting = caller.job()
    client = reading(caller)
    look = client.get("/bulk/new", params={"which": "all", "action": "retry", "q": "status:failed"}).text
    assert "Retry 4 jobs" in look
    answer = client.post("/bulk", data={**hidden(look), "canary": "1"}, headers=SAME)
    (operation,) = operations(caller)
    assert (operation["filter"], operation["canary"], operation["counts"]["matched"]) == ({"status": ["failed"]}, 1, 4)
    assert client.post(f"{answer.headers['location']}/abort", headers=SAME).status_code == 303
    look = client.get("/bulk/new", params={"which": "all", "action": "retry", "q": "type:guarded"}).text
    answer = client.post("/bulk", data=hidden(look), headers=SAME)
    worked(caller, operations(caller)[0])
    assert "has used 0 of 0 retries" in client.get(answer.headers["location"]).text
    look = client.get("/bulk/new", params={"which": "all", "action": "reprioritize", "q": "status:queued"}).text
    client.post("/bulk", data={**hidden(look), "priority": "6"}, headers=SAME)
    worked(caller, operations(caller)[0])
    assert f"bulk operation {operations(caller)[0]['id']}" in client.get(f"/jobs/{waiting.id}").text


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"which": "selected", "action": "cancel"}, "No job is selected"),
        ({"which": "selected", "action": "cancel", "id": "x"}, "valid UUID"),
        ({"which": "all", "action": "cancel", "q": "status:x"}, "status"),
    ],
)
def test_what_makes_no_sense_is_said(caller: Caller, reading: SignIn, query: dict[str, str], said: str) -> None:
    """A look at no jobs, or by a search that cannot be understood, says so and offers nothing to press."""
    client = reading(caller)
    page = client.get("/bulk/new", params=query).text
    assert said in page
    assert re.search(r"<button[^>]* disabled", page)
    assert client.get("/bulk/new", params={"action": "explode"}).status_code == 303


def test_who_may_not_do_it_is_not_offered_it(caller: Caller, reading: SignIn) -> None:
    """Only granted actions are offered, any other is refused and audited, and operations of others are not found."""
    caller.job()
    limited = caller.but(user="u2", permissions=("jobs.view_jobs", "jobs.cancel_jobs"))
    client = reading(limited)
    assert re.findall(r'<option value="(\w+)">', client.get("/").text)[1:] == ["cancel"]
    assert 'id="bulk"' not in reading(limited.but(permissions=("jobs.view_jobs",))).get("/").text
    denied = client.post("/bulk", data={"which": "all", "action": "delete"}, headers=SAME)
    assert denied.status_code == 403
    assert caller.get("/v1/audit", outcome="denied").json()["entries"][0]["action"] == "bulk.create"
    owner = reading(caller)
    look = owner.get("/bulk/new", params={"which": "all", "action": "cancel"}).text
    path = owner.post("/bulk", data=hidden(look), headers=SAME).headers["location"]
    assert client.get(path).status_code == client.post(f"{path}/abort", headers=SAME).status_code == 404


def retried(client: httpx2.Client, path: str, payload: str, **fields: str) -> httpx2.Response:
    """The answer to the form with this payload."""
    return client.post(path, data={"payload": payload, "priority": "4", **fields}, headers=SAME)


def test_a_payload_is_changed_looked_at_and_sent(caller: Caller, reading: SignIn) -> None:
    """The form has the payload, shows what a change of it changes, and then makes one new job that names the old."""
    job = caller.job("failed", job_type="guarded", payload={"kind": "small", "count": 12345678901234567})
    client, path = reading(caller), f"/jobs/{job.id}/retry-with"
    assert path in client.get(f"/jobs/{job.id}").text
    form = client.get(path).text
    assert "12345678901234567" in form
    look = retried(client, path, json.dumps({"kind": "large", "count": 2}))
    assert re.findall(r'<span class="(?:add|take)">(.*?)</span>', look.text)
    assert caller.get(f"/v1/jobs/{job.id}", include="retries").json()["retries"] == []
    sent = client.post(path, data=hidden(look.text), headers=SAME)
    (anew,) = caller.get(f"/v1/jobs/{job.id}", include="retries").json()["retries"]
    assert sent.headers["location"] == f"/jobs/{anew['jobId']}?done=repeated"
    assert client.post(path, data=hidden(look.text), headers=SAME).headers["location"] == sent.headers["location"]
    assert (caller.find(anew["jobId"]).payload["kind"], caller.find(anew["jobId"]).priority) == ("large", 4)
    assert str(job.id) in client.get(sent.headers["location"]).text
    assert anew["jobId"] in client.get(f"/jobs/{job.id}").text


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ("{", "This is no JSON"),
        ("[1]", "This has to be an object"),
        ('{"kind": NaN}', "NaN is no number"),
        ('{"kind": "huge"}', "kind: Input should be 'small' or 'large'"),
        ('{"kind": "small", "x": 1}', "x: Extra inputs are not permitted"),
        (json.dumps({"kind": "\u0000"}), "NUL"),
    ],
)
def test_a_payload_that_is_wrong_is_kept_and_said(caller: Caller, reading: SignIn, payload: str, said: str) -> None:
    """A payload that is no JSON, or not what its handler takes, is answered with why, and the text stays there."""
    job = caller.job("failed", job_type="guarded", payload={"kind": "small"})
    answer = retried(reading(caller), f"/jobs/{job.id}/retry-with", payload, sure=payload)
    assert answer.status_code == 422
    assert said in html.unescape(answer.text)
    assert html.escape(payload, quote=False).replace('"', "&#34;") in answer.text
    assert caller.get(f"/v1/jobs/{job.id}", include="retries").json()["retries"] == []


def test_the_form_is_for_those_who_may_retry(caller: Caller, reading: SignIn) -> None:
    """Without jobs.retry_jobs, or the handler's permission, the form is 403; somebody else's job is 404."""
    job = caller.job("failed", job_type="guarded", payload={"kind": "small"})
    path = f"/jobs/{job.id}/retry-with"
    for missing in ("jobs.retry_jobs", PERMISSION):
        limited = caller.but(permissions=tuple(name for name in EVERYTHING if name != missing))
        assert reading(limited).get(path).status_code == 403
    stranger = reading(caller.but(user="u2"))
    assert stranger.get(path).status_code == 404
    assert retried(stranger, path, "{}", sure="{}").status_code == 404
