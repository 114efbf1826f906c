"""`python -m bench`: the whole measurement, with progress in the terminal."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.creates import measure_creates
from bench.latency import measure_latency
from bench.limits import measure_limits
from bench.pages import replace_results
from bench.report import Report, machine_facts, render, to_json, to_markdown
from bench.servers import Broker, Servers, find_rabbitmq, postgres_version, private_servers
from bench.sides import SIDES, Workers
from bench.throughput import measure
from tracking.errors import ConfigurationError
from tracking.exits import StartError

RABBITMQ_URL = "amqp://guest:guest@127.0.0.1:5672//"


@click.command()
@click.option("--jobs", default=2000, show_default=True, type=click.IntRange(10), help="No-op jobs in a round.")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1), help="Alternations of the four sides.")
@click.option("--samples", default=200, show_default=True, type=click.IntRange(2), help="Jobs for the latency.")
@click.option("--creates", default=10_000, show_default=True, type=click.IntRange(10), help="Jobs created at once.")
@click.option("--posts", default=800, show_default=True, type=click.IntRange(8), help="Jobs by POST under a limit.")
@click.option("--broker", "names", multiple=True, type=click.Choice(["rabbitmq", "valkey"]), help="[default: both]")
@click.option("--pool", default="prefork", show_default=True, type=click.Choice(["prefork", "threads", "solo"]))
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="Workers of each side.")
@click.option("--log-level", default="INFO", show_default=True, type=click.Choice(["INFO", "WARNING"]))
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write all measurements.")
@click.option("--docs", type=click.Path(exists=True, path_type=Path), help="Put the results in this Markdown file.")
def main(
    *,
    jobs: int,
    rounds: int,
    samples: int,
    creates: int,
    posts: int,
    names: tuple[str, ...],
    pool: str,
    workers: int,
    log_level: str,
    json_file: Path | None,
    docs: Path | None,
) -> None:
    """Compare Celeriac with bare Celery and with Celery's database result backend.

    PostgreSQL and Valkey are started for the run alone; RabbitMQ is that of RABBITMQ_URL.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: whatever was started is ended
    console = Console()
    compared = Workers(pool, workers)
    settings = {"jobs": jobs, "rounds": rounds, "samples": samples, "log_level": log_level, "workers": str(compared)}
    settings["arguments"] = _arguments()
    report = Report(settings, machine_facts())
    try:
        with private_servers() as servers, progress_bars(console) as progress:
            report.servers["PostgreSQL"] = postgres_version(servers)
            for broker in _brokers(names, servers, report):
                report.rounds[broker.name] = [
                    measure(
                        side,
                        compared,
                        broker,
                        servers,
                        jobs=jobs,
                        log_level=log_level,
                        show=progress(f"{broker.name}, round {number + 1}/{rounds}, {side.title}", jobs),
                    )
                    for number in range(rounds)
                    for side in SIDES
                ]
                show = progress(f"{broker.name}, latency", samples)
                report.latencies.append(
                    measure_latency(broker, servers, samples=samples, log_level=log_level, show=show)
                )
                progress(f"{broker.name}, bulk creates", creates)
                report.creates.append(measure_creates(broker, servers, jobs=creates, log_level=log_level))
                progress(f"{broker.name}, limits", posts)
                report.limits.append(measure_limits(broker, servers, jobs=posts, rounds=rounds, log_level=log_level))
    except (StartError, ConfigurationError, AssertionError) as error:
        raise click.ClickException(str(error)) from None
    console.print(render(report))
    if json_file:
        json_file.write_text(json.dumps(to_json(report), indent=2) + "\n")
    if docs:
        replace_results(docs, to_markdown(report))


def _brokers(names: tuple[str, ...], servers: Servers, report: Report) -> Iterator[Broker]:
    if not names or "rabbitmq" in names:
        try:
            rabbitmq = find_rabbitmq(os.environ.get("RABBITMQ_URL", RABBITMQ_URL))
        except OSError as error:
            report.skipped["RabbitMQ"] = f"nothing answers at RABBITMQ_URL ({error})"
        else:
            if rabbitmq.pid is None:
                report.notes.append("The CPU of RabbitMQ is not counted: its process is not ours to see.")
            yield rabbitmq
    if not names or "valkey" in names:
        yield servers.valkey


@contextmanager
def progress_bars(console: Console) -> Iterator[Callable[[str, int], Callable[[int], None]]]:
    """Shows one bar for what is measured now; its value is called with a description and a total for each new bar."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, refresh_per_second=2) as bars:

        def begin(description: str, total: int) -> Callable[[int], None]:
            for task in bars.task_ids:
                bars.remove_task(task)
            bar = bars.add_task(description, total=total)
            return lambda done: bars.update(bar, completed=done)

        yield begin


def _arguments() -> str:
    return " ".join(sys.argv[1:])


if __name__ == "__main__":
    main(prog_name="python -m bench")
