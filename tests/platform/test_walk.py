"""The way of a new user, from the wheel to a failure that is mended, in Chromium; a picture of each step is kept.

The pictures lie in build/walk, or where WALK says, for continuous integration to keep them.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.api.dashboard import conftest as dashboards
from tests.api.dashboard.conftest import DESKTOP, PHONE, Window
from tests.live import eventually
from tests.platform import test_wheel as wheels
from tests.platform.test_wheel import Installed

browser, installed = dashboards.browser, wheels.installed

PICTURES = Path(os.environ.get("WALK") or Path(__file__).parents[2] / "build" / "walk")
PATIENCE = 60_000  # milliseconds for a page, on a busy machine
START = 120  # seconds
# What somebody adds who wants to see a job run: its words are counted one after the other.
COUNTING = '        words = re.findall(r"\\w+", payload.text)\n'
SLOWLY = f"""{COUNTING}\
        for number, word in enumerate(words, 1):
            self.progress(50 * number // len(words), f"{{word}}, {{number}} of {{len(words)}}")
            time.sleep(0.4)
"""


class Platform:
    """What the new user runs in a directory of theirs, and what it prints."""

    def __init__(self, installed: Installed, home: Path) -> None:
        self.home = home
        self._installed = installed
        self._printed = home / "up.txt"

    def say(self, name: str, *command: str) -> str:
        """What a command prints, which is kept as a picture of its kind."""
        ended = self._installed.run(*command, within=self.home, HOME=str(self.home))
        assert ended.returncode == 0, ended.stdout + ended.stderr
        keep(name, f"$ {' '.join(command)}\n{ended.stdout}")
        return ended.stdout

    def obey_readme(self) -> None:
        """Run what the README of the project says beside `up`: all but the tests, and `up` itself."""
        block = re.findall(r"```sh\n(.*?)```", (self.home / "jobs" / "README.md").read_text(), re.DOTALL)[0]
        commands = [line for line in block.splitlines() if line.startswith("celeriac ") and "celeriac up" not in line]
        assert len(commands) == 2
        for line in commands:
            ended = self._installed.run(*shlex.split(line), within=self.home / "jobs", HOME=str(self.home))
            assert ended.returncode == 0, ended.stdout + ended.stderr

    def up(self) -> subprocess.Popen[bytes]:
        """`celeriac up`, which stays."""
        command = ("celeriac", "up", "--imports", "handlers", "--port", "0")
        with self._printed.open("wb") as printed:
            return subprocess.Popen(
                (self._installed.programs / command[0], *command[1:]),
                cwd=self.home / "jobs",
                env={"PATH": "/usr/bin:/bin", "HOME": str(self.home)},
                stdout=printed,
                stderr=subprocess.STDOUT,
            )

    def printed(self) -> str:
        """What `celeriac up` has printed so far."""
        return self._printed.read_text()

    def link(self) -> str:
        """The link that signs in once."""
        pattern = re.compile(r"http\S+ticket=\S+")
        found: re.Match[str] = eventually(lambda: pattern.search(self.printed()), within=START, what="the link")
        return found[0]


class Walk:
    """One who walks: a window of some width, and the pictures of what it shows."""

    def __init__(self, browser: Browser, width: str) -> None:
        is_phone = width == "phone"
        size = dict(zip(("width", "height"), PHONE if is_phone else DESKTOP, strict=True))
        self.context = browser.new_context(viewport=size, is_mobile=is_phone, has_touch=is_phone)  # type: ignore[arg-type]  # a dict
        self.window = Window(self.context)
        self.page = self.window.page
        self.page.set_default_timeout(PATIENCE)
        self._width, self._size, self._steps = width, size["width"], 0

    def picture(self, name: str) -> None:
        """Keep what is shown; nothing of it is wider than the window."""
        self._steps += 1
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=PICTURES / f"{self._width}-{self._steps:02}-{name}.png")
        assert self.page.evaluate("document.documentElement.scrollWidth") <= self._size, name

    def make(self, text: str) -> None:
        """Have the words of a text counted, from the first page on."""
        self.page.get_by_role("link", name="Jobs", exact=True).first.click()
        self.page.get_by_role("link", name="New job").click()
        self.page.locator("select[name=type]").select_option("count_words")
        self.page.get_by_role("button", name="Go on").click()
        self.page.get_by_label("text").fill(text)
        self.picture("new-job")
        self.page.get_by_role("button", name="Make the job").click()
        self.page.wait_for_url("**/jobs/*")

    def expect(self, status: str) -> None:
        """The page of a job says so, by itself."""
        expect(self.page.locator("h1 + .badge")).to_have_text(status, timeout=PATIENCE)


def keep(name: str, text: str) -> None:
    """Keep what a terminal shows, without what signs in."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    (PICTURES / f"terminal-{name}.txt").write_text(re.sub(r"ticket=\S+", "ticket=…", text))


@pytest.fixture(scope="module")
def platform(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A new project and its platform, which has brought its own servers; afterwards nothing is left of it."""
    found = Platform(installed, tmp_path_factory.mktemp("w"))  # a short one: sockets lie below it
    found.say("1-init", "celeriac", "init", "jobs")
    handlers = found.home / "jobs" / "handlers.py"
    text = handlers.read_text()
    assert text.count(COUNTING) == 1
    handlers.write_text(text.replace(COUNTING, SLOWLY).replace("import re\n", "import re\nimport time\n"))
    running = found.up()
    try:
        yield found
        found.obey_readme()
    finally:
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 0, found.printed()
        keep("2-up", found.printed())
        found.say("3-remove", "celeriac", "data", "remove", "--yes", "jobs/.celeriac")


@pytest.fixture(params=["desktop", "phone"])
def walk(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Walk]:
    """Whoever walks, at a desk or with a phone; their browser complains of nothing."""
    walking = Walk(browser, request.param)
    yield walking
    walking.context.close()
    assert walking.window.complaints == []


def sign_in(walk: Walk, platform: Platform) -> None:
    """By the link, and once it is spent with a token: the link is gone, and the page says what to do then."""
    link = platform.link()
    walk.page.goto(link)
    walk.picture("link")
    walk.page.get_by_role("button", name="Sign in").click()
    walk.page.locator("#live, #token").first.wait_for()
    if walk.page.get_by_label("Token").is_visible():
        walk.picture("spent")
        token = ("celeriac", "token", "--organization", "default", "--user", "you", "--admin")
        made = platform._installed.run(*token, within=platform.home / "jobs", CELERIAC_IMPORTS="handlers")
        walk.page.get_by_label("Token").fill(made.stdout)
        walk.page.get_by_role("button", name="Sign in").click()
        walk.window.complaints.clear()  # of the 401, which was meant
    walk.page.locator("#live").wait_for()
    walk.picture("jobs")


def test_a_new_user_mends_a_failure(walk: Walk, platform: Platform) -> None:
    """From the printed link on: a job is made, watched live, another fails, says why, and runs with another payload."""
    sign_in(walk, platform)
    walk.make("to be or not to be that is the question")
    progress = walk.page.locator(".running-now")
    expect(progress).to_contain_text("of 10", timeout=PATIENCE)
    walk.picture("live")
    before = progress.inner_text()
    expect(progress).not_to_have_text(before, timeout=PATIENCE)  # by itself
    walk.expect("succeeded")
    walk.picture("succeeded")

    walk.make("?!")
    walk.expect("failed")
    expect(walk.page.get_by_label("Why", exact=True)).to_contain_text("ValueError: there is no word in the text")
    expect(walk.page.get_by_role("region", name="Traceback")).to_contain_text("handlers.py")
    walk.picture("failed")
    eventually(lambda: "ValueError: there is no word in the text" in platform.printed(), what="the failure at `up`")

    walk.page.get_by_role("link", name="Retry with another payload").click()
    text = walk.page.get_by_label("text")
    expect(text).to_have_value("?!")
    text.fill("now there are words")
    walk.page.get_by_role("button", name="Show what changes").click()
    changes: Any = walk.page.locator("#changes")
    expect(changes).to_contain_text("now there are words")
    walk.picture("what-changes")
    changes.get_by_role("button", name="Make the new job").click()
    walk.page.wait_for_url("**/jobs/*")
    walk.expect("succeeded")
    walk.picture("mended")
    walk.page.get_by_role("link", name="Jobs", exact=True).first.click()
    walk.page.locator("#live").wait_for()
    walk.picture("jobs-at-the-end")
