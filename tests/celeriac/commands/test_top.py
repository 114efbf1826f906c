"""`celeriac top`: what it draws in terminals of all sizes, its keys, and an API that is away."""

from __future__ import annotations

import io
import re
import signal
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, ConsoleDimensions

from bench.chaos.proxy import Mode, Proxy, to_port
from celeriac.client.answers import Job, Stats
from celeriac.client.looking import Queue, Worker
from celeriac.commands.top_picture import Seen, picture
from tests.api.calling import EVERYTHING, Api, Caller
from tests.celeriac.commands.terminal import Terminal
from tests.celeriac.test_client import settle
from tracking.exit_status import Exit
from tracking.states import Status

AT = datetime(2026, 1, 1, tzinfo=UTC)
COUNTS: Mapping[str, Any] = dict.fromkeys(Stats.model_fields, 0)
JOB: Mapping[str, Any] = {
    **dict.fromkeys(Job.model_fields),
    "id": UUID(int=1),
    "dispatch": 1,
    "organization_id": "acme",
    "user_id": "u",
    "job_type": "export_report",
    "priority": 5,
    "attempt": 1,
    "retry_count": 0,
    "max_retries": 3,
    "payload": {},
    "metadata": {},
    "progress": 40,
    "total_steps": 6,
    "current_step": 4,
    "depends_on": (),
    "created_at": AT,
    "updated_at": AT,
    "status": Status.RUNNING,
    "message": "row after row is read, and this is more than a line",
}
WORKER = Worker.model_construct(
    name="celery-of-a-host-with-a-long-name@host", pid=4711, queues=("default", "maintenance", "webhooks"),
    concurrency=8, running=3, is_alive=True, started_at=AT, seen_at=AT,
)  # fmt: skip
QUEUE = Queue.model_construct(
    name="default", workers=1, slots=8, running=3, waiting=7, held=2, oldest_waiting_age_ms=61000, pause=None
)


SIZES = st.builds(ConsoleDimensions, st.integers(20, 200), st.integers(1, 60))


