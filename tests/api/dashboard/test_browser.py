"""The dashboard in a real browser: live, with keys, and without a complaint of its policy."""

from __future__ import annotations

import re
import time
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.api.calling import Caller
from tests.api.dashboard.accessible import violations
from tests.api.dashboard.conftest import PATIENCE, Window
from tests.workflowing import begin
from tracking import jobs, workers
from tracking.admission import pauses
from tracking.models import Claim, Failure, JobRecord, Outcome, Owner
from tracking.workflows.values import Node

expect.set_options(timeout=PATIENCE)

NARROWEST = "Math.min(...[...document.querySelectorAll('td.what')].map(cell => cell.offsetWidth), 1000)"
EVENTS = Path(__file__).parents[3] / "docs" / "events.md"
TRACEBACK = """Traceback (most recent call last):
  File "/srv/app/handlers/reports.py", line 61, in export_report
    for row in report.rows(payload):
  File "/srv/venv/lib/python3.11/site-packages/psycopg/cursor.py", line 97, in execute
    raise ex.with_traceback(None)
QueryCanceled: canceling statement due to statement timeout"""


def fail(caller: Caller, **fields: Any) -> JobRecord:
    """A job that has failed after three attempts."""
    job = caller.job(**fields)
    failure = Failure("QueryCanceled", "canceling statement due to statement timeout", TRACEBACK)
    with caller.api.database.autocommit() as connection:
        for kind in ("retry", "retry", "failed"):
            current = caller.find(job.id)
            connection.exec_driver_sql("UPDATE jobs SET hold = NULL, due_at = NULL WHERE id = %s", (job.id,))
            jobs.claim(connection, [Claim(current.fence, uuid4(), "worker-1", None)])
            jobs.settle(connection, [Outcome(current.fence, kind, "worker-1", failure=failure)])
    return caller.find(job.id)


def row(page: Page, job: JobRecord) -> Any:
    """The row of a job."""
    return page.locator(f"#job-{job.id}")


def fill(caller: Caller) -> dict[str, JobRecord]:
    found = {
        "done": caller.job("succeeded", job_type="cleanup", result={"files": 1204, "freed": "3.1 GB"}),
        "failed": fail(caller, job_type="export_report", payload={"reportType": "jobs", "big": 12345678901234567}),
        "cancelled": caller.job("cancelled", job_type="sync"),
        "scheduled": caller.job(job_type="notification", delay=timedelta(hours=3), priority=7),
        "long": caller.job(
            job_type="a.very.long.module.path.of_a_task_that_somebody_has_written", project_id="q4-close"
        ),
        "queued": caller.job(job_type="data_processing"),
        "running": caller.job("running", job_type="export_report"),
    }
    caller.report(
        found["running"], percent=63, message="Process · 412,000 of 650,000 rows", current_step=3, total_steps=6
    )
    return found


def test_the_page_shows_jobs_as_they_are(window: Window, caller: Caller) -> None:
    """The page of the jobs has a card for each status, and a row for each job with what there is to know of it."""
    found = fill(caller)
    page = window.sign_in(caller)
    expect(page.locator("#count-failed strong")).to_have_text("1")
    expect(row(page, found["running"]).locator("progress")).to_have_attribute("value", "63")
    expect(row(page, found["running"])).to_contain_text("412,000 of 650,000 rows")
    expect(row(page, found["scheduled"])).to_contain_text("Due in 2 h")
    expect(row(page, found["failed"])).to_contain_text("QueryCanceled: canceling statement due to statement timeout")
    window.picture("jobs")
    page.locator("#count-failed").click()
    expect(page.locator("#rows tr")).to_have_count(1)
    expect(page.locator("#count-failed")).to_have_attribute("aria-current", "true")
    page.locator("#count-failed").click()
    expect(page.locator("#rows tr")).to_have_count(7)


def test_the_page_is_live(window: Window, caller: Caller) -> None:
    """A new job, its progress, its end and the counts appear on the page by themselves, without a noticeable wait."""
    first = caller.job("running")
    page = window.sign_in(caller)
    expect(page.locator("#live")).to_be_visible()
    page.wait_for_timeout(500)
    began = time.monotonic()
    caller.report(first, percent=42, message="Half way")
    expect(row(page, first)).to_contain_text("42 % · Half way")
    assert time.monotonic() - began < 4, "on a busy machine"
    began = time.monotonic()
    second = caller.job()
    expect(row(page, second)).to_be_visible()
    assert time.monotonic() - began < 4, "on a busy machine"
    with caller.api.database.autocommit() as connection:
        jobs.settle(connection, [Outcome(first.fence, "succeeded", "worker-1", result={"rows": 7})])
    expect(row(page, first).locator(".badge")).to_have_text("succeeded")
    expect(page.locator("#count-succeeded strong")).to_have_text("1")


