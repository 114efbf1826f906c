"""Workflows on real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.tracked import Tracked, check_rows
from tests.verifying import broken
from tests.workflowing import Flow, create
from tracking.db import Database
from tracking.workflows.values import Node

Created = Callable[..., Flow]


@pytest.fixture
def created(pool: Database, tracked: Tracked) -> Iterator[Created]:
    """Makes a workflow of these jobs. Afterwards the rows of all jobs must tell no lie, and verify finds none."""

    def make(*nodes: Node, **said: object) -> Flow:
        return create(pool, tracked, *nodes, **said)

    yield make
    check_rows(tracked)
    assert broken(pool) == {}
