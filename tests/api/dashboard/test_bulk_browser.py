"""Many jobs at once, and a retry with another payload, in a real browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.api.calling import EVERYTHING, Api, Caller
from tests.api.dashboard.accessible import violations
from tests.api.dashboard.conftest import Window
from tests.api.dashboard.test_browser import fill
from tests.api.dashboard.test_bulk import operations
from tests.api.test_operations import worked


@pytest.fixture
def caller(api: Api) -> Caller:
    """Somebody with every permission there is of an organization."""
    return api.caller(permissions=(*EVERYTHING, "jobs.delete_jobs"))


def test_a_bulk_retry_is_live(window: Window, caller: Caller) -> None:
    """Rows are selected by a click or the key x, and the page of an operation shows its progress and aborts it."""
    fill(caller)
    found = [caller.job("failed", job_type="export_report") for _ in range(8)]
    page = window.sign_in(caller)
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.locator(f"#job-{found[0].id} .pick").check()
    expect(page.locator("[data-selected]")).to_have_text("the 2 selected jobs")
    caller.report(caller.job("running"), percent=5)  # a change that redraws rows
    expect(page.locator(".pick:checked")).to_have_count(2)
    window.picture("bulk-select")
    page.goto(f"{caller.api.url}/?q=status:failed")
    page.get_by_label("Select all").check()
    page.locator("#bulk [name=which]").select_option("all")
    page.locator("#bulk [name=action]").select_option("retry")
    page.get_by_role("button", name="Look first").click()
    window.picture("bulk-new")
    page.locator("[name=canary]").fill("2")
    page.get_by_role("button", name="Retry 9 jobs").click()
    page.wait_for_url("**/bulk/*")
    (operation,) = operations(caller)
    worked(caller, operation)
    expect(page.locator(".why-box")).to_contain_text("The first 2 jobs have until")
    window.picture("bulk-canary")
    page.get_by_role("button", name="Abort").click()
    expect(page.locator("#notices")).to_contain_text("was aborted")
    expect(page.locator(".head .badge")).to_have_text("aborted")
    window.picture("bulk-aborted")
    page.get_by_role("link", name="All operations").click()
    expect(page.locator(f"#operation-{operation['id']}")).to_contain_text("aborted")
    window.picture("bulk-list")


def test_everybody_can_use_these_pages(window: Window, caller: Caller) -> None:
    """Axe finds nothing on the pages of bulk operations and of a retry, light and dark; none is wider than a phone."""
    found = fill(caller)
    context = window.context.browser.new_context(bypass_csp=True)  # type: ignore[union-attr]  # for axe itself
    page = Window(context).sign_in(caller)
    done = caller.post("/v1/bulk", {"action": "reprioritize", "filter": {}, "priority": 3}).json()
    worked(caller, done)
    looks = [f"/bulk/new?which=all&action={action}" for action in ("retry", "delete")]
    for path in (f"/bulk/{done['id']}", "/bulk", f"/jobs/{found['failed'].id}/retry-with", *looks):
        page.set_viewport_size({"width": 390, "height": 844})
        page.goto(f"{caller.api.url}{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
        page.set_viewport_size({"width": 1360, "height": 940})
        assert violations(page) == [], path
    context.close()


def test_a_payload_is_edited_in_a_browser(window: Window, caller: Caller) -> None:
    """In a browser the payload is edited, the difference is shown before it is sent, and the new job is shown."""
    payload = {"kind": "small", "count": 3}
    job = caller.job("failed", job_type="guarded", payload=payload)
    page = window.sign_in(caller)
    page.goto(f"{caller.api.url}/jobs/{job.id}")
    page.get_by_role("link", name="Retry with another payload").click()
    window.picture("repeat-form")
    page.get_by_label("kind").select_option("large")
    page.get_by_role("button", name="Show what changes").click()
    expect(page.locator("#changes .add")).to_contain_text(['+   "kind": "large",'])
    window.picture("repeat-difference")
    page.get_by_role("button", name="Make the new job").click()
    page.wait_for_url("**/jobs/*?done=repeated")
    expect(page.locator(".facts")).to_contain_text(str(job.id))
    window.picture("repeat-done")
