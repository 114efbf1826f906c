"""What the demo shows: lines that stay and, on a terminal, a picture below them that moves."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from celeriac.client.answers import Job, JobStatus, Stats

FRAMES_PER_SECOND = 10
QUIET = 2.0  # seconds between two plain lines
BAR = 32  # columns
SMALL_BAR = 12
COLORS = {"queued": "yellow", "running": "cyan", "retrying": "magenta", "succeeded": "green", "failed": "red"}


class Screen:
    """Where the demo writes. Only a terminal gets pictures; `say` is for everybody."""

    def __init__(self) -> None:
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a tick is not worth a crash
        self._console = Console(highlight=False, markup=False, emoji=False, soft_wrap=False)
        self.moves = sys.stdout.isatty() and not self._console.is_dumb_terminal
        self._live = Live(console=self._console, transient=True, refresh_per_second=FRAMES_PER_SECOND)
        self._last, self._next = "", 0.0

    def __enter__(self) -> Self:
        if self.moves:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, *lines: RenderableType) -> None:
        for line in lines:
            # A line of a file, a log or a command is never broken; words are, where there is somebody to read them.
            self._console.print(line, soft_wrap=isinstance(line, str) or not self.moves)

    def show(self, picture: RenderableType, words: str) -> None:
        """Show a picture in place of the last one; without a terminal `words`, when they are news."""
        if self.moves:
            self._live.update(picture, refresh=True)
        elif words and words != self._last and time.monotonic() >= self._next:
            self._last, self._next = words, time.monotonic() + QUIET
            self.say(words)

    def clear(self) -> None:
        self.show("", "")


def good(text: str) -> Text:
    """A line about something that went well."""
    return Text.assemble(("\N{CHECK MARK} ", "bold green"), text)


def bad(text: str) -> Text:
    """A line about something that did not."""
    return Text.assemble(("\N{BALLOT X} ", "bold red"), text)


def waiting(text: str) -> RenderableType:
    """A line about something that takes a moment."""
    return Spinner("dots", Text(f" {text}"), style="cyan")


def counts(stats: Stats) -> Text:
    """How many jobs are in which status; what is none is left out."""
    words = [Text(f"{count} {name}", COLORS.get(name, "")) for name, count in stats.by_status.items() if count]
    return Text("  ").append(Text(" \N{MIDDLE DOT} ").join(words))


def jobs_picture(created: int, total: int, stats: Stats, running: Sequence[Job], seconds: float) -> RenderableType:
    """Two bars, the counts, and the jobs that run now."""
    bars = _grid()
    bars.add_row("created", _bar(created, total), f"{created} of {total}", "")
    bars.add_row(
        "finished",
        _bar(stats.finished, total),
        f"{stats.finished} of {total}",
        f"{stats.finished / seconds:.0f} a second",
    )
    now = _grid()
    now.add_column(min_width=15)  # the longest name: the columns stay where they are
    for job in running:
        bar = ProgressBar(100, job.progress, width=SMALL_BAR)
        now.add_row(job.job_type, f"priority {job.priority}", bar, f"{job.progress:2} %", job.message or "")
    return Group("", bars, counts(stats), now)


def export_picture(status: JobStatus, steps: Sequence[str]) -> RenderableType:
    """A bar, and the steps of a job."""
    bar = _grid()
    bar.add_row(status.job.job_type, _bar(status.progress, 100), f"{status.progress} %")
    return Group("", bar, step_list(status.job, steps))


def step_list(job: Job, steps: Sequence[str]) -> Text:
    """The names of the steps, each with its mark: over, on, or to come."""
    marked = [Text(f"{_mark(job, number)} {name}") for number, name in enumerate(steps, start=1)]
    return Text("  ").append(Text("  ").join(marked))


def _mark(job: Job, step: int) -> str:
    if step < job.current_step or (step == job.current_step and job.is_finished):
        return "\N{CHECK MARK}"
    return "\N{BLACK CIRCLE}" if step == job.current_step else "\N{MIDDLE DOT}"


def table(rows: Sequence[dict[str, str]], columns: Sequence[str]) -> Table:
    """Some columns of some rows."""
    drawn = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        drawn.add_row(*(Text(row[column], COLORS.get(row[column], ""), overflow="ellipsis") for column in columns))
    return drawn


def waits_table(waits: Sequence[tuple[int, float]]) -> Table:
    """The seconds waited by each priority."""
    drawn = _grid()
    drawn.add_row("priority", *(str(priority) for priority, _ in waits))
    drawn.add_row("seconds", *(f"{seconds:.1f}" for _, seconds in waits))
    return drawn


def _grid() -> Table:
    return Table(box=None, show_header=False, show_edge=True, padding=(0, 0, 0, 2), pad_edge=True)


def _bar(done: int, total: int) -> ProgressBar:
    return ProgressBar(total, done, width=BAR)
