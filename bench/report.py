"""What a run found: medians, ratios within the run, the targets, and where it was measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bench.creates import AT_ONCE, Creates
from bench.latency import Latency, percentile
from bench.limits import ONE, TWENTY, UNLIMITED, Limited
from bench.sides import BARE, RESULT_BACKEND, SIDES, TRACKED
from bench.throughput import Round

PACKAGES = ("celery", "kombu", "sqlalchemy", "psycopg")
BUSY = 0.1  # share of the machine that others may use before the numbers are called noisy


@dataclass(frozen=True)
class Summary:
    """One side on one broker: medians over the rounds, and their ratios to the side that is compared with."""

    side: str
    rate: float
    cpu: float
    cpu_by_part: dict[str, float]
    rate_to_bare: float
    cpu_to_bare: float


@dataclass(frozen=True)
class Target:
    """One thing to reach: `measured` against `wanted`, which is a least or, with `at_most`, a most."""

    what: str
    measured: float
    wanted: float
    at_most: bool = False

    @property
    def reached(self) -> bool:
        return self.measured <= self.wanted if self.at_most else self.measured >= self.wanted


@dataclass
class Report:
    """A run: `skipped` says why a broker is missing, `notes` what limits a number."""

    settings: dict[str, Any]
    machine: dict[str, str]
    servers: dict[str, str] = field(default_factory=dict)
    rounds: dict[str, list[Round]] = field(default_factory=dict)
    latencies: list[Latency] = field(default_factory=list)
    creates: list[Creates] = field(default_factory=list)
    limits: list[Limited] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    began: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))


def machine_facts() -> dict[str, str]:
    """What the numbers depend on."""
    return {
        "processor": f"{psutil.cpu_count()} of {_processor()}",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "load before": " ".join(f"{load:.1f}" for load in os.getloadavg()),
    }


def summarize(rounds: Sequence[Round]) -> list[Summary]:
    """One summary a side. Ratios are taken within each alternation, so that slow drift cancels out."""
    return [_summary(side.key, rounds) for side in SIDES]


def targets(report: Report) -> list[Target]:
    """What is to be reached, as far as it was measured."""
    return [*_throughput_targets(report), *_latency_targets(report), *_create_targets(report), *_limit_targets(report)]


def to_json(report: Report) -> dict[str, Any]:
    """The whole report as JSON, raw measurements included."""
    return {
        **asdict(report),
        "summaries": {broker: [asdict(each) for each in summarize(found)] for broker, found in report.rounds.items()},
        "targets": [{**asdict(target), "reached": target.reached} for target in targets(report)],
    }


def render(report: Report) -> RenderableType:
    """The report for a terminal."""
    lines = [Text(f"{name}: {value}") for name, value in _facts(report).items()]
    tables = [_table(broker, summarize(rounds)) for broker, rounds in report.rounds.items()]
    latencies = [_latency_table(report.latencies)] if report.latencies else []
    creates = [_create_table(report.creates)] if report.creates else []
    limits = [_limit_table(report.limits)] if report.limits else []
    notes = [Text(note, style="yellow") for note in _notes(report)]
    return Group(*lines, *tables, *latencies, *creates, *limits, _target_table(targets(report)), *notes)


def to_markdown(report: Report) -> str:
    """The report for the documentation."""
    parts = [f"Measured {report.began} by `python -m bench {report.settings['arguments']}`."]
    parts.append("\n".join(f"- {name}: {value}" for name, value in _facts(report).items()))
    for broker, rounds in report.rounds.items():
        parts.append(_markdown(_table(broker, summarize(rounds))))
    if report.latencies:
        parts.append(_markdown(_latency_table(report.latencies)))
    if report.creates:
        parts.append(_markdown(_create_table(report.creates)))
    if report.limits:
        parts.append(_markdown(_limit_table(report.limits)))
    parts.append(_markdown(_target_table(targets(report))))
    parts += _notes(report)
    return "\n\n".join(parts) + "\n"


def _summary(side: str, rounds: Sequence[Round]) -> Summary:
    own, bare = ([found for found in rounds if found.side == key] for key in (side, BARE.key))
    pairs = list(zip(own, bare, strict=True))
    return Summary(
        side=side,
        rate=median(found.rate for found in own),
        cpu=median(found.total_cpu for found in own),
        cpu_by_part={part: median(found.cpu[part] for found in own) for part in own[0].cpu},
        rate_to_bare=median(found.rate / base.rate for found, base in pairs),
        cpu_to_bare=median(found.total_cpu / base.total_cpu for found, base in pairs),
    )


def _throughput_targets(report: Report) -> list[Target]:
    found = []
    for broker, rounds in report.rounds.items():
        tracked = _summary(TRACKED.key, rounds)
        # Valkey's transport in kombu takes a message at a time, and ours many.
        rate = 1.0 if broker == "RabbitMQ" else 1.2
        found.append(Target(f"{broker}: jobs/s of bare Celery", tracked.rate_to_bare, rate))
        found.append(Target(f"{broker}: CPU of bare Celery", tracked.cpu_to_bare, 1.0, at_most=True))
        ratios = [
            own.rate / base.rate
            for own, base in zip(_of(rounds, TRACKED.key), _of(rounds, RESULT_BACKEND.key), strict=True)
        ]
        found.append(Target(f"{broker}: jobs/s of Celery with database results", median(ratios), 4))
    return found


def _latency_targets(report: Report) -> list[Target]:
    return [
        target
        for found in report.latencies
        for target in (
            Target(f"{found.broker}: POST answered, p50 ms", percentile(found.answered, 50), 4, at_most=True),
            Target(f"{found.broker}: body started, p50 ms", percentile(found.started, 50), 6, at_most=True),
            Target(f"{found.broker}: free slot filled, p50 ms", percentile(found.refilled, 50), 3, at_most=True),
        )
    ]


def _create_targets(report: Report) -> list[Target]:
    return [
        target
        for found in report.creates
        for target in (
            Target(f"{found.broker}: bulk creates into the database, jobs/s", found.stored, 15_000),
            Target(f"{found.broker}: their messages to the broker, jobs/s", found.sent, 5_000),
        )
    ]


def _limit_targets(report: Report) -> list[Target]:
    return [
        Target(f"{found.broker}: POSTed jobs/s of {name}, of those without a limit", found.ratio(name), 0.95)
        for found in report.limits
        for name in (ONE, TWENTY)
    ]


def _of(rounds: Sequence[Round], side: str) -> list[Round]:
    return [found for found in rounds if found.side == side]


def _facts(report: Report) -> dict[str, str]:
    settings = report.settings
    return {
        "machine": ", ".join(report.machine[name] for name in ("processor", "memory", "system")),
        "software": ", ".join(
            f"{name} {text}"
            for name, text in (("python", report.machine["python"]), *_packages(report), *report.servers.items())
        ),
        "load before": report.machine["load before"],
        "measured": f"{settings['rounds']} alternating rounds of {settings['jobs']} no-op jobs; "
        f"{settings['workers']}, prefetch up to 64, late acknowledgement, logs at {settings['log_level']} to a file; "
        "CPU is user and system time of worker, broker and database",
    }


def _packages(report: Report) -> list[tuple[str, str]]:
    return [(package, report.machine[package]) for package in PACKAGES]


def _notes(report: Report) -> list[str]:
    busiest = max((found.elsewhere for rounds in report.rounds.values() for found in rounds), default=0.0)
    noisy = [f"Other programs used up to {busiest:.0%} of the machine during a round: trust the ratios."]
    return [
        *(f"{broker} is missing: {reason}" for broker, reason in report.skipped.items()),
        *report.notes,
        *(noisy if busiest > BUSY else []),
    ]


def _table(broker: str, summaries: Sequence[Summary]) -> Table:
    titles = {side.key: side.title for side in SIDES}
    table = Table("", "jobs/s", "of bare", "CPU s per 1,000", "of bare", "by part", title=broker, title_justify="left")
    for found in summaries:
        parts = " + ".join(f"{part} {seconds:.2f}" for part, seconds in found.cpu_by_part.items())
        table.add_row(
            titles[found.side],
            f"{found.rate:,.0f}",
            f"{found.rate_to_bare:.2f}",
            f"{found.cpu:.2f}",
            f"{found.cpu_to_bare:.2f}",
            parts,
        )
    return table


def _latency_table(latencies: Sequence[Latency]) -> Table:
    columns = ("ms", "POST answered p50", "p99", "its body started p50", "p99", "free slot filled p50", "p99")
    table = Table(*columns, title="Latency", title_justify="left")
    for found in latencies:
        measured = (found.answered, found.started, found.refilled)
        table.add_row(found.broker, *(f"{percentile(values, p):.1f}" for values in measured for p in (50, 99)))
    return table


def _create_table(creates: Sequence[Creates]) -> Table:
    title = f"Bulk creates, {AT_ONCE:,} jobs a statement"
    table = Table("jobs/s", "into the database", "messages to the broker", title=title, title_justify="left")
    for found in creates:
        table.add_row(found.broker, f"{found.stored:,.0f}", f"{found.sent:,.0f}")
    return table


def _limit_table(limits: Sequence[Limited]) -> Table:
    title = "No-op jobs by POST, under the default limit"
    table = Table("jobs/s", UNLIMITED, ONE, "of that", TWENTY, "of that", title=title, title_justify="left")
    for found in limits:
        rates = {name: f"{median(rates):,.0f}" for name, rates in found.rates.items()}
        table.add_row(
            *(found.broker, rates[UNLIMITED], rates[ONE], f"{found.ratio(ONE):.2f}"),
            *(rates[TWENTY], f"{found.ratio(TWENTY):.2f}"),
        )
    return table


def _target_table(found: Sequence[Target]) -> Table:
    table = Table("target", "wanted", "measured", "", title="Targets", title_justify="left")
    for target in found:
        sign = "≤" if target.at_most else "≥"
        verdict = "reached" if target.reached else "missed"
        table.add_row(target.what, f"{sign} {target.wanted:g}", f"{target.measured:.2f}", verdict)
    return table


def _markdown(table: Table) -> str:
    columns = [list(column.cells) for column in table.columns]
    heads = [str(column.header) for column in table.columns]
    rows = [heads, ["---"] * len(heads), *map(list, zip(*columns, strict=True))]
    return f"### {table.title}\n\n" + "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        return platform.processor() or platform.machine()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
