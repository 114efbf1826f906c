"""How far ahead a worker works, by what bodies took."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.worker.pace import MOST_TYPES, Pace


def paced(*seconds: float) -> Pace:
    """A pace after bodies that took so long."""
    pace = Pace()
    for each in seconds:
        pace.took("noop", each)
    return pace


@pytest.mark.parametrize(
    ("seconds", "window"),
    [(None, 2), (0.0, 128), (0.001, 64), (0.005, 16), (0.02, 4), (0.1, 2), (600, 2)],
)
def test_the_window_is_small_for_long_bodies_and_large_for_short_ones(seconds: float | None, window: int) -> None:
    """With two slots and 64 messages for each the window follows the length of bodies, if that is known."""
    assert paced(*([] if seconds is None else [seconds])).window(2, 64, 0) == window


@pytest.mark.parametrize("most", [1, 2, 3, 64])
def test_the_window_never_exceeds_what_the_operator_allows(most: int) -> None:
    """For the shortest bodies a worker has no more messages for each slot than the setting says."""
    assert paced(0).window(3, most, 0) == 3 * {1: 1, 2: 2, 3: 2, 64: 64}[most]


def test_one_long_body_ends_the_haste_at_once() -> None:
    """After a hundred short bodies a single long one makes the window that of long bodies."""
    assert paced(*[0.001] * 100, 2.0).window(2, 64, 0) == 2


def test_short_bodies_bring_the_haste_back_by_and_by() -> None:
    """After a long body the window grows again while short ones follow."""
    windows = [paced(2.0, *[0.001] * count).window(2, 64, 0) for count in (1, 30, 60, 90)]
    assert windows == sorted(windows)
    assert windows[0] == 2
    assert windows[-1] > 2


def test_what_bodies_of_a_type_take_is_told_apart_and_forgotten() -> None:
    """Each type has an average of its own, the least recent types go first, and to forget leaves none."""
    pace = Pace()
    pace.took("short", 0.001)
    pace.took("long", 3.0)
    assert (pace.expected("short"), pace.expected("long"), pace.expected("new")) == (0.001, 3.0, None)
    for number in range(MOST_TYPES - 1):
        pace.took(f"type {number}", 1.0)
    assert (pace.expected("short"), pace.expected("long")) == (None, 3.0)
    pace.forget()
    assert (pace.expected("long"), pace.window(4, 64, 0)) == (None, 4)


@given(seconds=st.floats(0.0005, 1), current=st.integers(0, 128))
def test_the_window_is_kept_while_it_is_about_right(seconds: float, current: int) -> None:
    """What a worker has is at most half as much again as it should have, and never grows by keeping it."""
    pace, fresh = paced(seconds), paced(seconds).window(2, 64, 0)
    window = pace.window(2, 64, current)
    assert window in (fresh, current)
    assert fresh <= window <= max(fresh, 1.5 * (2 + 0.05 * 2 / seconds))
    assert pace.window(2, 64, window) == window


def test_a_length_that_swings_about_a_step_does_not_move_the_window() -> None:
    """Averages on both sides of a power of two lead to one window, not to a word to the broker each time."""
    below, above = paced(0.0030), paced(0.0034)
    assert below.window(2, 64, 0) != above.window(2, 64, 0)
    window, windows = 0, []
    for pace in [below, above] * 3:
        window = pace.window(2, 64, window)
        windows.append(window)
    assert len(set(windows)) == 1