def test_a_pause_pauses(window: Window, caller: Caller) -> None:
    """While the live view is paused the page does not change; going on it catches up."""
    first = caller.job("running")
    page = window.sign_in(caller)
    page.get_by_role("button", name="live").click()
    expect(page.locator("#live")).to_have_text("paused")
    caller.report(first, percent=42)
    second = caller.job()
    page.wait_for_timeout(1500)
    expect(row(page, second)).to_have_count(0)
    expect(row(page, first).locator("progress")).to_have_attribute("value", "0")
    page.keyboard.press("p")
    expect(row(page, second)).to_be_visible()
    expect(row(page, first).locator("progress")).to_have_attribute("value", "42")


def test_cancel_and_retry_from_the_rows(window: Window, caller: Caller) -> None:
    """Cancel and Retry act at once, say so in a notice, and the row shows it; a refusal is said as well."""
    job = caller.job()
    page = window.sign_in(caller)
    row(page, job).get_by_role("button", name="Cancel").click()
    expect(page.locator("#notices")).to_contain_text("The job was cancelled.")
    expect(row(page, job).locator(".badge")).to_have_text("cancelled")
    assert caller.find(job.id).status == "cancelled"
    row(page, job).get_by_role("button", name="Retry").click()
    expect(page.locator("#notices")).to_contain_text("The job was queued again.")
    expect(row(page, job).locator(".badge")).to_have_text("queued")
    page.get_by_role("button", name="live").click()
    caller.post(f"/v1/jobs/{job.id}/cancel")
    with page.expect_response(re.compile("/cancel$")) as answer:
        row(page, job).get_by_role("button", name="Cancel").click()
    assert answer.value.status == 409
    expect(page.locator("#notices .grave")).to_contain_text("cannot be cancelled")
    window.complaints.clear()  # the browser complains of every 409


def test_the_page_of_a_job_explains_it(window: Window, caller: Caller) -> None:
    """A failed job's page has its attempts with error and traceback, its numbers exactly, and a button to retry it."""
    found = fill(caller)
    page = window.sign_in(caller)
    row(page, found["failed"]).get_by_role("link").click()
    expect(page.locator("h1")).to_have_text("export_report")
    expect(page.locator(".why-box")).to_contain_text("Failed after 3 attempts with QueryCanceled")
    expect(page.locator("details[open] .trace")).to_contain_text("report.rows(payload)")
    expect(page.locator("details[open] .trace .lib summary")).to_contain_text("1 frame of libraries")
    page.locator("details[open] .trace .lib summary").click()
    expect(page.locator("details[open] .trace .lib").first).to_contain_text("site-packages/psycopg")
    expect(page.locator(".json").first).to_contain_text("12345678901234567")
    expect(page.locator(".path li")).to_have_count(4)
    window.picture("job-failed")
    page.get_by_role("button", name="Retry").click()
    expect(page.locator(".head .badge")).to_have_text("queued")
    expect(page.locator(".events")).to_contain_text("Retried")
    page.goto(f"{caller.api.url}/jobs/{found['running'].id}")
    window.picture("job-running")
    caller.report(found["running"], percent=80, message="Format")
    expect(page.locator(".running-now")).to_contain_text("80 % · step 3 of 6 · Format")


def test_what_is_opened_stays_open(window: Window, caller: Caller) -> None:
    """What somebody has opened, typed or focused stays as it is when the page is renewed."""
    job = fail(caller, max_retries=9)
    page = window.sign_in(caller)
    page.get_by_label("Search the jobs").fill("half a se")
    other = caller.job()
    expect(row(page, other)).to_be_visible()
    expect(page.get_by_label("Search the jobs")).to_have_value("half a se")
    page.goto(f"{caller.api.url}/jobs/{job.id}")
    page.locator("#attempt-1 > summary").click()
    page.locator("#attempt-3 > summary").click()
    caller.post(f"/v1/jobs/{job.id}/retry")
    expect(page.locator(".head .badge")).to_have_text("queued")
    expect(page.locator("#attempt-1")).to_have_attribute("open", "")
    assert page.locator("#attempt-3").get_attribute("open") is None


