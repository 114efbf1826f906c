"""Saved views at the dashboard: without a script, and in a browser."""

from __future__ import annotations

from uuid import uuid4

from playwright.sync_api import expect

from tests.api.calling import Caller
from tests.api.dashboard.conftest import SignIn, Window
from tests.api.dashboard.test_browser import fill

SAME = {"Sec-Fetch-Site": "same-origin"}


def test_a_view_is_saved_opened_and_removed_without_a_script(caller: Caller, reading: SignIn) -> None:
    """Forms save, rename and remove a view; what is refused is said on the page; its address opens it for others."""
    client = reading(caller)
    answer = client.post("/views", data={"name": "<b>Failed</b>", "search": "status:failed"}, headers=SAME)
    assert answer.headers["location"] == "/?q=status%3Afailed&done=saved"
    page = client.get("/?q=status:failed").text
    assert "&lt;b&gt;Failed&lt;/b&gt;" in page
    again = client.post("/views", data={"name": "<b>Failed</b>", "search": "x"}, headers=SAME)
    assert (again.status_code, "already" in again.text) == (422, True)
    (view,) = caller.get("/v1/views").json()["views"]
    opened = reading(caller.but(user="u2")).get(f"/views/{view['id']}")
    assert opened.headers["location"] == "/?q=status%3Afailed"
    stranger = reading(caller.but(organization=f"{caller.organization}-other"))
    assert stranger.get(f"/views/{view['id']}").status_code == 404
    client.post(f"/views/{view['id']}/change", data={"name": "Broken", "search": "status:failed"}, headers=SAME)
    assert "Broken" in client.get("/views").text
    assert client.post(f"/views/{view['id']}/change", data={"name": ""}, headers=SAME).status_code == 422
    assert client.post(f"/views/{view['id']}/remove", headers=SAME).headers["location"] == "/views?done=removed"
    assert caller.get("/v1/views").json()["views"] == []
    entries = caller.get("/v1/audit", target=view["id"]).json()["entries"]
    done = [(each["action"], each["source"]) for each in entries if each["outcome"] == "done"]
    assert done == [("view.remove", "dashboard"), ("view.change", "dashboard"), ("view.save", "dashboard")]


def test_views_by_the_keyboard(window: Window, caller: Caller) -> None:
    """A search is saved from the page of the jobs, and the key v opens the menu in which it stands."""
    fill(caller)
    caller.view(uuid4(), "Exports of the last quarter, for the auditors", search="type:export_report")
    page = window.sign_in(caller)
    page.get_by_label("Search the jobs").fill("status:failed")
    page.keyboard.press("Enter")
    page.locator("#views > summary").click()
    page.get_by_label("Save this search as").fill("Failed")
    page.keyboard.press("Enter")
    expect(page.locator(".notice")).to_contain_text("The view was saved.")
    page.keyboard.press("v")
    expect(page.locator("#views a[aria-current]")).to_have_text("Failed")
    window.picture("views-menu")
    page.goto(caller.api.url)
    page.keyboard.press("v")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?q=type%3Aexport_report")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.keyboard.press("v")
    window.picture("views-menu-long")
    page.get_by_role("link", name="Change, remove, share").click()
    expect(page.locator("#rows tr")).to_have_count(2)
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    window.picture("views")
