"""Platforms with and without a limit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.holding import Limited, limited
from tests.tracked import Tracked, check_rows
from tracking.db import Database


@pytest.fixture
def two(pool: Database, tracked: Tracked) -> Iterator[Limited]:
    """Two jobs of an organization may execute at once. Afterwards the rows must tell no lie."""
    yield limited(pool, tracked, 2)
    check_rows(tracked)


@pytest.fixture
def free(pool: Database, tracked: Tracked) -> Iterator[Limited]:
    """Any number of jobs may execute at once."""
    yield limited(pool, tracked, 0)
    check_rows(tracked)
