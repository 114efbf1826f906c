"""Bulk operations on real PostgreSQL: made for acme's u1, and worked off as the leader does, without its pauses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from tests.tracked import ACME, HOUR, Tracked, check_rows
from tracking.admission.rule import UNLIMITED, Limits
from tracking.db import Database
from tracking.jobs import Applied
from tracking.models import Scope
from tracking.operated import Action, State
from tracking.operations import reads, work
from tracking.operations.begin import begin
from tracking.operations.values import NewOperation, Operation
from tracking.origins import Origin, Source
from tracking.reads.answers import Filters


@dataclass(frozen=True)
class Bulk:
    """The leader and those who ask for operations."""

    pool: Database
    tracked: Tracked

    def begin(self, action: Action, filters: Filters | None = None, **options: Any) -> Operation:
        """A new operation, on all jobs of acme unless `filters` or `scope` say otherwise."""
        denied: Mapping[str, str] = options.pop("denied", {})
        at_once, scope = options.pop("at_once", 1000), options.pop("scope", ACME)
        new = NewOperation(uuid4(), action, scope, options.pop("user", "u1"), {"filter": {}}, **options)
        with self.pool.begin() as connection:
            begun = begin(
                connection,
                new,
                filters or Filters(),
                at_once=at_once,
                judge=lambda types: {name: denied[name] for name, _ in types if name in denied},
                origin=Origin(Source.API, scope.organization_id),
            )
        return begun.operation

    def turn(self, size: int = 100, limits: Limits = UNLIMITED, patience: timedelta = HOUR) -> Applied | None:
        """One batch, whoever's turn it is; None: nobody's."""
        with self.pool.begin() as connection:
            operation = work.next_one(connection)
            return work.work(connection, operation, limits, size, patience) if operation else None

    def finish(self, operation: Operation, size: int = 100, **options: Any) -> Operation:
        """Work until nothing is due."""
        while self.turn(size, **options) is not None:
            pass
        return self.get(operation)

    def get(self, operation: Operation) -> Operation:
        """The operation as it is now."""
        return reads.get(self.tracked.connection, operation.id, Scope(operation.organization_id, None))

    def outcomes(self, operation: Operation) -> dict[UUID, str | None]:
        """What became of each of its jobs."""
        page = reads.results(self.tracked.connection, operation.id, wanted=(), cursor=None, size=10_000)
        return {each.job_id: each.outcome for each in page.results}

    def refusals(self, operation: Operation) -> dict[UUID, tuple[str | None, str | None]]:
        """Why its jobs were not done."""
        undone = ("refused", "failed")
        page = reads.results(self.tracked.connection, operation.id, wanted=undone, cursor=None, size=1000)
        return {each.job_id: (each.code, each.detail) for each in page.results}

    def pass_time(self) -> None:
        """Let what waits a moment be due, and what has a deadline be late."""
        self.tracked.connection.execute(
            text("UPDATE operations SET due_at = now() - interval '1 s', canary_until = canary_until - interval '2 h'")
        )

    def be_due(self) -> None:
        """Let what waits a moment be due."""
        self.tracked.connection.execute(text("UPDATE operations SET due_at = now() - interval '1 s'"))

    def check(self) -> None:
        """The counts of every operation are those of its rows, and the audit has one entry for each."""
        rows = self.tracked.connection.execute(text(COUNTED)).all()
        assert all(row.counted == row.told for row in rows), rows
        assert Counter(self.tracked.connection.execute(text(AUDITED)).scalars()) == {str(row.id): 1 for row in rows}


COUNTED = """
    SELECT operations.id, ARRAY[matched, succeeded, refused, failed] AS counted,
           (SELECT ARRAY[count(*), count(*) FILTER (WHERE outcome = 'succeeded'),
                         count(*) FILTER (WHERE outcome = 'refused'), count(*) FILTER (WHERE outcome = 'failed')]
            FROM operation_jobs WHERE operation_id = operations.id)::int[] AS told
    FROM operations"""
AUDITED = "SELECT target FROM audit WHERE action = 'bulk.create' AND outcome = 'done'"


@pytest.fixture
def bulk(pool: Database, tracked: Tracked) -> Iterator[Bulk]:
    """No operation yet. Afterwards rows, counts and the audit must tell no lie."""
    under_way = Bulk(pool, tracked)
    yield under_way
    check_rows(tracked)
    under_way.check()


__all__ = ["Bulk", "State"]
