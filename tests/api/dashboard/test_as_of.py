"""Jobs as they were, over HTTP and at the dashboard."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import expect

from tests.api.calling import Caller, problem
from tests.api.dashboard.conftest import SignIn, Window
from tracking.values import in_milliseconds


def passed() -> str:
    """The time, between two things that happen."""
    time.sleep(0.005)
    at = in_milliseconds(datetime.now(UTC))
    time.sleep(0.005)
    return at


def test_lists_counts_and_jobs_are_as_they_were(caller: Caller) -> None:
    """`asOf` lists, counts and shows jobs as they were then, with what had happened until then."""
    before = passed()
    waiting, running = caller.job(project_id="p"), caller.job("running")
    then = passed()
    caller.post(f"/v1/jobs/{waiting.id}/cancel")
    caller.job("failed")
    listed = caller.get("/v1/jobs", asOf=then).json()
    assert [(job["id"], job["status"]) for job in listed["jobs"]] == [
        (str(running.id), "running"),
        (str(waiting.id), "queued"),
    ]
    assert [job["id"] for job in caller.get("/v1/jobs", asOf=then, status="pending").json()["jobs"]] == [
        str(waiting.id)
    ]
    assert caller.get("/v1/projects/p/jobs", asOf=then, status="cancelled").json()["total"] == 0
    assert caller.get("/v1/jobs", asOf=before).json()["total"] == 0
    counts = caller.get("/v1/jobs/stats", asOf=then).json()
    assert (counts["total"], counts["pending"], counts["running"], counts["cancelled"]) == (2, 1, 1, 0)
    assert caller.get("/v1/projects/p/jobs/stats", asOf=then).json()["total"] == 1
    job = caller.get(f"/v1/jobs/{waiting.id}", asOf=then, include="history").json()
    assert (job["status"], job["completedAt"], [entry["event"] for entry in job["history"]]) == (
        *("queued", None),
        ["created"],
    )
    problem(caller.get(f"/v1/jobs/{waiting.id}", asOf=before), 404, "job_not_found")


def test_others_see_no_more_of_the_past(caller: Caller) -> None:
    """Others see of the past what they see now; operators see lists of all organizations, and counts of one."""
    job = caller.job()
    then = passed()
    for other in (caller.but(user="u2"), caller.api.caller()):
        assert other.get("/v1/jobs", asOf=then).json()["total"] == 0
        assert other.get("/v1/jobs/stats", asOf=then).json()["total"] == 0
        problem(other.get(f"/v1/jobs/{job.id}", asOf=then), 404, "job_not_found")
    operator = caller.api.caller()
    everywhere = operator.get("/v1/jobs", asOf=then, organization="*", status="queued", ids=str(job.id)).json()
    assert [each["id"] for each in everywhere["jobs"]] == [str(job.id)]
    problem(operator.get("/v1/jobs/stats", asOf=then, organization="*"), 422, "invalid_request")


@pytest.mark.parametrize("at", ["", "yesterday", "2026-11-29", "2026-11-29T03:00:00", "2999-01-01T00:00:00Z"])
def test_a_time_says_its_zone_and_is_over(caller: Caller, at: str) -> None:
    """What is no time with its zone, or one that is to come, is refused wherever a time can be asked for."""
    job = caller.job()
    for path in ("jobs", "jobs/stats", "projects/p/jobs", "projects/p/jobs/stats", f"jobs/{job.id}"):
        told = problem(caller.get(f"/v1/{path}", asOf=at), 422, "invalid_request")
        assert [error["field"] for error in told["errors"]] == ["asOf"]


def test_the_database_may_be_ahead(caller: Caller) -> None:
    """A time that an answer has said is taken, when the clock of the database is some seconds ahead of the API's."""
    at = (datetime.now(UTC) + timedelta(seconds=5)).isoformat().replace("+00:00", "Z")
    assert caller.get("/v1/jobs", asOf=at).status_code == 200
    at = (datetime.now(UTC) + timedelta(minutes=1)).isoformat().replace("+00:00", "Z")
    problem(caller.get("/v1/jobs", asOf=at), 422, "invalid_request")


def test_the_page_shows_how_it_was(caller: Caller, reading: SignIn) -> None:
    """The page of the jobs and that of a job show what was then, without buttons; a time that is none is refused."""
    job = caller.job()
    then = passed()
    caller.post(f"/v1/jobs/{job.id}/cancel")
    client = reading(caller)
    page = client.get("/", params={"asOf": then}).text
    assert 'id="count-queued"' in page
    assert "<strong>1</strong><span>queued" in page
    assert "Back to now" in page
    assert "data-live" not in page
    assert f"/jobs/{job.id}?asOf=" in page
    assert "/cancel" not in page
    assert 'type="checkbox"' not in page  # there is nothing to be selected for
    shown = client.get(f"/jobs/{job.id}", params={"asOf": then}).text
    assert '<span class="badge queued"' in shown
    assert "Cancelled" not in shown
    assert 'title="The job is shown as it was."' in shown
    assert "Back to now" not in client.get("/", params={"asOf": ""}).text
    for wrong in ("x", "2999-01-01T00:00"):
        for path in ("/", f"/jobs/{job.id}"):
            refused = client.get(path, params={"asOf": wrong}, headers={"Accept": "text/html"})
            assert refused.status_code == 422
            assert "asOf" in refused.text


def test_the_time_is_dragged_on_a_bar(window: Window, caller: Caller) -> None:
    """Who drags the bar sees the jobs of that time, and the way back leads to now."""
    old, new = caller.job("failed", job_type="guarded"), caller.job("running")
    ago = timedelta(hours=5)
    with caller.api.database.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE jobs SET created_at = created_at - %(ago)s, started_at = started_at - %(ago)s,"
            " completed_at = completed_at - %(ago)s, updated_at = updated_at - %(ago)s WHERE id = %(id)s",
            {"ago": ago, "id": old.id},
        )
    page = window.sign_in(caller)
    bar = page.get_by_label("Minutes from now")
    bar.focus()
    bar.evaluate(
        "bar => { bar.value = -120; bar.dispatchEvent(new Event('input')); bar.dispatchEvent(new Event('change')); }"
    )
    page.wait_for_url("**asOf=**")
    expect(page.locator(f"#job-{old.id}")).to_be_visible()
    expect(page.locator(f"#job-{new.id}")).to_have_count(0)
    window.picture("then")
    page.get_by_role("link", name="Back to now").click()
    expect(page.locator(f"#job-{new.id}")).to_be_visible()


def test_the_time_is_chosen_with_keys(window: Window, caller: Caller) -> None:
    """Who moves the bar with keys is not led away at the first of them, and moves it on from where it is."""
    caller.job()
    page = window.sign_in(caller)
    page.get_by_text("As it was …").click()
    bar = page.get_by_label("Minutes from now")
    bar.focus()
    for _ in range(6):
        page.keyboard.press("ArrowLeft")
    page.wait_for_url("**asOf=**")
    expect(bar).to_have_value(re.compile("^-(30|35)$"))
    expect(bar).to_be_focused()
    page.keyboard.press("End")
    page.wait_for_url(lambda address: "asOf=2" not in address)
    expect(page.get_by_role("link", name="Back to now")).to_have_count(0)
