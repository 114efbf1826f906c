"""`python -m bench.scale`: fill a database, measure what grows with it, and say what is over its limit."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import click
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from bench.__main__ import progress_bars
from bench.latency import percentile
from bench.scale import backlogs, duties, removal
from bench.scale.fill import Size, fill
from bench.scale.reads import OPERATORS, PAGES, ROUTES, Answers, filled_api
from bench.scale.removal import Removal
from bench.servers import private_servers
from tracking.db import BY_INDEX, Database
from tracking.errors import ConfigurationError
from tracking.exit_status import Exit
from tracking.exits import StartError
from tracking.settings import settings

# Milliseconds, on a quiet machine of two processors.
READ_LIMIT = 25.0  # median, alone
OPERATOR_LIMIT = 250.0  # median, alone: each organization is looked at
PAGE_LIMIT = 100.0  # median, alone: a page of the dashboard is several reads
BESIDE_LIMIT = 100.0  # p99, beside another tenant
DUTY_LIMIT = 50.0  # median
REMOVAL_LIMIT = 20.0  # seconds for a million jobs with their history
BESIDE_REMOVAL = 2.0  # p99 of a tenant's list beside it, of that without it
LIMITS = {**dict.fromkeys(PAGES, PAGE_LIMIT), **dict.fromkeys(OPERATORS, OPERATOR_LIMIT)}
BYTES_LIMIT = 2400  # of a finished job and its history, with their indexes

SIZE = """
    SELECT pg_total_relation_size('jobs') AS jobs, pg_indexes_size('jobs') AS jobs_indexes,
           sum(pg_total_relation_size(relid)) AS history, sum(pg_indexes_size(relid)) AS history_indexes
    FROM pg_partition_tree('history')"""


@dataclass(frozen=True)
class Line:
    """One measure against its limit; `failures` by status, of a read; `is_neighbours`: beside another's reads."""

    what: str
    value: float
    unit: str
    limit: float
    failures: Mapping[int, int]
    is_neighbours: bool = False

    @property
    def is_broken(self) -> bool:
        """Whether a tenant paid for another one's reads; a limit that is missed may be the machine's fault."""
        return self.is_neighbours and any(status >= 500 for status in self.failures)


@click.command()
@click.option("--jobs", default=300_000, show_default=True, type=click.IntRange(1000), help="Finished jobs.")
@click.option("--organizations", default=1000, show_default=True, type=click.IntRange(10))
@click.option("--samples", default=15, show_default=True, type=click.IntRange(3), help="Of each read.")
@click.option(
    "--seconds", default=10.0, show_default=True, type=click.FloatRange(1), help="Of one tenant beside another."
)
@click.option("--backlog", default=100_000, show_default=True, type=click.IntRange(1000), help="Jobs of each kind.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write all measurements.")
def main(*, jobs: int, organizations: int, samples: int, seconds: float, backlog: int, json_file: Path | None) -> None:
    """Measure reads, tenants beside each other and the leader's duties on a large database.

    PostgreSQL and Valkey are started for the run alone. Ends with 1 when a tenant was answered with a server error
    because of another one's reads.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: whatever was started is ended
    console = Console()
    size = Size(jobs, organizations)
    try:
        lines = list(_measure(console, size, samples, seconds, backlog))
    except (StartError, ConfigurationError, AssertionError) as error:
        raise click.ClickException(str(error)) from None
    console.print(_table(size, lines))
    if json_file:
        json_file.write_text(json.dumps([{**vars(line)} for line in lines], indent=2) + "\n")
    sys.exit(Exit.FAILED if any(line.is_broken for line in lines) else Exit.FINE)


def _measure(console: Console, size: Size, samples: int, seconds: float, backlog: int) -> Iterator[Line]:
    with private_servers() as servers, progress_bars(console) as progress:
        patient = settings().model_copy(update={"statement_timeout": 600})
        database = Database(servers.tracked_url, patient, options=BY_INDEX)
        fill(database, size, progress("Fill", size.jobs))
        yield from _sizes(database, size)
        for name, spent in duties.measure(database, progress("Duties of the leader", len(duties.looks()))).items():
            yield Line(f"duty: {name}", spent, "ms", DUTY_LIMIT, {})
        with filled_api(servers, database) as api:
            for name, found in api.alone(samples, progress("Reads", len(ROUTES) + len(PAGES) + len(OPERATORS))).items():
                yield _read(name, found, 50, LIMITS.get(name, READ_LIMIT))
            progress("One tenant beside another", 1)
            for name, found in api.beside(seconds).items():
                yield replace(_read(f"beside another's worst: {name}", found, 99, BESIDE_LIMIT), is_neighbours=True)
            progress("Removal of old jobs", 1)
            given = {"database_url": SecretStr(servers.tracked_url), "statement_timeout": 600}
            yield from _removal(removal.measure(settings().model_copy(update=given), api))
        show = progress("Long backlogs", len(backlogs.KINDS))
        for kind, duty, spent in backlogs.measure(database, backlog, show):
            yield Line(f"slowest duty beside {backlog:,} jobs {kind}: {duty}", spent, "ms", DUTY_LIMIT, {})
        database.close()


def _read(name: str, found: Answers, percent: int, limit: float) -> Line:
    return Line(f"{name}, p{percent}", percentile(found.milliseconds, percent), "ms", limit, found.failures)


def _removal(found: Removal) -> Iterator[Line]:
    yield Line("removal of a million jobs", found.seconds, "s", REMOVAL_LIMIT, {})
    yield Line(
        "list beside it, p99",
        found.beside,
        "ms",
        BESIDE_REMOVAL * found.quiet,
        found.answers.failures,
        is_neighbours=True,
    )


def _sizes(database: Database, size: Size) -> Iterator[Line]:
    with database.autocommit() as connection:
        row = connection.execute(text(SIZE)).one()
    yield Line("a finished job with its history", float(row.jobs + row.history) / size.jobs, "bytes", BYTES_LIMIT, {})


def _table(size: Size, lines: list[Line]) -> Table:
    table = Table("measure", "", "limit", "", title=f"{size.jobs:,} jobs of {size.organizations:,} organizations")
    for line in lines:
        failures = ", ".join(f"{count} x {status}" for status, count in line.failures.items())
        verdict = failures or ("" if line.value <= line.limit else "over")
        table.add_row(line.what, f"{line.value:,.1f} {line.unit}", f"{line.limit:,.0f}", verdict)
    return table


if __name__ == "__main__":
    main(prog_name="python -m bench.scale")