def test_the_keyboard_reaches_everything(window: Window, caller: Caller) -> None:
    """The keys of the page move through the rows, open, cancel and search."""
    older, newer = caller.job(), caller.job()
    page = window.sign_in(caller)
    page.keyboard.press("j")
    expect(row(page, newer).get_by_role("link")).to_be_focused()
    colours = [row(page, each).evaluate("row => getComputedStyle(row).backgroundColor") for each in (newer, older)]
    assert colours[0] != colours[1]  # it is seen where the keys are
    page.keyboard.press("j")
    expect(row(page, older).get_by_role("link")).to_be_focused()
    page.keyboard.press("c")
    expect(row(page, older).locator(".badge")).to_have_text("cancelled")
    expect(row(page, older).get_by_role("link")).to_be_focused()
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/jobs/{newer.id}")
    page.go_back()
    page.keyboard.press("/")
    page.keyboard.type("status:queued")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?q=status%3Aqueued*")
    page.keyboard.press("/")  # what is typed then takes the place of the search
    page.keyboard.type("status:cancelled")
    page.keyboard.press("Enter")
    expect(page.locator("#rows .badge")).to_have_text("cancelled")
    page.locator("#rows tr a").focus()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("pause the live view")
    window.picture("keys")
    page.keyboard.press("Escape")
    page.keyboard.press("t")
    page.keyboard.press("t")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.get_by_label("Search the jobs").fill("status:failed type:ope")
    expect(page.locator("#completions option").first).to_have_attribute("value", "status:failed type:open")
    page.locator("#rows tr a").focus()
    page.keyboard.press("n")
    page.wait_for_url("**/new")


def test_two_organizations_side_by_side(browser: Browser, window: Window, caller: Caller) -> None:
    """Of two organizations, open side by side, each sees its own jobs, live as well."""
    stranger = caller.but(organization=f"{caller.organization}-other")
    other = Window(browser.new_context())
    mine, theirs = window.sign_in(caller), other.sign_in(stranger)
    expect(mine.locator("#live")).to_be_visible()
    expect(theirs.locator("#live")).to_be_visible()
    first, second = caller.job(), stranger.job()
    expect(row(mine, first)).to_be_visible()
    expect(row(theirs, second)).to_be_visible()
    expect(row(mine, second)).to_have_count(0)
    expect(row(theirs, first)).to_have_count(0)
    other.context.close()


def test_an_empty_page_and_one_that_needs_somebody(window: Window, caller: Caller) -> None:
    """A page without jobs says what to do; one whose jobs are paused says who did that and why."""
    page = window.sign_in(caller)
    expect(page.locator(".empty")).to_contain_text("There are no jobs yet.")
    window.picture("empty")
    with caller.api.database.autocommit() as connection:
        whose = caller.organization
        pauses.pause(connection, organization_id=whose, job_type="sync", actor="mara", reason="the shop is closed")
    page.reload()
    expect(page.locator(".needs")).to_contain_text("Paused by mara")
    expect(page.locator(".needs")).to_contain_text("the shop is closed")
    page.get_by_label("Search the jobs").fill("status:broken")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("status")
    window.picture("needs")


def test_the_types_are_live_and_can_be_paused(window: Window, caller: Caller) -> None:
    """The page of the types counts by itself, and a pause shows at once."""
    page = window.sign_in(caller)
    page.get_by_role("link", name="Types").click()
    line = page.locator("#type-open")
    expect(line.locator("td").nth(2)).to_have_text("0")
    caller.job()
    expect(line.locator("td").nth(2)).to_have_text("1")
    line.get_by_role("button", name="Pause").click()
    expect(page.locator("#notices")).to_contain_text("does not start")
    expect(line).to_contain_text("paused by u1")
    window.picture("types")
    line.get_by_role("button", name="Resume").click()
    expect(line).not_to_contain_text("paused by u1")


def test_a_worker_that_comes_is_on_the_page_of_the_workers(window: Window, caller: Caller) -> None:
    """A worker that has begun appears on the page of the workers within seconds, by itself."""
    page, lease = window.sign_in(caller), uuid4()
    page.get_by_role("link", name="Workers").click()
    expect(page.locator("h1")).to_have_text("Workers and queues")
    with caller.api.database.autocommit() as connection:
        workers.beat(connection, lease, name="worker-1", pid=7, queues=["default", "reports"], concurrency=4)
        try:
            caller.job(queue="nobody-takes-it")
            expect(page.locator(f"#worker-{lease}")).to_contain_text("alive")
            expect(page.locator(".needs")).to_contain_text("nobody-takes-it")
            window.picture("workers")
        finally:
            workers.leave(connection, lease)
    expect(page.locator(f"#worker-{lease}")).to_have_count(0)


