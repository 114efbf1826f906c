"""People at the dashboard: with a browser, and without a script."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from tests.api.calling import PLAIN, Api, Caller
from tracking import tickets
from tracking.tickets import Purpose, Rights

PATIENCE = 10_000  # milliseconds for what a page is to do
DESKTOP, PHONE = (1360, 940), (390, 844)
# The first has the pages alone: a window without the surface of a browser around it takes half of a processor's time.
CHROMIUM = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def link(caller: Caller) -> str:
    """A link that signs the caller in, once."""
    rights = Rights(caller.organization, caller.user, frozenset(caller.permissions), None)
    with caller.api.database.autocommit() as connection:
        ticket = tickets.issue(connection, Purpose.SIGN_IN, rights, timedelta(minutes=5))
    return f"{caller.api.url}/sign-in?ticket={ticket.secret}"


SignIn = Callable[[Caller], httpx2.Client]


@pytest.fixture
def stranger(api: Api) -> Iterator[httpx2.Client]:
    """A browser without a script, in which nobody has signed in."""
    with httpx2.Client(verify=PLAIN, base_url=api.url, timeout=30, headers={"Accept": "text/html"}) as client:
        yield client


@pytest.fixture
def reading(api: Api) -> Iterator[SignIn]:
    """Browsers without a script, in which somebody has signed in."""
    with ExitStack() as opened:

        def sign_in(caller: Caller) -> httpx2.Client:
            client = httpx2.Client(verify=PLAIN, base_url=api.url, timeout=30, headers={"Accept": "text/html"})
            opened.enter_context(client)
            ticket = link(caller).partition("ticket=")[2]
            answer = client.post("/sign-in", data={"ticket": ticket}, headers={"Sec-Fetch-Site": "same-origin"})
            assert answer.status_code == 303, answer.text
            return client

        yield sign_in


@pytest.fixture
def reader(caller: Caller, reading: SignIn) -> httpx2.Client:
    """A browser without a script, in which the caller has signed in."""
    return reading(caller)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium as Debian has it; skips without one, fails in CI. Of one module: while it runs, asyncio.run cannot."""
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        reason = "no chromium on this machine: on Debian `apt-get install chromium-headless-shell`"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium has none as root
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=arguments)
        yield running
        running.close()


class Window:
    """A page, and what its console has complained of."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.page: Page = context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.complaints: list[str] = []
        self.page.on("console", self._listen)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _listen(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def sign_in(self, caller: Caller) -> Page:
        """The page of the jobs."""
        self.page.goto(link(caller))
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url(f"{caller.api.url}/")
        return self.page

    def picture(self, name: str) -> None:
        """Keep a picture of the page where PICTURES says, light and dark, of a desktop and of a phone."""
        directory = os.environ.get("PICTURES")
        if directory is None:
            return
        for size, (width, height) in {"desktop": DESKTOP, "phone": PHONE}.items():
            self.page.set_viewport_size({"width": width, "height": height})
            for scheme in ("light", "dark"):
                self.page.emulate_media(color_scheme=scheme)
                self.page.screenshot(path=Path(directory) / f"{name}-{size}-{scheme}.png", full_page=size == "phone")
        self.page.set_viewport_size({"width": DESKTOP[0], "height": DESKTOP[1]})


@pytest.fixture
def window(browser: Browser) -> Iterator[Window]:
    """A window of a new visitor; at the end nothing may have been complained of, such as a broken policy."""
    context = browser.new_context(viewport={"width": DESKTOP[0], "height": DESKTOP[1]})
    window = Window(context)
    yield window
    context.close()
    assert window.complaints == []
