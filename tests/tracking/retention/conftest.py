"""A database whose rows must tell no lie after a removal."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tracked import Tracked, check_rows
from tests.verifying import findings
from tracking.db import Database


@pytest.fixture
def tracked(tracked: Tracked, pool: Database) -> Iterator[Tracked]:
    """No jobs yet. Afterwards the rows must tell no lie, and no history may be without its job."""
    yield tracked
    check_rows(tracked)
    assert all(finding.holds for finding in findings(pool) if finding.name in ("not_lost", "created_once"))