def test_nothing_scrolls_sideways_on_a_small_screen(window: Window, caller: Caller) -> None:
    """On a phone, a tablet and at twice the size no page is wider than the screen, and no name is squeezed."""
    found = fill(caller)
    flow = uuid4()
    begun = begin(
        caller.api.database,
        Node("b" * 100, "guarded", {}),
        id=flow,
        name="a" * 200,
        owner=Owner(caller.organization, caller.user),
    )
    caller.schedule(uuid4(), "every minute of every hour of every day")
    further = others(caller)
    page = window.sign_in(caller)
    addresses = (
        "/",
        "/errors",
        "/errors?state=ignored",
        "/types",
        "/schedules",
        "/workers",
        *further,
        f"/jobs/{found['failed'].id}",
        f"/jobs/{found['long'].id}",
        "/workflows",
        f"/workflows/{flow}",
        f"/jobs/{begun.jobs['b' * 100].id}",
    )
    for width, address in product((390, 320, 800, 1010), addresses):
        page.set_viewport_size({"width": width, "height": 844})
        page.goto(f"{caller.api.url}{address}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, (width, address)
        assert page.evaluate(NARROWEST) >= 100, (width, address)


def others(caller: Caller) -> list[str]:
    """The pages of what is no job, with something on each."""
    webhook = caller.webhook(uuid4(), "https://hooks.example.com/a/very/long/path/that/nobody/would/want/to/write")
    caller.template(uuid4(), "monthly", payload={"kind": "small"})
    delivery = caller.delivery(webhook.id, "failed")
    ledger = [f"/webhooks/{webhook.id}", f"/webhooks/{webhook.id}/deliveries/{delivery.id}"]
    templates = ["/templates", "/templates/monthly", "/templates?after=z"]
    organizations = [f"/organizations?after={caller.organization[:-1]}", f"/organizations/{caller.organization}"]
    new = ["/new", "/new?type=guarded", "/new?type=export_report", "/new?type=open"]
    caller.view(uuid4(), "the failed exports of the last quarter")
    return ["/views", *new, "/audit", "/audit?actor=nobody", *templates, "/webhooks", *ledger, *organizations]


def test_everybody_can_use_the_pages(browser: Browser, caller: Caller) -> None:
    """Axe finds nothing on any page, light and dark, that WCAG 2.2 AA asks for and that is not there."""
    found, schedule = fill(caller), uuid4()
    caller.schedule(schedule, "every minute")
    changed = (f"/jobs/{found['scheduled'].id}/edit", f"/jobs/{found['failed'].id}/retry-with")
    context = browser.new_context(bypass_csp=True)  # for axe itself
    page = Window(context).sign_in(caller)
    jobs_of = [f"/jobs/{found[name].id}" for name in ("failed", "running", "cancelled", "scheduled")]
    further = ("/types", "/schedules", "/workers", "/?q=nothing+like+it", "/?q=x:x", "/errors", *others(caller))
    for path in ("/", *further, *jobs_of, *changed, f"/schedules/{schedule}/edit", f"/jobs/{uuid4()}"):
        page.goto(f"{caller.api.url}{path}")
        assert violations(page) == [], path
    context.clear_cookies()
    page.goto(f"{caller.api.url}/sign-in")
    assert violations(page) == []
    context.close()


def test_the_script_of_the_documentation_follows_events(browser: Browser, caller: Caller) -> None:
    """The script of docs/events.md hears of a job's end, and goes on with a new ticket when its stream is lost."""
    [script] = re.findall(r"```js\n(.*?)```", EVENTS.read_text(), re.DOTALL)
    context = browser.new_context(bypass_csp=True)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(f"{caller.api.url}/sign-in")
    token = caller.headers["Authorization"].removeprefix("Bearer ")
    given = f"const token = '{token}', heard = []; window.heard = heard; const show = (data) => heard.push(data.jobId);"
    with page.expect_response(lambda answer: "/v1/events?" in answer.url):
        page.add_script_tag(content=given + script)
    first = caller.job("succeeded")
    page.wait_for_function("window.heard.length === 1")
    context.set_offline(True)
    second = caller.job("failed")
    context.set_offline(False)
    page.wait_for_function("window.heard.length === 2")
    assert page.evaluate("window.heard") == [str(first.id), str(second.id)]
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_who_is_refused_reads_why(window: Window, caller: Caller, scheme: str) -> None:
    """A link that was used, and a job that is not there, are answered with a page that says so."""
    page = window.page
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(f"{caller.api.url}/sign-in?ticket=used")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("The link has been used")
    page.get_by_label("Token").fill(caller.headers["Authorization"])
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator(".user")).to_contain_text(caller.organization)
    page.goto(f"{caller.api.url}/jobs/{uuid4()}")
    expect(page.locator("h1")).to_have_text("There is no such job")
    window.complaints.clear()  # the browser complains of 401 and 404


def test_the_reference_shows_every_operation(window: Window, caller: Caller) -> None:
    """The page at /docs draws all operations of the description, with nothing from elsewhere."""
    described = caller.get("/openapi.json").json()["paths"]
    window.page.goto(f"{caller.api.url}/docs")
    expect(window.page.locator(".opblock")).to_have_count(sum(len(methods) for methods in described.values()))
    window.picture("reference")
