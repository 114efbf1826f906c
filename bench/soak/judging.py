"""What is measured again and again, and whether it has stayed as it was."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FEWEST = 8  # samples without which nothing can be said


@dataclass(frozen=True, slots=True)
class Measure:
    """Something that must not grow: by more than `share` of itself and `slack`, which is in its unit."""

    name: str
    unit: str
    share: float
    slack: float

    @property
    def title(self) -> str:
        """What it is, with its unit."""
        return f"{self.name}, {self.unit}" if self.unit else self.name


@dataclass(frozen=True, slots=True)
class Verdict:
    """A measure at its first sample, after the start, and at the end; the last two are medians of a quarter."""

    measure: Measure
    first: float
    early: float
    late: float
    most: float

    @property
    def is_flat(self) -> bool:
        """Whether it has not grown since the start was over."""
        return self.late <= self.early * (1 + self.measure.share) + self.measure.slack


def judge(measure: Measure, samples: Sequence[float]) -> Verdict:
    """The second quarter of the time against the last: in the first, caches fill. Raises ValueError for too few."""
    if len(samples) < FEWEST:
        raise ValueError(f"{len(samples)} samples of {measure.name} are too few: at least {FEWEST}")
    quarter = len(samples) // 4
    early, late = samples[quarter : 2 * quarter], samples[-quarter:]
    return Verdict(measure, samples[0], statistics.median(early), statistics.median(late), max(samples))


def to_markdown(verdicts: Sequence[Verdict], facts: Mapping[str, str]) -> str:
    """The table of the page."""
    lines = [", ".join(f"{name}: {said}" for name, said in facts.items()) + ".", ""]
    lines += ["| measure | first | after a quarter | at the end | most | |", "| --- | --- | --- | --- | --- | --- |"]
    lines += [
        f"| {each.measure.title} | {each.first:.1f} | {each.early:.1f} | {each.late:.1f} |"
        f" {each.most:.1f} | {'flat' if each.is_flat else '**grows**'} |"
        for each in verdicts
    ]
    return "\n".join(lines)