@given(
    size=SIZES, workers=st.integers(0, 100), queues=st.integers(0, 100), jobs=st.integers(0, 100), said=st.booleans()
)
def test_a_picture_fits_its_terminal(
    *, size: ConsoleDimensions, workers: int, queues: int, jobs: int, said: bool
) -> None:
    """A picture has no more lines than its terminal, however many workers, queues and jobs, and half are for jobs."""
    seen = Seen(
        time.monotonic(), Stats.model_construct(**COUNTS), (Job.model_construct(**JOB),) * jobs,
        (WORKER,) * workers, (QUEUE,) * queues, ("The API gave no answer",) * said,
    )  # fmt: skip
    drawn = Console(file=io.StringIO(), width=size.width, height=size.height)
    lines = drawn.render_lines(picture(seen, size, 2.0), pad=False)
    shown = ["".join(segment.text for segment in line) for line in lines]
    # A head that is longer than the terminal is cut off by the screen, and nothing else is drawn then.
    head = next((number for number, line in enumerate(shown) if not line.strip()), len(shown))
    assert len(shown) <= max(size.height, head + 1)
    if size.width >= 40:
        assert sum(str(JOB["id"])[-12:] in line for line in shown) >= min(jobs, (size.height - head - 1) // 2 - 1)


SHOWN, HIDDEN = "\x1b[?25h", "\x1b[?25l"  # the cursor
ENTERED, LEFT = "\x1b[?1049h", "\x1b[?1049l"  # a screen of the command's own


@pytest.fixture
def door(api: Api) -> Iterator[Proxy]:
    """A network before the API, which can fail."""
    with Proxy(to_port(urlsplit(api.url).port or 0)) as proxy:
        yield proxy


def test_top_shows_all_of_it_until_q(api: Api) -> None:
    """`top` shows counts, queues and jobs of an operator, follows what happens, and ends with a key."""
    caller = api.caller(permissions=(*EVERYTHING, "jobs.view_all"))
    job = caller.job("running")
    report = "a report of which no word is left out where there is room for all of it"
    caller.report(job, message=report)
    terminal = Terminal(caller, "top", "--every", "1s", columns=140)
    terminal.until(lambda shown: str(job.id)[-12:] in shown and "running 1" in shown and report in shown)
    assert re.search(r"queue +workers +slots", terminal.shown)
    settle(caller, job.id)
    terminal.until(lambda shown: "succeeded 1" in shown)
    terminal.press("q")
    assert terminal.end() == Exit.FINE
    assert "\x1b[?1049l" in terminal.raw  # the screen is as it was


def test_top_gives_the_terminal_back_while_it_is_stopped(caller: Caller) -> None:
    """Ctrl-Z leaves `top`'s screen and shows the cursor again, `fg` draws all of it anew."""
    job = caller.job()
    terminal = Terminal(caller, "top")
    terminal.until(lambda shown: str(job.id)[-12:] in shown)
    terminal.signal(signal.SIGTSTP)
    terminal.until(lambda _: str(job.id)[-12:] in terminal.raw.partition(f"{SHOWN}{LEFT}{ENTERED}{HIDDEN}")[2])
    terminal.press("q")
    assert terminal.end() == Exit.FINE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_top_leaves_its_screen_when_it_is_told_to_end(caller: Caller, number: signal.Signals) -> None:
    """A `top` that is ended by a signal leaves its screen and shows the cursor; a shell has the signal's status."""
    terminal = Terminal(caller, "top")
    terminal.until(lambda shown: "queued 0" in shown)
    terminal.signal(number)
    assert terminal.end() == 128 + number
    assert (SHOWN in terminal.raw, LEFT in terminal.raw) == (True, True)


def test_top_says_where_it_cannot_be_drawn(caller: Caller) -> None:
    """In a terminal that only appends, `top` says so at once; it would show nothing at all."""
    terminal = Terminal(caller, "top", term="dumb")
    assert terminal.end() == Exit.MISUSED
    assert "top needs a terminal to draw on" in terminal.shown


def test_top_in_a_narrow_terminal_says_how_jobs_are(caller: Caller) -> None:
    """In a narrow terminal `top` leaves columns out, and cuts off neither ids nor statuses."""
    job = caller.job("running")
    caller.report(job, message="Page 4")
    terminal = Terminal(caller, "top", columns=40)
    terminal.until(lambda shown: re.search(rf"{str(job.id)[-12:]} +open +running +Page 4", shown) is not None)
    terminal.press("q")
    assert terminal.end() == Exit.FINE


def test_top_goes_on_when_the_api_says_no(api: Api) -> None:
    """`top` of a caller who may not see jobs shows what the API said, instead of ending."""
    terminal = Terminal(api.caller(permissions=()), "top")
    terminal.until(lambda shown: "permission_missing" in shown)
    terminal.press("q")
    assert terminal.end() == Exit.FINE


def test_top_is_drawn_anew_when_its_terminal_has_another_size(api: Api) -> None:
    """A terminal that is made smaller shows `top` in its new size at once, not only with the next answer."""
    caller = api.caller(permissions=(*EVERYTHING, "jobs.view_all"))
    job = caller.job("running")
    terminal = Terminal(caller, "top", "--every", "1h", columns=140)
    terminal.until(lambda shown: str(job.id)[-12:] in shown and "progress" in shown)
    terminal.resize(10, 50)
    # In a narrow terminal, the status is followed by what the job says.
    terminal.until(lambda shown: re.search(rf"{str(job.id)[-12:]} +open +running +-\s", shown) is not None)
    terminal.press("q")
    assert terminal.end() == Exit.FINE


def pressed(caller: Caller, keys: str) -> Terminal:
    """A `top` that has shown its first answer, and seldom asks for another, in which somebody has pressed these."""
    terminal = Terminal(caller, "top", "--every", "1h")
    terminal.until(lambda shown: "running 0" in shown)
    terminal.press(keys)
    return terminal


@pytest.mark.parametrize("keys", ["\x1b[A", "\x1b[5~", "j"])
def test_no_arrow_ends_top(caller: Caller, keys: str) -> None:
    """A key that moves something elsewhere does not end `top`."""
    terminal = pressed(caller, keys)
    terminal.raw = ""
    terminal.until(lambda shown: shown.count("Celeriac") > 1)  # the clock goes on
    terminal.press("q")
    assert terminal.end() == Exit.FINE


@pytest.mark.parametrize("keys", ["\x1b", "xq", "Q"])
def test_these_keys_end_top(caller: Caller, keys: str) -> None:
    """Escape and q end `top`, also behind other keys, and the terminal is as it was."""
    terminal = pressed(caller, keys)
    assert terminal.end() == Exit.FINE
    assert "\x1b[?1049l" in terminal.raw


@pytest.mark.parametrize("mode", [Mode.REFUSE, Mode.BLACK_HOLE])
def test_top_says_that_the_api_is_away_and_ends_at_once(caller: Caller, door: Proxy, mode: Mode) -> None:
    """While the API gives no answer `top` says since when, shows what it knew, and a key ends it without a wait."""
    job = caller.job("running")
    terminal = Terminal(caller, "top", "--every", "1s", url=f"http://127.0.0.1:{door.port}")
    terminal.until(lambda shown: str(job.id)[-12:] in shown)
    door.switch(mode)
    terminal.until(lambda shown: "no answer for" in shown)
    terminal.raw = ""
    terminal.until(lambda shown: "no answer for" in shown and str(job.id)[-12:] in shown)
    pressed = time.monotonic()
    terminal.press("q")
    assert terminal.end() == Exit.FINE
    assert time.monotonic() - pressed < 6, "of ten seconds and more that a request takes"


def test_top_goes_on_when_the_api_is_back(caller: Caller, door: Proxy) -> None:
    """An API that comes back is followed again, and nothing more is said of its absence."""
    job = caller.job("running")
    terminal = Terminal(caller, "top", "--every", "1s", url=f"http://127.0.0.1:{door.port}")
    terminal.until(lambda shown: str(job.id)[-12:] in shown)
    door.switch(Mode.REFUSE)
    terminal.until(lambda shown: "no answer for" in shown)
    settle(caller, job.id)
    door.switch(Mode.OPEN)
    terminal.until(lambda shown: "succeeded 1" in shown and "no answer" not in shown.rpartition("Celeriac")[2])
    terminal.press("q")
    assert terminal.end() == Exit.FINE
