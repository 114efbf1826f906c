"""`make pictures`: the pictures of the README, of a real run: a terminal as SVG, and the page of the jobs in Chromium.

A project is made as `celeriac init` makes it, `celeriac up` runs it, and what is shown is what its commands print and
what its dashboard shows after some minutes of work. Commands run in a pseudo-terminal: they print colours to nothing
else.
"""

from __future__ import annotations

import itertools
import os
import pty
import random
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from playwright.sync_api import sync_playwright
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from celeriac.client import Client

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
PROGRAM = str(Path(sys.executable).with_name("celeriac"))
WIDTH = 116  # columns
SIZE = (1360, 1000)
READY_WITHIN = 120.0  # seconds
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
# rich's own format loads a font from elsewhere, which no picture of ours does.
FROM_ELSEWHERE = re.compile(r"@font-face \{\{.*?\}\}\s*", re.DOTALL)
UP, ERASE, HIDING = "\x1b[1A", "\x1b[2K", re.compile(r"\x1b\[\?25[hl]")  # what a terminal does beside showing
SHOP = '''"""What a shop has its workers do."""

import time

from celeriac import BaseModel, Job, app


class Order(BaseModel):
    """What was ordered."""

    number: int
    pieces: int = 12


@app.task(bind=True, pydantic=True, name="pack_order", public=True, max_retries=2)
def pack_order(self: Job, payload: Order) -> dict[str, int]:
    """Pack an order, piece by piece."""
    for piece in range(payload.pieces):
        self.progress(100 * piece // payload.pieces, f"Piece {piece} of {payload.pieces}")
        time.sleep(0.1)
    return {"parcels": 1 + payload.pieces // 20}


@app.task(bind=True, pydantic=True, name="charge_card", public=True, max_retries=3, autoretry_for=(OSError,))
def charge_card(self: Job, payload: Order) -> dict[str, str]:
    """Charge a card: its bank answers mostly."""
    with self.step("Ask the bank", 1, of=2):
        time.sleep(0.2)
        if payload.number % 7 == 0:
            raise ConnectionError("bank.internal:443 refused the connection")
    with self.step("Write it down", 2, of=2):
        time.sleep(0.1)
    return {"receipt": f"R-{payload.number:05}"}


@app.task(bind=True, pydantic=True, name="send_receipt", public=True, max_retries=0)
def send_receipt(self: Job, payload: Order) -> None:
    """Send a receipt, to whoever has an address."""
    if payload.number % 11 == 0:
        raise KeyError(f"order {payload.number} has no address of mail")
'''


@click.command()
@click.option("--minutes", default=12.0, show_default=True, help="Of work before the page is taken.")
def main(minutes: float) -> None:
    """Write docs/pictures anew."""
    with tempfile.TemporaryDirectory(prefix="celeriac-pictures-") as name:
        directory = Path(name)
        shown = Shown(directory)
        shown.run("init")
        (directory / "shop.py").write_text(SHOP)
        with running(directory) as (address, link):
            shown.say("celeriac up --imports handlers,shop", (directory / "up.log").read_text())
            record(shown)
            token = shown.quietly("token", "--organization", "default", "--user", "mara", "--admin").strip()
            with Client(address, token) as client:
                work(client, minutes)
                take(link, PICTURES / "jobs.png")
    click.echo(f"written: {PICTURES / 'terminal.svg'}, {PICTURES / 'jobs.png'}")


