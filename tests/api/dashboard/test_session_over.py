"""A session that ends while pages are open: they say so, and nothing that somebody has typed is lost."""

from __future__ import annotations

import json
import re
from html import unescape

import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.api.calling import Api, Caller
from tests.api.dashboard.conftest import PATIENCE, SignIn, Window, link
from tests.live import eventually

SAME = {"Sec-Fetch-Site": "same-origin"}
HIDDEN = re.compile(r'<input type="hidden" name="([^"]*)" value="([^"]*)">')
FORM = {"jobType": "open", "as": "json", "payload": '{"text":\r\n "a <long> & \\"quoted\\" text 🎉 "} ', "key": "k"}
TABS = 8  # a browser has six connections to a server of HTTP/1.1
SEEN = """seen => {
    Object.defineProperty(document, "hidden", {configurable: true, get: () => !seen});
    document.dispatchEvent(new Event("visibilitychange"));
}"""

expect.set_options(timeout=PATIENCE)


def end_sessions(api: Api) -> None:
    """Let everybody be signed out, as time does."""
    with api.database.autocommit() as connection:
        connection.exec_driver_sql("DELETE FROM sessions")


def test_a_form_sent_too_late_is_kept(api: Api, caller: Caller, reading: SignIn) -> None:
    """A form that is sent after the session's end does nothing, and comes back with its fields to be sent again."""
    client = reading(caller)
    end_sessions(api)
    answer = client.post("/new?as=form", data=FORM, headers=SAME)
    assert (answer.status_code, "You are signed out" in answer.text) == (401, True)
    assert 'action="/new?as=form"' in answer.text
    kept = {name: unescape(value) for name, value in HIDDEN.findall(answer.text)}
    assert kept == FORM
    assert caller.get("/v1/jobs").json()["total"] == 0
    made = reading(caller).post("/new?as=form", data=kept, headers=SAME)
    assert made.status_code == 303
    assert caller.get("/v1/jobs").json()["jobs"][0]["payload"] == json.loads(FORM["payload"])


def test_a_form_that_the_database_could_not_take_is_kept(api: Api, caller: Caller, reading: SignIn) -> None:
    """A form that is answered with 503 comes back with its fields and its key, so that one job is made of it."""
    client = reading(caller)
    with api.database.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE jobs IN EXCLUSIVE MODE")
        answer = client.post("/new", data=FORM, headers=SAME)
    assert answer.status_code == 503, answer.text
    assert {name: unescape(value) for name, value in HIDDEN.findall(answer.text)} == FORM


def test_no_token_stands_in_a_page(stranger: httpx2.Client) -> None:
    """A token that was pasted and refused is in no page that comes back."""
    answer = stranger.post("/sign-in", data={"token": "eyJhbGciOi.secret.x"}, headers=SAME)
    assert answer.status_code == 401
    assert "eyJhbGciOi" not in answer.text


@pytest.mark.parametrize("path", ["/jobs/{}/retry", "/jobs/{}/cancel", "/sign-out"])
def test_the_address_of_a_button_is_a_page(caller: Caller, reading: SignIn, path: str) -> None:
    """Somebody who opens the address of a button reads why there is nothing; a program gets the problem."""
    address = path.format(caller.job().id)
    answer = reading(caller).get(address)
    assert (answer.status_code, answer.headers["content-type"]) == (405, "text/html; charset=utf-8")
    assert "To the jobs" in answer.text
    assert answer.headers["allow"] == "POST"
    assert reading(caller).get(address, headers={"Accept": "*/*"}).json()["code"] == "method_not_allowed"


def signed_out_window(browser: Browser, caller: Caller) -> tuple[Window, Page, Page]:
    """A window with the page of the jobs and that of the types, both live."""
    window = Window(browser.new_context())
    page = window.sign_in(caller)
    types = window.context.new_page()
    types.goto(f"{caller.api.url}/types")
    for each in (page, types):
        expect(each.locator("#live")).to_have_text("live")
    return window, page, types


def test_signing_out_in_one_tab_ends_the_others(browser: Browser, caller: Caller) -> None:
    """A page of another tab leads to the sign-in when somebody signs out, and back."""
    window, page, types = signed_out_window(browser, caller)
    page.get_by_role("button", name="Sign out").click()
    types.wait_for_url("**/sign-in?next=%2Ftypes")
    window.context.close()


def test_what_was_typed_stays_when_the_session_ends(browser: Browser, caller: Caller) -> None:
    """A page on which somebody has typed says that it is not live, keeps the words, and goes on after a sign-in."""
    window, page, types = signed_out_window(browser, caller)
    types.get_by_label("Why").fill("the supplier is away")
    page.get_by_role("button", name="Sign out").click()
    expect(types.get_by_text("You are signed out")).to_be_visible()
    expect(types.locator("#live")).to_have_text("not live")
    page.goto(link(caller))
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{caller.api.url}/")
    expect(types.locator("#live")).to_have_text("live")
    expect(types.get_by_label("Why")).to_have_value("the supplier is away")
    window.context.close()


def test_many_tabs_can_be_open(window: Window, caller: Caller) -> None:
    """A tab that nobody sees holds no connection, so that further ones open, and is as it should be when it is seen."""
    first = window.sign_in(caller)
    tab = first
    for _ in range(TABS):
        tab.evaluate(SEEN, 0)
        tab = window.context.new_page()
        tab.goto(f"{caller.api.url}/types")
        expect(tab.locator("#live")).to_be_visible()
    job = caller.job()
    tab.evaluate(SEEN, 0)
    first.evaluate(SEEN, 1)
    expect(first.locator(f"#job-{job.id}")).to_be_visible()
    later = caller.job()
    expect(first.locator(f"#job-{later.id}")).to_be_visible()


def test_many_windows_can_be_seen(window: Window, caller: Caller) -> None:
    """Of many windows that are seen at once four are live; the others open, say so, look again, and take their turn."""
    windows = [window.sign_in(caller)]
    expect(windows[0].locator("#live")).to_have_text("live")
    for number in range(1, TABS):
        windows.append(window.context.new_page())
        windows[number].goto(caller.api.url)
        expect(windows[number].locator("#live")).to_have_text("live" if number < 4 else "not live")
    job = caller.job()
    for each in windows:
        expect(each.locator(f"#job-{job.id}")).to_be_visible(timeout=10_000)
    windows.pop(0).close()
    eventually(lambda: sum(each.inner_text("#live") == "live" for each in windows) == 4, within=20)
