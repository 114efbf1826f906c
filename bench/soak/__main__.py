"""`python -m bench.soak`: the platform under load for an hour, with progress in the terminal."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
import httpx2
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from sqlalchemy import func, select

from bench.chaos import rabbitmq
from bench.chaos.ledger import Ledger
from bench.chaos.load import load
from bench.chaos.world import UNLIMITED, World, open_world
from bench.pages import replace_results
from bench.report import machine_facts
from bench.soak.judging import Measure, Verdict, judge, to_markdown
from bench.soak.sampling import sample
from tracking.db import Database
from tracking.errors import ConfigurationError
from tracking.exits import StartError
from tracking.schema import jobs

SAMPLES = 120  # of a run, and no more than one a second
STREAM = 30.0  # seconds after which whoever follows live events comes again
BURST = 100  # jobs
PAUSE = 2.0  # seconds between two bursts
SEED = 1


@click.command()
@click.option("--minutes", envvar="SOAK_MINUTES", default=60.0, show_default=True, type=click.FloatRange(0.1))
@click.option(
    "--broker", envvar="SOAK_BROKER", default="redis", show_default=True, type=click.Choice(["redis", "rabbitmq"])
)
@click.option("--docs", envvar="SOAK_DOCS", type=click.Path(exists=True, path_type=Path), help="Put the results here.")
def main(*, minutes: float, broker: str, docs: Path | None) -> None:
    """Let the platform work, with nothing broken, and look whether memory, descriptors, connections or tables grow.

    PostgreSQL and the broker are started for the run alone. Exits with 1 when something grows, or an answer was wrong.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: whatever was started is ended
    if broker == "rabbitmq" and rabbitmq.find_program() is None:
        raise click.ClickException("there is no rabbitmq-server on this machine")
    console, ledger = Console(), Ledger()
    try:
        verdicts, ended = _run(broker, minutes * 60, ledger, console)
    except (StartError, ConfigurationError, AssertionError, ValueError) as error:
        raise click.ClickException(f"the run itself could not go on: {error}") from None
    console.print(_table(verdicts))
    for line in ledger.unexpected:
        console.print(f"unexpected: {line}", markup=False)
    if docs:
        replace_results(docs, _page(verdicts, minutes, broker, ended))
    sys.exit(1 if ledger.unexpected or not all(each.is_flat for each in verdicts) else 0)


def _run(broker: str, seconds: float, ledger: Ledger, console: Console) -> tuple[list[Verdict], int]:
    """What became of each measure, and how many jobs have ended."""
    series: dict[Measure, list[float]] = {}
    with (
        open_world(broker, ledger, crashes=False) as world,
        load(world, SEED) as finish,
        _beside(world, _follow),
        _beside(world, _burst),
    ):
        until, pause = time.monotonic() + seconds, max(1.0, seconds / SAMPLES)
        with _progress(console, seconds) as show:
            while (left := until - time.monotonic()) > 0:
                for measure, value in sample(world).items():
                    series.setdefault(measure, []).append(value)
                show(seconds - left, _ended(world.database))
                time.sleep(min(pause, max(0.0, until - time.monotonic())))
        finish()
        ended = _ended(world.database)
    return [judge(measure, values) for measure, values in series.items()], ended


@contextmanager
def _beside(world: World, work: Callable[[World, str], None]) -> Iterator[None]:
    """Somebody does this again and again until the block is over; an error is unexpected."""
    over = threading.Event()

    def go_on() -> None:
        while not over.is_set():
            try:
                work(world, f"Bearer {world.token(UNLIMITED)}")
            except (httpx2.HTTPError, AssertionError) as error:
                if not over.is_set():
                    world.ledger.surprise(f"{work.__name__}: {error!r}")

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()


def _follow(world: World, authorization: str) -> None:
    """Follow live events for a while: what a stream holds must be free when it ends."""
    until, address = time.monotonic() + STREAM, f"{world.api_url}/v1/events"
    with httpx2.stream("GET", address, headers={"Authorization": authorization}, timeout=STREAM) as stream:
        for _ in stream.iter_bytes():
            if time.monotonic() > until:
                return


def _burst(world: World, authorization: str) -> None:
    """Submit many jobs at once, which workers claim and settle together; those before have ended."""
    payload = {"canary": world.canaries[UNLIMITED]}
    asked = {"jobs": [{"jobType": "chaos.quick", "payload": payload}] * BURST}
    headers = {"Authorization": authorization}
    answer = httpx2.post(f"{world.api_url}/v1/jobs/bulk", json=asked, headers=headers, timeout=STREAM)
    assert answer.status_code < 300, answer.text
    until = time.monotonic() + STREAM
    while _unfinished(world.database) > BURST // 2 and time.monotonic() < until:
        time.sleep(0.2)
    time.sleep(PAUSE)


def _unfinished(database: Database) -> int:
    with database.autocommit() as connection:
        return int(connection.execute(select(func.count()).where(jobs.c.completed_at.is_(None))).scalar_one())


def _ended(database: Database) -> int:
    with database.autocommit() as connection:
        return int(connection.execute(select(func.count()).where(jobs.c.completed_at.is_not(None))).scalar_one())


@contextmanager
def _progress(console: Console, seconds: float) -> Iterator[Callable[[float, int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, refresh_per_second=2) as bars:
        bar = bars.add_task("load", total=seconds)
        yield lambda done, ended: bars.update(bar, completed=done, description=f"load, {ended:,} jobs have ended")


def _table(verdicts: list[Verdict]) -> Table:
    table = Table("measure", "unit", "first", "early", "late", "most", "")
    for each in verdicts:
        figures = (f"{value:.1f}" for value in (each.first, each.early, each.late, each.most))
        table.add_row(each.measure.name, each.measure.unit, *figures, "flat" if each.is_flat else "GROWS")
    return table


def _page(verdicts: list[Verdict], minutes: float, broker: str, ended: int) -> str:
    facts = {"Run": f"{datetime.now(UTC):%Y-%m-%d %H:%M}Z", "minutes": f"{minutes:g}", "broker": broker}
    return to_markdown(verdicts, {**facts, "jobs that ended": f"{ended:,}", **machine_facts()})


if __name__ == "__main__":
    main(prog_name="python -m bench.soak")