class Shown:
    """A terminal in which commands are run, and what it has shown."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lines = Text()

    def say(self, command: str, printed: str) -> None:
        """A command with what it printed."""
        self._lines.append("$ ", "bold green").append(f"{command}\n", "bold")
        self._lines.append_text(Text.from_ansi(settled(printed).rstrip())).append("\n\n")

    def run(self, *arguments: str) -> str:
        """Run a command of ours in a terminal; what it printed."""
        printed = bytearray()

        def read(descriptor: int) -> bytes:
            printed.extend(got := os.read(descriptor, 4096))
            return got

        with self._environment():
            pty.spawn(["/bin/sh", "-c", 'stty cols "$COLUMNS"; exec "$@"', "sh", PROGRAM, *arguments], read)
        self.say(shlex.join(["celeriac", *arguments]), printed.decode())
        return printed.decode()

    def quietly(self, *arguments: str) -> str:
        """Run one that is not shown."""
        with self._environment():
            return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, check=True).stdout

    def write(self, path: Path) -> None:
        """All of it as SVG."""
        with Path(os.devnull).open("w") as nowhere:
            console = Console(record=True, width=WIDTH, file=nowhere, force_terminal=True, color_system="truecolor")
            console.print(self._lines, soft_wrap=False)
        format_ = FROM_ELSEWHERE.sub("", CONSOLE_SVG_FORMAT)
        path.write_text(console.export_svg(title="celeriac", theme=MONOKAI, code_format=format_))

    @contextmanager
    def _environment(self) -> Iterator[None]:
        before, place = dict(os.environ), Path.cwd()
        os.environ |= {"TERM": "xterm-256color", "COLUMNS": str(WIDTH), "CELERIAC_IMPORTS": "handlers,shop"}
        os.chdir(self._directory)
        try:
            yield
        finally:
            os.chdir(place)
            os.environ.clear()
            os.environ.update(before)


def settled(printed: str) -> str:
    """What a terminal shows in the end of what was printed: a progress bar is drawn again and again in its place."""
    lines: list[str] = []
    for line in printed.replace("\r\n", "\n").split("\n"):
        if UP in line and lines:
            lines.pop()
        lines.append(HIDING.sub("", line.rpartition(ERASE)[2].replace(UP, "")))
    return "\n".join(lines).replace("\r", "")


@contextmanager
def running(directory: Path) -> Iterator[tuple[str, str]]:
    """The platform: its address, and the link that signs in once."""
    log = directory / "up.log"
    with log.open("w") as file:
        command = [PROGRAM, "up", "--imports", "handlers,shop", "--port", "0", "--concurrency", "2"]
        process = subprocess.Popen(command, cwd=directory, stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + READY_WITHIN
        while (link := re.search(r"http\S+ticket=\S+", log.read_text())) is None:
            if process.poll() is not None or time.monotonic() > deadline:
                raise click.ClickException(log.read_text())
            time.sleep(0.2)
        yield link[0].partition("/sign-in")[0], link[0]
    finally:
        process.terminate()
        process.wait()


def record(shown: Shown) -> None:
    """What somebody does first: a job that succeeds, one that fails, and why."""
    shown.run("submit", "count_words", "--payload", '{"text": "to be or not to be"}', "--operator", "--wait")
    failed = shown.run("submit", "count_words", "--payload", '{"text": " "}', "--operator", "--wait")
    job = re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22,}", failed)
    if job is not None:
        shown.run("explain", job[0], "--operator")
    shown.run("stats", "--operator")
    shown.write(PICTURES / "terminal.svg")


def work(client: Client, minutes: float) -> None:
    """Jobs now and then, as a shop has them; at the end more than its workers can do at once."""
    chance, until = random.Random(7), time.monotonic() + 60 * minutes
    numbers = itertools.count(1)
    while time.monotonic() < until:
        ask(client, chance, next(numbers))
        time.sleep(chance.uniform(0.2, 1.5))
    for _ in range(14):
        ask(client, chance, next(numbers))
    client.create("pack_order", {"number": next(numbers), "pieces": 100}, priority=8, project_id="q4-close")
    time.sleep(4)  # some of these have ended then, and the last one runs


def ask(client: Client, chance: random.Random, number: int) -> None:
    """Have one of the shop's jobs made."""
    kind = chance.choice(("pack_order", "charge_card", "charge_card", "send_receipt"))
    client.create(kind, {"number": number, "pieces": chance.randint(3, 30)}, priority=chance.choice((0, 0, 0, 5)))


def take(link: str, path: Path) -> None:
    """The page of the jobs, as whoever opens the link sees it."""
    program = next((found for name in CHROMIUM if (found := shutil.which(name))), None)
    if program is None:
        raise click.ClickException("no chromium on this machine: on Debian `apt-get install chromium`")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium has none as root
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        page = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]})
        page.goto(link)
        page.get_by_role("button", name="Sign in").click()
        page.locator("#live").wait_for()
        page.screenshot(path=path)
        browser.close()


if __name__ == "__main__":
    main()
