"""The chart of what ended when and how long it had waited, as rectangles and lines that a template writes as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

from tracking.reads.throughput import Group, Grouped, Slice

WIDTH = 1200
TOP, BOTTOM = 6, 80  # the place of the bars
STEPS = (1, 2, 5)
LABELS = 4  # times below the bars, each at the beginning of its part


@dataclass(frozen=True, slots=True)
class Block:
    """What of a bar belongs to one group: its number among the groups, its place, and how many jobs it stands for.

    `group`: None of what was not told apart.
    """

    group: int | None
    y: float
    height: float
    number: int


@dataclass(frozen=True, slots=True)
class Bar:
    """One part of the window: a bar of what succeeded or was cancelled, and in front of it one of what failed.

    `blocks`: the same by group, from the bottom upwards, where jobs are told apart.
    """

    x: float
    width: float
    good_y: float
    good_height: float
    bad_y: float
    bad_height: float
    slice: Slice
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn; `top` is the number at the upper line, `longest` the wait there, None: nothing waited.

    `waits`: lines through the longest waits (p95), one for each time without a gap. `width`: of a part.
    `chosen`: the place and width of the time that the list is narrowed to. `grouped`: what the blocks stand for.
    """

    bars: Sequence[Bar]
    labels: Sequence[str]
    top: int
    total: int
    failed: int
    waits: Sequence[str]
    longest: timedelta | None
    width: timedelta
    chosen: tuple[float, float] | None
    grouped: Grouped | None


def chart(
    slices: Sequence[Slice],
    width: timedelta,
    since: datetime | None = None,
    until: datetime | None = None,
    grouped: Grouped | None = None,
) -> Chart:
    """A chart of these parts of a window, each of this width; `since`, `until`: what the list is narrowed to.

    `grouped`: the groups by which their jobs are told apart; None: they are told apart by how they ended.
    """
    longest = max((each.slowest for each in slices if each.slowest is not None), default=None)
    top = _round_up(max((each.total for each in slices), default=0))
    place = WIDTH / max(1, len(slices))
    scale = (BOTTOM - TOP) / top
    every = max(1, len(slices) // LABELS)
    return Chart(
        bars=[
            _bar(each, number * place, 0.72 * place, scale, () if grouped is None else grouped.groups)
            for number, each in enumerate(slices)
        ],
        labels=[f"{slices[number].start:%H:%M}" for number in range(0, len(slices), every)],
        top=top,
        total=sum(each.total for each in slices),
        failed=sum(each.failed for each in slices),
        waits=_lines(slices, place, longest),
        longest=longest,
        width=width,
        chosen=_chosen(slices, width, since, until),
        grouped=grouped,
    )


def _lines(slices: Sequence[Slice], place: float, longest: timedelta | None) -> list[str]:
    """The waits of parts that follow each other; a lone one as a line of its own."""
    scale = (BOTTOM - TOP) / longest.total_seconds() if longest else 0.0
    found = []
    for has_waits, run in groupby(enumerate(slices), key=lambda each: each[1].slowest is not None):
        if has_waits:
            places = [
                ((number + 0.36) * place, BOTTOM - scale * each.slowest.total_seconds())
                for number, each in run
                if each.slowest is not None
            ]
            places = (
                places if len(places) > 1 else [(x + shift * place, y) for x, y in places for shift in (-0.36, 0.36)]
            )
            found.append(" ".join(f"{x:.1f},{y:.1f}" for x, y in places))
    return found


def _chosen(
    slices: Sequence[Slice], width: timedelta, since: datetime | None, until: datetime | None
) -> tuple[float, float] | None:
    if not slices or (since is None and until is None):
        return None
    begin, length = slices[0].start, width * len(slices)
    ends = [max(0.0, min(1.0, (at - begin) / length)) for at in (since or begin, until or begin + length)]
    return round(WIDTH * ends[0], 1), round(WIDTH * max(0.0, ends[1] - ends[0]), 1)


def _bar(each: Slice, x: float, width: float, scale: float, groups: Sequence[Group]) -> Bar:
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
        list(_blocks(each, scale, groups)) if groups else [],
    )


def _blocks(each: Slice, scale: float, groups: Sequence[Group]) -> Iterator[Block]:
    numbers: dict[int | None, int] = {place: group.ended.get(each.start, 0) for place, group in enumerate(groups)}
    numbers[None] = each.total - sum(numbers.values())
    y = float(BOTTOM)
    for place, number in numbers.items():
        if number > 0:
            y -= scale * number
            yield Block(place, round(y, 1), round(scale * number, 1), number)


def _round_up(most: int) -> int:
    """A number that is easy to read, and not less than two."""
    power = 1
    while True:
        for step in STEPS:
            if step * power >= max(2, most):
                return step * power
        power *= 10
