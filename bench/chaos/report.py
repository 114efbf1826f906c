"""What a chaos run found, for a terminal and for the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bench.chaos.meanwhile import Meanwhile
from bench.chaos.run import Result

TITLES = {"redis": "Valkey", "rabbitmq": "RabbitMQ"}
MOST_LINES = 12


@dataclass
class Report:
    """Runs with one seed; `skipped` says why a broker is missing."""

    seed: int
    minutes: float
    results: list[Result] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    began: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def is_clean(self) -> bool:
        """Whether something was checked, and held."""
        return bool(self.results) and all(result.is_clean for result in self.results)


def render(report: Report) -> RenderableType:
    """The report for a terminal."""
    parts: list[RenderableType] = []
    for result in report.results:
        parts += [_totals(result), _faults(result), Text(_answers(result))]
        parts += [Text(line, style="red") for line in complaints(result)]
    parts += [Text(line, style="yellow") for line in report.skipped]
    return Group(*parts, Text(_verdict(report), style="bold green" if report.is_clean else "bold red"))


def to_markdown(report: Report) -> str:
    """The report for the documentation."""
    began = f"Run {report.began} by `make chaos` with `CHAOS_MINUTES={report.minutes:g} CHAOS_SEED={report.seed}`"
    parts = [f"{began}: {_verdict(report)}"]
    for result in report.results:
        parts += [_markdown(_totals(result)), _answers(result), _markdown(_faults(result))]
    return "\n\n".join([*parts, *report.skipped])


def complaints(result: Result) -> list[str]:
    """Everything that went wrong, each in a line."""
    lines = [f"LOST {job}" for job in result.lost]
    lines += [f"BROKEN {wrong}" for wrong in result.wrong]
    lines += [f"UNEXPECTED {line}" for line in result.unexpected]
    more = len(lines) - MOST_LINES
    return [*lines[:MOST_LINES], f"and {more} more"] if more > 0 else lines


def _verdict(report: Report) -> str:
    if report.is_clean:
        return f"every promise held (seed {report.seed})."
    return f"promises were broken: repeat with CHAOS_SEED={report.seed}."


def _totals(result: Result) -> Table:
    table = Table(title=TITLES[result.broker])
    found = {
        "attempted": result.attempted,
        "accepted": result.accepted,
        "succeeded": result.finished.get("succeeded", 0),
        "failed": result.finished.get("failed", 0),
        "cancelled": result.finished.get("cancelled", 0),
        "lost": len(result.lost),
        "attempts lost": result.losses,
        "refused duplicates": result.refused,
        "broken": len(result.wrong),
        "unexpected": len(result.unexpected),
    }
    for name in found:
        table.add_column(name, justify="right")
    table.add_row(*map(str, found.values()))
    return table


def _faults(result: Result) -> Table:
    table = Table(title=f"Faults, {TITLES[result.broker]}")
    table.add_column("fault")
    table.add_column("times", justify="right")
    for name in ("worst recovery, s", "jobs ended a second", "p99 of answers, ms"):
        table.add_column(name, justify="right")
    table.add_row("nothing", "", "", *_did(result.quiet))
    for count in result.faults:
        recovery = "" if count.worst is None else f"{count.worst:.1f}"
        table.add_row(count.fault, str(count.times), recovery, *_did(count.meanwhile))
    return table


def _did(meanwhile: Meanwhile | None) -> tuple[str, str]:
    if meanwhile is None:
        return "", ""
    throughput = "" if meanwhile.throughput is None else f"{meanwhile.throughput:.1f}"
    return throughput, "" if meanwhile.p99 is None else f"{meanwhile.p99 * 1000:.0f}"


def _answers(result: Result) -> str:
    answers = ", ".join(f"{times} of {status}" for status, times in result.answers.items())
    times = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in result.seconds.items())
    return (
        f"Answers of the API: {answers}; {result.unanswered} requests died with it; the slowest answer took"
        f" {result.slowest:.1f} s. Phases: {times}."
    )


def _markdown(table: Table) -> str:
    heads = [str(column.header) for column in table.columns]
    rows: Sequence[tuple[str, ...]] = list(zip(*(map(str, column.cells) for column in table.columns), strict=True))
    lines = [heads, ["---"] * len(heads), *rows]
    return f"### {table.title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)
