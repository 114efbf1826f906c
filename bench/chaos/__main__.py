"""`python -m bench.chaos`: the whole run, with progress in the terminal."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bench.chaos import rabbitmq
from bench.chaos.faults import FAULTS
from bench.chaos.report import Report, render, to_markdown
from bench.chaos.run import run
from bench.chaos.world import World
from bench.pages import replace_results
from tracking.errors import ConfigurationError
from tracking.exits import StartError

BROKERS = ("redis", "rabbitmq")
SHARE_OF_FAULTS = 0.65  # of the time; the rest is for starting, healing, draining and checking


@click.command()
@click.option("--minutes", envvar="CHAOS_MINUTES", default=3.0, show_default=True, type=click.FloatRange(0.1))
@click.option("--broker", envvar="CHAOS_BROKER", type=click.Choice(BROKERS), help="[default: each half of the time]")
@click.option("--seed", envvar="CHAOS_SEED", type=int, help="Decides which faults come when. [default: random]")
@click.option("--faults", envvar="CHAOS_FAULTS", default="", help="Names, comma-separated: these, in this order.")
@click.option("--imports", envvar="CHAOS_IMPORTS", default="", help="Further modules for workers and API.")
@click.option("--docs", envvar="CHAOS_DOCS", type=click.Path(exists=True, path_type=Path), help="Put the results here.")
@click.option("--keep", envvar="CHAOS_KEEP", type=click.Path(path_type=Path), help="Copy logs and witness to here.")
def main(
    *,
    minutes: float,
    broker: str | None,
    seed: int | None,
    faults: str,
    imports: str,
    docs: Path | None,
    keep: Path | None,
) -> None:
    """Break the platform's servers and processes while it works, then check every promise.

    PostgreSQL, Valkey and RabbitMQ are started for the run alone. Exits with 1 when a promise was broken.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: whatever was started is ended
    console = Console()
    report = Report(random.randrange(2**31) if seed is None else seed, minutes)
    names = [name.strip() for name in faults.split(",") if name.strip()]
    _require_known(names)
    brokers = [broker] if broker else _available(report)
    console.print(f"seed {report.seed}, {minutes:g} minutes, brokers: {', '.join(brokers)}")
    try:
        with _progress(console) as show:
            for each in brokers:
                result = run(
                    each,
                    seconds=minutes * 60 / len(brokers) * SHARE_OF_FAULTS,
                    seed=report.seed,
                    show=partial(show, each),
                    only=names,
                    imports=imports,
                    keep=partial(_copy, keep),
                )
                report.results.append(result)
    except (StartError, ConfigurationError, AssertionError) as error:
        raise click.ClickException(f"the run itself could not go on (seed {report.seed}): {error}") from None
    console.print(render(report))
    if docs:
        replace_results(docs, to_markdown(report))
    sys.exit(0 if report.is_clean else 1)


def _require_known(names: list[str]) -> None:
    known = [fault.name for fault in FAULTS]
    for name in names:
        if name not in known:
            raise click.BadParameter(f"{name!r} is none of {', '.join(known)}", param_hint="--faults")


def _available(report: Report) -> list[str]:
    if rabbitmq.find_program() is not None:
        return list(BROKERS)
    reason = "RabbitMQ is skipped: there is no rabbitmq-server on this machine"
    if os.environ.get("CI") == "true":
        raise click.ClickException(reason)
    report.skipped.append(reason)
    return ["redis"]


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[str, str, float], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, refresh_per_second=2) as bars:
        bar = bars.add_task("", total=1)
        last: list[str] = []

        def show(broker: str, words: str, share: float) -> None:
            bars.update(bar, description=f"{broker}: {words}", completed=share)
            if not console.is_terminal and [words] != last:  # a log has no line that moves
                console.print(f"{broker}: {words}")
                last[:] = [words]

        yield show


def _copy(target: Path | None, world: World) -> None:
    if target is not None:
        place = target / world.broker
        place.mkdir(parents=True, exist_ok=True)
        for path in (*world.logs, world.witness, world.journal):
            shutil.copy(path, place)


if __name__ == "__main__":
    main(prog_name="python -m bench.chaos")
