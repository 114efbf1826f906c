"""The run of loud neighbours fails when the quiet one pays: by slow answers, server errors or a job that waits."""

from __future__ import annotations

from collections import Counter

import pytest

from bench.scale.neighbours import SLOTS, Heard, told

ORGANIZATIONS = 10
QUIET = Heard([10.0] * 100, Counter({200: 100}), [])


@pytest.mark.parametrize(
    ("milliseconds", "statuses", "others", "starts", "is_broken"),
    [
        (49.0, {200: 90, 429: 10}, {200: 1, 429: 9}, ORGANIZATIONS + SLOTS, False),
        (51.0, {200: 100}, {200: 1}, 0, True),
        (10.0, {200: 99, 503: 1}, {200: 1}, 0, True),
        (10.0, {200: 100}, {200: 1, 500: 1}, 0, True),
        (10.0, {200: 100}, {200: 1}, 2 * ORGANIZATIONS, True),
    ],
)
def test_what_a_neighbour_pays_is_told(
    milliseconds: float, statuses: dict[int, int], others: dict[int, int], starts: int, is_broken: object
) -> None:
    """Answers over five times as slow, any 5xx, and more starts than one of each organization break the promise."""
    loud, noise = Heard([milliseconds] * 100, Counter(statuses), []), Heard([], Counter(others), [])
    _, broken = told(QUIET, loud, noise, {"quiet": [(0, 0.1)], "loud": [(starts, 1.0)]}, ORGANIZATIONS)
    assert broken is is_broken
