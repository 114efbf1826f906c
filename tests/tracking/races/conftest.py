"""Racers, and rows that must tell no lie after each race."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.racing import THREADS, Racers
from tests.tracked import Tracked, check_rows
from tracking.db import Database


@pytest.fixture
def tracked(tracked: Tracked) -> Iterator[Tracked]:
    """No jobs yet. Afterwards the rows must tell no lie."""
    yield tracked
    check_rows(tracked)


@pytest.fixture
def racers(pool: Database) -> Iterator[Racers]:
    """As many threads as any race here needs."""
    with ThreadPoolExecutor(THREADS) as threads:
        yield Racers(pool, threads)
