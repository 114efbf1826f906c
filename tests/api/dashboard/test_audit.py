"""The page of the audit: without a script, as a file, and in a browser."""

from __future__ import annotations

import csv
import io
import json
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import expect

from tests.api.calling import EVERYTHING, Caller
from tests.api.dashboard.conftest import SignIn, Window

SAME = {"Sec-Fetch-Site": "same-origin"}
HOSTILE = "<script>alert(1)</script>"


def deeds(caller: Caller) -> dict[str, Any]:
    """Something of every outcome; the ids of what it was done to."""
    job = caller.create().json()["jobId"]
    caller.post(f"/v1/jobs/{job}/cancel")
    caller.post(f"/v1/jobs/{job}/cancel")
    caller.but(user="mallory", permissions=("jobs.view_jobs",)).post(f"/v1/jobs/{job}/retry")
    caller.post("/v1/templates", {"name": "monthly figures", "jobType": "open"})
    caller.post("/v1/organization/pause", {"reason": HOSTILE})
    caller.post("/v1/organization/resume")
    return {"job": job}


def test_the_audit_is_shown_and_narrowed(caller: Caller, reading: SignIn) -> None:
    """The page has each deed with actor, target, outcome and origin as text, and narrows them as the API does."""
    done = deeds(caller)
    client, stranger = reading(caller), reading(caller.api.caller())
    page = client.get("/audit").text
    for text in (
        "mallory",
        "denied",
        "permission_missing",
        "refused",
        f'href="/jobs/{done["job"]}"',
        'href="/templates/monthly%20figures"',
        "queued → cancelled",
        "127.0.0.1",
    ):
        assert text in page, text
    assert HOSTILE not in page
    assert "mallory" not in stranger.get("/audit").text
    assert "Nothing was done or tried yet." in stranger.get("/audit").text
    narrowed = client.get("/audit", params={"outcome": "denied"}).text
    assert narrowed.count('id="entry-') == 1
    assert client.get("/audit", params={"actor": "mallory"}).text.count('id="entry-') == 1
    assert client.get("/audit", params={"action": "job.cancel"}).text.count('id="entry-') == 2
    assert client.get("/audit", params={"from": "2999-01-01T00:00"}).text.count('id="entry-') == 0
    assert client.get("/audit", params={"to": "2999-01-01T00:00"}).text.count('id="entry-') == page.count('id="entry-')
    assert "Nothing like that was done or tried." in client.get("/audit?actor=nobody").text


@pytest.mark.parametrize(
    "query",
    ["action=nonsense", "outcome=x", "from=yesterday", "cursor=x", "cursor=0", "source=y", f"actor={'x' * 256}"],
)
def test_what_makes_no_sense_is_said(caller: Caller, reading: SignIn, query: str) -> None:
    """A filter that the API refuses is refused by the page as well, which says which one and why."""
    answer = reading(caller).get(f"/audit?{query}")
    assert answer.status_code == 422
    assert 'role="alert"' in answer.text
    assert f"{query.partition('=')[0]}" in answer.text


def test_the_audit_takes_its_permission(caller: Caller, reading: SignIn) -> None:
    """Whoever may not read the audit has no link to it, and gets neither the page nor the file."""
    ordinary = reading(caller.but(permissions=tuple(set(EVERYTHING) - {"jobs.view_audit"})))
    assert 'href="/audit"' not in ordinary.get("/").text
    assert ordinary.get("/audit").status_code == 403
    assert ordinary.get("/audit/export").status_code == 403


def test_the_audit_can_be_kept_as_a_file(caller: Caller, reading: SignIn) -> None:
    """The file has what the page shows, narrowed as it is, in the formats of the API."""
    deeds(caller)
    client = reading(caller)
    answer = client.get("/audit/export?format=csv&action=job.cancel")
    assert answer.headers["content-disposition"] == 'attachment; filename="audit.csv"'
    assert [row["outcome"] for row in csv.DictReader(io.StringIO(answer.text))] == ["refused", "done"]
    lines = client.get("/audit/export?format=jsonl&actor=mallory").text.splitlines()
    assert [json.loads(line)["outcome"] for line in lines] == ["denied"]
    assert client.get("/audit/export?format=xml").status_code == 422


def test_older_entries_are_on_further_pages(caller: Caller, reading: SignIn) -> None:
    """Fifty entries are on a page; the further ones follow it, without a gap or a repeat, and keep its filters."""
    for _ in range(60):
        caller.post(f"/v1/jobs/{uuid4()}/cancel")
    client, seen, path = reading(caller), list[str](), "/audit?action=job.cancel"
    while path:
        page = client.get(path).text
        seen += [part.partition('"')[0] for part in page.split('id="entry-')[1:]]
        path = page.partition('rel="next"')[0].rpartition('href="')[2].partition('"')[0].replace("&amp;", "&")
        path = path if 'rel="next"' in page else ""
        assert not path or "action=job.cancel" in path
    assert len(seen) == len(set(seen)) == 60


def test_the_audit_is_read_in_a_browser(window: Window, caller: Caller) -> None:
    """In a browser the filters narrow the audit, and a target leads to what it names."""
    done = deeds(caller)
    page = window.sign_in(caller)
    page.get_by_role("link", name="Audit").click()
    expect(page.locator("#rows tr")).to_have_count(7)
    window.picture("audit")
    page.get_by_label("Outcome").select_option("denied")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#rows tr")).to_have_count(1)
    page.get_by_role("link", name=done["job"]).click()
    page.wait_for_url(f"**/jobs/{done['job']}")


@pytest.mark.parametrize("width", [320, 640, 1280])
def test_a_time_is_seen_whole_in_its_field(window: Window, caller: Caller, width: int) -> None:
    """The fields of the times are wide enough for a date with its hour and minute, at every width of the page."""
    page = window.sign_in(caller)
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"{caller.api.url}/audit")
    for name in ("From, UTC", "To, UTC"):
        box = page.get_by_label(name).bounding_box()
        assert box is not None
        assert box["width"] >= 200
    assert page.evaluate("document.documentElement.scrollWidth") <= width
