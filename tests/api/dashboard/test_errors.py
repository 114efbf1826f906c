"""The page of errors: without a script, and in a browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.api.calling import OF_GUARDED, Caller
from tests.api.dashboard.conftest import SignIn, Window
from tests.api.dashboard.test_browser import fail
from tracking import jobs
from tracking.models import Failure, Outcome

SAME = {"Sec-Fetch-Site": "same-origin"}
SAYS = "could not connect to server 10.0.{}.17:5432 for <b>'invoice-{}.csv'</b>: Connection refused by the other side"


def fill(caller: Caller) -> None:
    """Failures of three kinds, one of them now and then for hours."""
    for number in range(12):
        job = caller.job("running", job_type="export_report")
        failure = Failure("ConnectionError", SAYS.format(number, number))
        with caller.api.database.autocommit() as connection:
            jobs.settle(connection, [Outcome(job.fence, "failed", "worker-1", failure=failure)])
            connection.exec_driver_sql(
                "UPDATE jobs SET created_at = created_at - make_interval(hours => %s), started_at = NULL,"
                " completed_at = completed_at - make_interval(hours => %s) WHERE id = %s",
                (number * number // 5, number * number // 5, job.id),
            )
    fail(caller, job_type="a.very.long.module.path.of_a_task_that_somebody_has_written")
    for _ in range(3):
        caller.job("failed", job_type="guarded")


def test_groups_are_shown_and_dealt_with(caller: Caller, reading: SignIn) -> None:
    """The page has a line for each group, its jobs behind it, and buttons that say what became of it, audited."""
    fill(caller)
    client = reading(caller)
    page = client.get("/errors").text
    assert page.index("ConnectionError") < page.index("ValueError") < page.index("QueryCanceled")
    assert "for &lt;b&gt;&#39;invoice-2.csv&#39;" in page
    assert "11 failures in the last day" in page
    assert 'aria-label="Retry all that failed with ValueError"' in page
    listed = client.get("/", params={"q": f"alike:{OF_GUARDED}"}).text
    assert listed.count('<tr id="job-') == 3
    assert "Retry 3 jobs" in client.get(f"/bulk/new?which=all&action=retry&q=alike:{OF_GUARDED}").text
    for verb, state in (("resolve", "resolved"), ("ignore", "ignored"), ("open", "open")):
        answer = client.post(f"/errors/{OF_GUARDED}/{verb}", headers=SAME)
        assert answer.headers["location"] == f"/errors?done={state}"
        assert ("ValueError" in client.get("/errors?part=body").text) == (state == "open")
        assert "ValueError" in client.get(f"/errors?part=body&state={state}").text
    entries = caller.get("/v1/audit", target=OF_GUARDED, source="dashboard").json()["entries"]
    assert [each["detail"]["state"] for each in reversed(entries)] == ["resolved", "ignored", "open"]


def test_who_may_only_look_has_no_buttons(caller: Caller, reading: SignIn) -> None:
    """Without `jobs.manage_jobs` nothing is marked, and without `jobs.retry_jobs` nothing is offered for a retry."""
    caller.job("failed", job_type="guarded")
    looking = reading(caller.but(permissions=("jobs.view_jobs",)))
    page = looking.get("/errors").text
    assert "ValueError" in page
    assert "Resolve" not in page
    assert "Retry all" not in page
    assert looking.post(f"/errors/{OF_GUARDED}/resolve", headers=SAME).status_code == 403
    assert reading(caller).post("/errors/0123456789abcdef/resolve", headers=SAME).status_code == 404
    assert reading(caller).post("/errors/x/resolve", headers=SAME).status_code == 404


@pytest.mark.parametrize("query", ["", "?window=hour", "?window=x&state=y&done=z", "?state=ignored&window=month"])
def test_nothing_has_failed(caller: Caller, reading: SignIn, query: str) -> None:
    """Without failures the page says so, whatever is asked."""
    assert "<b>No" in reading(caller).get(f"/errors{query}").text


def test_a_group_is_resolved_and_comes_back(window: Window, caller: Caller) -> None:
    """A button takes a group off the page at once; the next failure brings it back by itself, and says so."""
    fill(caller)
    page = window.sign_in(caller)
    page.get_by_role("link", name="Errors").click()
    line = page.locator(f"#error-{OF_GUARDED}")
    expect(line).to_contain_text("new")
    window.picture("errors")
    line.get_by_role("button", name="Resolve").click()
    expect(page.locator("#notices")).to_contain_text("resolved")
    expect(line).to_have_count(0)
    caller.job("failed", job_type="guarded")
    expect(line).to_contain_text("came back")
    line.get_by_role("link", name="Retry all").click()
    expect(page.get_by_role("heading", name="Retry 4 jobs")).to_be_visible()
