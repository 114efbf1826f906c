"""What an operator asks of the database: are the invariants kept, and which jobs are old enough to go."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tracking.admission.rule import Limits
from tracking.db import Database, DBAPIError, is_locked
from tracking.reads.invariants import Finding, verify
from tracking.retention import Kind, Policy, prune
from tracking.settings import settings
from tracking.thinning import next_to_thin, thin

PRUNE_BATCH = 500
PRUNE_TIMEOUT = 60  # seconds for each statement
MARGIN = 10  # seconds that we wait for the database's own time-out


def run_verify(timeout: int, *, as_json: bool) -> bool:
    """Check and print every invariant; `timeout` is in seconds and for each. True when all of them hold."""
    with connected(timeout + MARGIN) as database:
        limits = Limits.configured(settings())
        findings = verify(database, limits, timeout=timedelta(seconds=timeout))
        return _print_json(findings) if as_json else _print_table(findings)


def run_prune(*, dry_run: bool) -> None:
    """Remove what is older than the settings keep it, and print how many jobs of each status and type that were.

    `dry_run` only counts.
    """
    policy = Policy.configured(settings())
    removed: Counter[Kind] = Counter()
    groups, more = 0, True
    with connected(PRUNE_TIMEOUT) as database:
        while more:
            with database.begin() as connection:
                batch = prune(connection, policy, limit=None if dry_run else PRUNE_BATCH, dry_run=dry_run)
            removed.update(batch.jobs)
            groups, more = groups + batch.groups, batch.more
        if not dry_run:
            _thin(database, policy)
    for kind, count in sorted(removed.items(), key=lambda item: (item[0].status, item[0].job_type)):
        click.echo(f"{count:>9}  {kind.status:<9}  {kind.job_type}")
    click.echo(f"{'Would remove' if dry_run else 'Removed'} {removed.total()} jobs and {groups} groups.")


def _thin(database: Database, policy: Policy) -> None:
    """Remove the weeks of the history of which most jobs are gone, as the leader does."""
    try:
        while True:
            with database.autocommit() as connection:
                partition = next_to_thin(connection, policy.of_most, policy.longest)
            if partition is None:
                return
            for _ in thin(database, partition):
                pass
    except DBAPIError as error:
        if not is_locked(error):
            raise
        click.echo("Somebody reads the history now: the leading worker removes its old weeks later.", err=True)


@contextmanager
def connected(statement_timeout: int) -> Iterator[Database]:
    """The database of the settings; `statement_timeout` is in seconds. Raises ConfigurationError without one."""
    database = Database(
        settings().database, settings().model_copy(update={"statement_timeout": statement_timeout}), pool_size=1
    )
    try:
        yield database
    finally:
        database.close()


def _print_json(findings: Iterator[Finding]) -> bool:
    found = list(findings)
    click.echo(json.dumps([{**dataclasses.asdict(finding), "holds": finding.holds} for finding in found], indent=2))
    return all(finding.holds for finding in found)


def _print_table(findings: Iterator[Finding]) -> bool:
    console = Console()
    if not console.is_terminal:
        return _print_lines(findings)
    with console.status("Checking …"):
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
