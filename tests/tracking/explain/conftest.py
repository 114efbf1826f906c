"""A platform of three workers, with a limit."""

from __future__ import annotations

import pytest

from tests.holding import Limited, limited
from tests.tracked import Tracked
from tracking.db import Database


@pytest.fixture
def platform(pool: Database, tracked: Tracked) -> Limited:
    """At most five jobs of an organization at once; three workers of two processes each."""
    for _ in range(3):
        tracked.register_worker()
    return limited(pool, tracked, 5)
