"""Each verb on real PostgreSQL: what it does, what the second call does, and who is refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tracked import Tracked, check_rows


@pytest.fixture
def tracked(tracked: Tracked) -> Iterator[Tracked]:
    """No jobs yet. Afterwards the rows must tell no lie."""
    yield tracked
    check_rows(tracked)
