"""What a run of chaos says of the time in which something was broken."""

from __future__ import annotations

from bench.chaos.meanwhile import LEAST, Meanwhile, between, during


def test_spans_that_overlap_count_once() -> None:
    """Jobs and answers of spans that overlap are counted once, those outside of them not at all."""
    ends = [0.5, 1.5, 2.5, 9.0]
    answers = [(1.0, 0.010)] * LEAST + [(8.0, 5.0)]
    assert during([(0.0, 2.0), (1.0, 3.0)], ends, answers) == Meanwhile(1.0, 0.010)


def test_too_little_says_nothing() -> None:
    """Of less than a second, or of few answers, no number is made."""
    assert during([(0.0, 0.5)], [0.1], [(0.1, 1.0)]) == Meanwhile(None, None)
    assert during([], [0.1], []) == Meanwhile(None, None)


def test_the_worst_answer_of_a_hundred_shows() -> None:
    """The 99th percentile is near the slowest of a hundred answers."""
    p99 = during([(0.0, 2.0)], [], [(1.0, 0.001)] * 98 + [(1.0, 2.0)] * 2).p99
    assert p99 is not None
    assert p99 > 1.9


def test_what_is_between_faults_is_whole() -> None:
    """The time in which nothing is broken is what is left of the whole."""
    assert list(between((0.0, 10.0), [(6.0, 8.0), (1.0, 2.0), (1.5, 3.0)])) == [(0.0, 1.0), (3.0, 6.0), (8.0, 10.0)]
    assert list(between((0.0, 1.0), [(0.0, 5.0)])) == []
