"""What the platform did while something was broken: how many jobs ended a second, and how long answers took."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

AFTERMATH = 2.0  # seconds after a fault that count as its time: a reset of connections takes none itself
LEAST = 20  # answers of which a percentile says something

Span = tuple[float, float]  # its two ends, on the machine's clock


@dataclass(frozen=True)
class Meanwhile:
    """Of some spans of time. `throughput`: jobs that ended a second; `p99` of answers, in seconds. None: too few."""

    throughput: float | None
    p99: float | None


def during(spans: Iterable[Span], ends: Sequence[float], answers: Sequence[tuple[float, float]]) -> Meanwhile:
    """Of these spans; `ends` are when jobs ended, `answers` when each was asked for and the seconds that it took."""
    joined = list(_joined(spans))
    length = sum(end - begin for begin, end in joined)
    ended = sum(any(begin <= at < end for begin, end in joined) for at in ends)
    times = [seconds for at, seconds in answers if any(begin <= at < end for begin, end in joined)]
    p99 = statistics.quantiles(times, n=100)[98] if len(times) >= LEAST else None
    return Meanwhile(ended / length if length >= 1 else None, p99)


def between(whole: Span, spans: Iterable[Span]) -> Iterator[Span]:
    """What is left of the whole without these."""
    at, until = whole
    for begin, end in _joined(spans):
        if begin > at:
            yield at, min(begin, until)
        at = max(at, end)
    if at < until:
        yield at, until


def _joined(spans: Iterable[Span]) -> Iterator[Span]:
    current: Span | None = None
    for begin, end in sorted(spans):
        if current is not None and begin <= current[1]:
            current = current[0], max(current[1], end)
            continue
        if current is not None:
            yield current
        current = begin, end
    if current is not None:
        yield current
