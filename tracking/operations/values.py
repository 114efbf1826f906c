"""The frozen values of bulk operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from tracking.models import Scope
from tracking.operated import WORKED_ON, Action, Outcome, State


@dataclass(frozen=True, slots=True)
class NewOperation:
    """An operation that somebody asks for. `asked`: its filter as they gave it, or how many ids, for those who look.

    `named`: jobs that were asked for by their ids, each of which gets an outcome, also where there is none of that id.
    `priority`: that its jobs get; None: their own. `canary`: so many are retried first; None: all at once.
    """

    id: UUID
    action: Action
    scope: Scope
    user_id: str
    asked: Mapping[str, Any]
    named: Sequence[UUID] = ()
    priority: int | None = None
    force: bool = False
    canary: int | None = None
    idempotency_key: str | None = None
    request_hash: str | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One row of `operations`. `whose` None: the jobs of the whole organization.

    `denied`: types whose jobs it refuses, each with its code. `canary_until`: when the jobs that were retried first
    must have ended; None: not all of them are retried yet. `worked_to`: the last job of this round; None: it begins.
    """

    id: UUID
    organization_id: str
    user_id: str
    whose: str | None
    action: Action
    asked: Mapping[str, Any]
    priority: int | None
    force: bool
    denied: Mapping[str, str]
    canary: int | None
    canary_until: datetime | None
    state: State
    reason: str | None
    matched: int
    succeeded: int
    refused: int
    failed: int
    worked_to: UUID | None
    worked_at: datetime | None
    due_at: datetime
    idempotency_key: str | None
    request_hash: str | None
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None

    @classmethod
    def of(cls, row: Any) -> Self:
        """The operation of a row with these columns."""
        known = {name: getattr(row, name) for name in cls.__dataclass_fields__}
        return cls(**{**known, "action": Action(row.action), "state": State(row.state)})

    @property
    def scope(self) -> Scope:
        """The jobs that it may touch."""
        return Scope(self.organization_id, self.whose)

    @property
    def done(self) -> int:
        """How many of its jobs have an outcome."""
        return self.succeeded + self.refused + self.failed

    @property
    def progress(self) -> int:
        """In percent; 100 only when every job has an outcome."""
        return 100 * self.done // self.matched if self.matched else 100

    @property
    def is_worked_on(self) -> bool:
        return self.state in WORKED_ON


@dataclass(frozen=True, slots=True)
class Begun:
    """The operation that a request led to; `created` is False when an earlier one with the same key has made it."""

    operation: Operation
    created: bool


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one job. `outcome` None: nothing yet. `code` and `detail`: why it was refused, or has failed."""

    job_id: UUID
    outcome: Outcome | None
    code: str | None = None
    detail: str | None = None
    is_canary: bool = False
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Results:
    """A page of results, by the ids of the jobs. `next_cursor` None: nothing follows."""

    results: Sequence[Result]
    next_cursor: UUID | None


@dataclass(frozen=True, slots=True)
class Operations:
    """A page of operations, newest first. `next_cursor` None: nothing follows."""

    operations: Sequence[Operation] = field(default_factory=tuple)
    next_cursor: UUID | None = None
