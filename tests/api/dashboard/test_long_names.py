"""Pages with names and words without a space, as identity providers, paths and addresses have them."""

from __future__ import annotations

from itertools import product

from playwright.sync_api import expect

from tests.api.calling import Api
from tests.api.dashboard.conftest import Window

LONG = "https://id.example.com/realms/" + "x" * 200  # a name without a place to break


def test_long_names_leave_room_for_the_rest(window: Window, api: Api) -> None:
    """With a user whose name is long no page is wider than the screen, its navigation is there, and rows stay low."""
    caller = api.caller(user=LONG)
    job = caller.job("running", project_id=LONG)
    caller.report(job, percent=5, message=LONG)
    caller.patch(f"/v1/jobs/{caller.job().id}", {"priority": 7})  # for the audit
    page = window.sign_in(caller)
    for width, address in product((1360, 800, 390, 320), ("/", f"/jobs/{job.id}", "/audit", "/types")):
        page.set_viewport_size({"width": width, "height": 844})
        page.goto(f"{api.url}{address}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, (width, address)
    page.set_viewport_size({"width": 1360, "height": 844})
    page.goto(api.url)
    expect(page.get_by_role("link", name="Audit")).to_be_in_viewport()
    expect(page.get_by_role("button", name="Sign out")).to_be_in_viewport()
    box = page.locator(f"#job-{job.id}").bounding_box()
    assert box is not None
    assert box["height"] < 100
