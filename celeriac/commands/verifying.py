"""`celeriac verify`: are the invariants kept, told to people and to programs, and how far it is."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from celeriac.commands.operations import connected
from tracking.admission.rule import Limits
from tracking.db import Database
from tracking.reads.invariants import Finding, Position, count_jobs, verify
from tracking.retention import Policy
from tracking.settings import settings

MARGIN = 10  # seconds that we wait for the database's own time-out


def run_verify(timeout: int, since: timedelta | None, resume: Path | None, *, as_json: bool) -> bool:
    """Check and print every invariant. True when all of them hold.

    `timeout` is in seconds, for each statement. `since`: only jobs that have changed in that time. `resume`: where it
    is written how far it is; it goes on from what is there, and removes the file when all jobs have been looked at.
    """
    with connected(timeout + MARGIN) as database, _progress(database) as show:

        def note(position: Position) -> None:
            show(position)
            _write(resume, position)

        findings = verify(
            database,
            Limits.configured(settings()),
            kept=Policy.configured(settings()).of_most,
            since=None if since is None else datetime.now(UTC) - since,
            begin=_read(resume),
            show=note,
            timeout=timedelta(seconds=timeout),
        )
        return _print_json(findings) if as_json else _print_table(findings)


@contextmanager
def _progress(database: Database) -> Iterator[Callable[[Position], None]]:
    """On a terminal, a bar that goes away; otherwise nothing is shown."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("Jobs", total=count_jobs(database))
        yield lambda position: bar.update(task, completed=position.jobs)


def _read(resume: Path | None) -> Position | None:
    """How far an earlier run was. Raises BadParameter for a file that no run has written."""
    if resume is None or not resume.exists():
        return None
    try:
        said = json.loads(resume.read_text())
        found = {str(name): (int(count), tuple(map(str, ids))) for name, (count, ids) in said["found"].items()}
        return Position(UUID(said["nextId"]), int(said["jobs"]), found)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise click.BadParameter(f"{resume} does not say how far a verification was") from None


def _write(resume: Path | None, position: Position) -> None:
    if resume is None:
        return
    if position.next_id is None:
        resume.unlink(missing_ok=True)
        return
    beside = resume.with_name(f"{resume.name}.new")
    said = {"nextId": str(position.next_id), "jobs": position.jobs, "found": position.found}
    beside.write_text(json.dumps(said))
    beside.replace(resume)


def _print_json(findings: Iterator[Finding]) -> bool:
    found = list(findings)
    click.echo(json.dumps([{**dataclasses.asdict(finding), "holds": finding.holds} for finding in found], indent=2))
    return all(finding.holds for finding in found)


def _print_table(findings: Iterator[Finding]) -> bool:
    console = Console()
    if not console.is_terminal:
        return _print_lines(findings)
    found = list(findings)
    table = Table("", "check", "#", "what must be true", "violations", box=SIMPLE_HEAD)
    for finding in found:
        verdict = Text(_verdict(finding), "green" if finding.holds else "red", no_wrap=True)
        name = Text(finding.name, no_wrap=True)
        table.add_row(verdict, name, str(finding.guarantee), finding.sentence, _violations(finding))
    console.print(table)
    for finding in found:
        for example in finding.examples:
            console.print(f"{finding.name}: {example}", markup=False, highlight=False, soft_wrap=True)
    return all(finding.holds for finding in found)


def _print_lines(findings: Iterator[Finding]) -> bool:
    well = True
    for finding in findings:
        examples = f" For example: {', '.join(finding.examples)}" if finding.examples else ""
        click.echo(
            f"{_verdict(finding):<9}  {_violations(finding):>9}  {finding.name:<12}  "
            f"({finding.guarantee}) {finding.sentence}{examples}"
        )
        well = well and finding.holds
    return well


def _verdict(finding: Finding) -> str:
    if finding.violations is None:
        return "timed out"
    return "ok" if finding.holds else "broken"


def _violations(finding: Finding) -> str:
    return "?" if finding.violations is None else str(finding.violations)
