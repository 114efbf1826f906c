"""What `celeriac top` draws: as much of it as the terminal has room for, a line each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleDimensions, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from celeriac.client.answers import Job, Stats
from celeriac.client.looking import Queue, Worker
from celeriac.commands.jobs import says
from celeriac.commands.lists import QUEUES, WORKERS
from celeriac.commands.screen import COLORS, Columns, as_text, lasted, span
from celeriac.commands.watching import now

MOST_ROWS = 100  # of workers and of queues
AROUND = 2  # lines of a table of workers or queues that are none: its head, and an empty one
WIDE = 80  # columns of a terminal with room for all that is said
WIDEST_TYPE = 24  # columns
SAYS = "says"
LATE = 3.0  # seconds beyond its time that a look takes before that is said
NARROW_WORKERS = {name: WORKERS[name] for name in ("worker", "is", "running", "seen")}
NARROW_QUEUES = {name: QUEUES[name] for name in ("queue", "running", "waiting", "held", "oldest")}

Cells = Mapping[str, Callable[[Any], RenderableType]]


@dataclass(frozen=True)
class Seen:
    """What the last look that was answered has found, `at` by the monotonic clock; `stats` None: there was none yet.

    `troubles`: what the API has said instead of an answer since.
    """

    at: float
    stats: Stats | None = None
    jobs: tuple[Job, ...] = ()
    workers: tuple[Worker, ...] = ()
    queues: tuple[Queue, ...] = ()
    troubles: tuple[str, ...] = ()


def picture(seen: Seen, size: ConsoleDimensions, every: float) -> RenderableType:
    """All of it; never more lines than the terminal has. Half of them are for jobs, if there are so many."""
    width, height = size
    head = _head(seen, every)
    parts: list[RenderableType] = [head, Text("")]
    rest = height - len(head.wrap(Console(width=width), width)) - 1
    left = max(rest // 2, rest - len(seen.jobs) - 1)
    wide = width >= WIDE
    tables: list[tuple[Columns, Sequence[Any]]] = [
        (WORKERS if wide else NARROW_WORKERS, seen.workers),
        (QUEUES if wide else NARROW_QUEUES, seen.queues),
    ]
    for number, (columns, rows) in enumerate(tables):
        lines = min(len(rows), left // (len(tables) - number) - AROUND)
        if lines > 0:
            parts += [_table(_one_line_each(columns), rows[:lines], of=len(rows)), Text("")]
            left, rest = left - lines - AROUND, rest - lines - AROUND
    if seen.stats is not None and rest > 1:
        shown = seen.jobs[: rest - 1]
        parts.append(_table(_of_jobs(width), shown, of=len(shown)))
    return Group(*parts)


def _head(seen: Seen, every: float) -> Text:
    line = Text(f"Celeriac  {now()}   ", "bold")
    if seen.stats is not None:
        for status, count in seen.stats.by_status.items():
            line.append(f"{status} ", "dim")
            line.append(f"{count}   ", COLORS[status] if count else "dim")
        line.append(f"oldest {lasted(seen.stats.oldest_pending_age_ms) or '-'}   ", "dim")
    line.append("q: quit", "dim")
    silent = time.monotonic() - seen.at
    if silent > every + LATE:
        line.append(f"\nno answer for {span(silent)}", "bold red")
    for trouble in seen.troubles:
        line.append(f"\n{trouble}", "red")
    return line


def _table(cells: Cells, rows: Sequence[Any], *, of: int) -> RenderableType:
    """Rows under a head that says `of` how many, where there are more; what jobs say gets the room that is left."""
    first, *others = cells
    heads = [first if of == len(rows) else f"{first} ({len(rows)} of {of})", *others]
    columns = [Column(_line(head), ratio=1 if head == SAYS else None) for head in heads]
    table = Table(*columns, box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0), expand=SAYS in cells)
    for row in rows:
        table.add_row(*[of_row(row) for of_row in cells.values()])
    return table


def _one_line_each(columns: Columns) -> Cells:
    return {name: _in_a_line(of) for name, of in columns.items()}


def _in_a_line(of: Callable[[Any], Any]) -> Callable[[Any], Text]:
    return lambda row: _line(as_text(of(row)))


def _line(said: str | Text) -> Text:
    """Never more than a line, be it ever so narrow."""
    text = Text(said) if isinstance(said, str) else said
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _of_jobs(width: int) -> Cells:
    """What is shown of jobs: in a narrow terminal less, so that each of it can be read."""
    # The end of an id: its beginning is the time, the same for all that were made together.
    first: dict[str, Callable[[Job], RenderableType]] = {
        "job": lambda job: _line(str(job.id)[-12:]),
        "type": lambda job: _line(as_text(job.job_type, widest=WIDEST_TYPE if width >= WIDE else width // 4)),
        "status": lambda job: _line(as_text(job.status)),
    }

    def said(job: Job) -> RenderableType:
        return _line(as_text(says(job) or (job.hold and f"waits: {job.hold.replace('_', ' ')}"), widest=None))

    if width < WIDE:
        return {**first, SAYS: said}
    return {
        **first,
        "progress": lambda job: ProgressBar(100, job.progress, width=12),
        "attempt": lambda job: _line(f"{job.attempt}/{job.max_retries + 1}"),
        "took": lambda job: _line(as_text(lasted(job.duration_ms))),
        SAYS: said,
    }
