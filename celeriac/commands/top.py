"""`celeriac top`: workers, queues and jobs on a full screen."""

from __future__ import annotations

import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from celeriac.client import ApiError, Client
from celeriac.client.answers import Job, Stats
from celeriac.commands.jobs import says
from celeriac.commands.lists import QUEUES, WORKERS
from celeriac.commands.screen import COLORS, Columns, Screen, as_text, console, lasted
from celeriac.commands.watching import now

MOST_ROWS = 20  # of workers and of queues
HEAD = 6  # lines of a screen that are no jobs
WIDE = 80  # columns of a terminal with room for all that is said of a job
WIDEST_TYPE = 24  # columns
QUIT = ("q", "\x1b")


def run_top(client: Client, screen: Screen, every: float) -> None:
    """Show it until somebody has enough. Raises UsageError without a terminal."""
    if not screen.is_terminal or not sys.stdin.isatty():
        raise click.UsageError("top needs a terminal: take `celeriac stats`, `jobs` or `events` instead.")
    drawn = console()
    with _keys() as pressed, Live(console=drawn, screen=True, auto_refresh=False) as live:
        while True:
            live.update(_picture(client, drawn.height, drawn.width), refresh=True)
            if _enough(pressed, every):
                return


def _picture(client: Client, height: int, width: int) -> RenderableType:
    try:
        stats, jobs = client.stats(), client.recent(limit=100)
    except ApiError as error:
        return Group(Text(f"Celeriac  {now()}", "bold"), Text(str(error), "red"))
    parts: list[RenderableType] = [_head(stats)]
    # Of operators alone; whoever is none sees the jobs.
    for columns, read in ((WORKERS, client.workers), (QUEUES, client.queues)):
        try:
            rows = list(islice(read(), MOST_ROWS))
        except ApiError as error:
            if error.code != "permission_missing":
                parts.append(Text(str(error), "red"))
            continue
        parts += [_table(columns, rows), Text("")]
        height -= len(rows) + 2
    parts.append(_jobs(jobs[: max(1, height - HEAD)], width))
    return Group(*parts)


def _head(stats: Stats) -> RenderableType:
    line = Text(f"Celeriac  {now()}   ", "bold")
    for status, count in stats.by_status.items():
        line.append(f"{status} ", "dim")
        line.append(f"{count}   ", COLORS[status] if count else "dim")
    line.append(f"oldest {lasted(stats.oldest_pending_age_ms) or '-'}   q: quit", "dim")
    return Group(line, Text(""))


def _table(columns: Columns, rows: list[Any]) -> RenderableType:
    table = Table(*columns, box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*[as_text(of(row)) for of in columns.values()])
    return table


def _jobs(jobs: tuple[Job, ...], width: int) -> RenderableType:
    columns = _columns(width)
    rest = Column("says", ratio=1, no_wrap=True, overflow="ellipsis")  # what the others leave
    table = Table(*tuple(columns)[:-1], rest, box=None, header_style="dim", pad_edge=False, expand=True)
    for job in jobs:
        table.add_row(*[of(job) for of in columns.values()])
    return table


def _columns(width: int) -> Mapping[str, Callable[[Job], RenderableType]]:
    """What is shown of jobs: in a narrow terminal less, so that each of it can be read."""
    # The end of an id: its beginning is the time, the same for all that were made together.
    first: dict[str, Callable[[Job], RenderableType]] = {
        "job": lambda job: as_text(str(job.id)[-12:]),
        "type": lambda job: as_text(job.job_type, widest=WIDEST_TYPE if width >= WIDE else width // 4),
        "status": lambda job: as_text(job.status),
    }

    def said(job: Job) -> RenderableType:
        return as_text(says(job) or (job.hold and f"waits: {job.hold.replace('_', ' ')}"), widest=None)

    if width < WIDE:
        return {**first, "says": said}
    return {
        **first,
        "": lambda job: ProgressBar(100, job.progress, width=12),
        "attempt": lambda job: as_text(f"{job.attempt}/{job.max_retries + 1}"),
        "took": lambda job: as_text(lasted(job.duration_ms)),
        "says": said,
    }


@contextmanager
def _keys() -> Iterator[int]:
    """The terminal, whose keys come one by one and are not shown."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield descriptor
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _enough(descriptor: int, within: float) -> bool:
    """Whether somebody has pressed a key that ends it, in this time."""
    deadline = time.monotonic() + within
    while (rest := deadline - time.monotonic()) > 0:
        if select.select([descriptor], [], [], rest)[0] and sys.stdin.read(1) in QUIT:
            return True
    return False
