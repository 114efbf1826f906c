"""A job on its way, and events as they come, for a terminal and for a pipe."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

import click

from celeriac.client import Client, Event
from celeriac.client.answers import Job, JobStatus
from celeriac.commands.jobs import says
from celeriac.commands.lending import HIDE_CURSOR, SHOW_CURSOR, lent, obey
from celeriac.commands.screen import COLORS, Screen, clean, clean_lines, console, in_a_line, lasted
from tracking.exit_status import Exit
from tracking.states import Status

OUTCOMES = {Status.SUCCEEDED: Exit.FINE, Status.FAILED: Exit.FAILED, Status.CANCELLED: Exit.CANCELLED}
QUIET = 1.0  # seconds without an event that end what does not follow
MOST_READ_AHEAD = 1000  # events


def watch_job(client: Client, screen: Screen, job_id: UUID, within: float) -> Exit:
    """Show a job until it has ended. Returns how; raises ApiError "too_late" after `within` seconds."""
    last: JobStatus | None = None
    for status in _shown(screen, client.watch(job_id, within=within)):
        last = status
    if last is None:
        raise RuntimeError("a watch ends with the end of its job")
    _say_end(screen, last.job)
    return OUTCOMES[last.job.status]


def print_events(screen: Screen, stream: Iterator[Event], *, follows: bool) -> None:
    """Print events as they come."""
    for event in stream if follows else _until_quiet(stream):
        if screen.as_json:
            click.echo(json.dumps({"id": event.id, "event": event.name, "data": event.data}))
            continue
        subject = f"{event.name.partition(':')[0]}Id"  # jobId, workflowId or scheduleId
        rest = {name: value for name, value in event.data.items() if name != subject}
        said = json.dumps(rest, ensure_ascii=False) if rest else "-"
        click.echo(f"{event.id}\t{event.name}\t{event.data.get(subject, '-')}\t{clean(said)}")


def _shown(screen: Screen, statuses: Iterator[JobStatus]) -> Iterator[JobStatus]:
    """The same, each shown as it comes."""
    if not screen.is_drawn_on:
        for status in statuses:
            if screen.as_json:
                screen.json(status)
            else:
                click.echo("\t".join(_words(status)))
            yield status
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415 - a pipe does without

    columns = (
        SpinnerColumn(),
        TextColumn("{task.fields[status]:<9}", markup=False),
        BarColumn(40),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    lending = lent(partial(obey, SHOW_CURSOR), partial(obey, HIDE_CURSOR))
    with lending, Progress(*columns, console=console(), transient=True) as bar:
        task = bar.add_task("", total=100, status="")
        for status in statuses:
            bar.update(task, completed=status.progress, status=status.job.status, description=_said(status.job))
            yield status


def _words(status: JobStatus) -> tuple[str, ...]:
    job = status.job
    return str(job.id), str(job.status), f"{status.progress}", _said(job) or "-"


def _said(job: Job) -> str:
    return clean(says(job) or (f"held: {job.hold}" if job.hold else ""))


def _say_end(screen: Screen, job: Job) -> None:
    if not screen.is_terminal:
        return
    from rich.text import Text  # noqa: PLC0415 - as above

    took = lasted(job.duration_ms)
    head = Text(str(job.status), COLORS[job.status])
    head.append(f"  {job.job_type}  {job.id}{f'  in {took}' if took else ''}", "dim")
    screen.print(head)
    if job.error_message:
        click.echo(clean_lines(job.error_message))
    elif job.result is not None:
        lines = json.dumps(job.result, ensure_ascii=False, indent=2).split("\n")
        click.echo("\n".join(map(in_a_line, lines)))


def _until_quiet(stream: Iterator[Event]) -> Iterator[Event]:
    """The events up to the first second without one. The thread that reads them ends with the process."""
    came: queue.Queue[Event | BaseException] = queue.Queue(MOST_READ_AHEAD)

    def read() -> None:
        try:
            for event in stream:
                came.put(event)
        except BaseException as error:  # noqa: BLE001 - it is raised where the events are read
            came.put(error)

    threading.Thread(target=read, name="events", daemon=True).start()
    first = True
    while True:
        try:
            event = came.get(timeout=QUIET * 5 if first else QUIET)
        except queue.Empty:
            return
        if isinstance(event, BaseException):
            raise event
        first = False
        yield event


def now() -> str:
    """The time, for a head line."""
    return f"{datetime.now(UTC):%H:%M:%S} UTC"
