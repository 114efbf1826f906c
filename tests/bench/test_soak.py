"""The endurance run says what grows, and of what stays as it is that it does."""

from __future__ import annotations

import math

import pytest

from bench.soak.judging import FEWEST, Measure, judge, to_markdown

MEMORY = Measure("memory", "MiB", 0.08, 8.0)


def test_what_stays_after_its_start_is_flat() -> None:
    """What grows at the start and stays then is flat, also when it goes up and down."""
    samples = [100 + 50 * min(1.0, turn / 20) + 3 * math.sin(turn) for turn in range(120)]
    assert judge(MEMORY, samples).is_flat


def test_what_leaks_is_not_flat() -> None:
    """What grows all the time is not flat, and the table says so."""
    verdict = judge(MEMORY, [100 + turn for turn in range(120)])
    assert not verdict.is_flat
    assert (verdict.first, verdict.early, verdict.late, verdict.most) == (100, 144.5, 204.5, 219)
    assert "| memory, MiB | 100.0 | 144.5 | 204.5 | 219.0 | **grows** |" in to_markdown([verdict], {"minutes": "60"})


def test_too_few_samples_say_nothing() -> None:
    """A run that was too short is refused instead of judged."""
    with pytest.raises(ValueError, match="too few"):
        judge(MEMORY, [1.0] * (FEWEST - 1))
