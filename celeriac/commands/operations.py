"""The removal of what is old enough to go, when an operator wants it, and the connection of such a command."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import click

from tasks.app import app as tasks
from tasks.platform import Platform
from tracking.db import Database, DBAPIError, is_locked
from tracking.retention import Kind, Policy, prune
from tracking.settings import settings
from tracking.thinning import Overtaken, next_to_thin, thin

PRUNE_BATCH = 500
PRUNE_TIMEOUT = 60  # seconds for each statement


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
    except Overtaken:
        click.echo("The leading worker removes the old weeks of the history.", err=True)
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


@contextmanager
def own_platform(patience: float) -> Iterator[Platform]:
    """The platform of the settings; at its end messages have `patience` seconds to go out. Workers send the others."""
    platform = Platform(tasks, settings())
    try:
        yield platform
    finally:
        platform.close(timeout=patience)
