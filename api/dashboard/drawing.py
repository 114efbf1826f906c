"""The chart of what ended when, as rectangles and lines that a template writes as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tracking.reads.throughput import Slice

WIDTH, HEIGHT = 1240, 96
LEFT, TOP, BOTTOM = 40, 6, 80  # the place of the bars
STEPS = (1, 2, 5)
LABELS = 4  # of times below the bars


@dataclass(frozen=True, slots=True)
class Bar:
    """One part of the window: a bar of what succeeded or was cancelled, and in front of it one of what failed."""

    x: float
    width: float
    good_y: float
    good_height: float
    bad_y: float
    bad_height: float
    slice: Slice


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn; `top` is the number at the upper line."""

    bars: Sequence[Bar]
    labels: Sequence[tuple[float, str]]
    top: int
    total: int
    failed: int


def chart(slices: Sequence[Slice]) -> Chart:
    """A chart of these parts of a window."""
    top = _round_up(max((each.total for each in slices), default=0))
    place = (WIDTH - LEFT) / max(1, len(slices))
    scale = (BOTTOM - TOP) / top
    every = max(1, len(slices) // LABELS)
    return Chart(
        bars=[_bar(each, LEFT + number * place, 0.72 * place, scale) for number, each in enumerate(slices)],
        labels=[
            (LEFT + number * place, f"{slices[number].start:%H:%M}")
            for number in range(len(slices))
            if number % every == 0
        ],
        top=top,
        total=sum(each.total for each in slices),
        failed=sum(each.failed for each in slices),
    )


def _bar(each: Slice, x: float, width: float, scale: float) -> Bar:
    good, bad = scale * each.total, scale * each.failed
    if each.failed and bad < 2:  # noqa: PLR2004 - a failure among thousands can still be seen
        bad = 2.0
    return Bar(
        round(x, 1),
        round(width, 1),
        round(BOTTOM - good, 1),
        round(good, 1),
        round(BOTTOM - bad, 1),
        round(bad, 1),
        each,
    )


def _round_up(most: int) -> int:
    """A number that is easy to read, and not less than two."""
    power = 1
    while True:
        for step in STEPS:
            if step * power >= max(2, most):
                return step * power
        power *= 10
