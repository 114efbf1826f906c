"""The frozen values that enter and leave this package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple, TypedDict
from uuid import UUID

from tracking.origins import Origin
from tracking.states import Hold, OutcomeKind, Status, When

JsonObject = Mapping[str, Any]

UNCALLED = "DependencyEnded"  # the error type of a job that ended with another one that it waited for


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a job is: who may see it, and whose slots it takes."""

    organization_id: str
    user_id: str


@dataclass(frozen=True, slots=True)
class Fence:
    """One dispatch of a job. Whatever carries the number of an earlier one is refused: a message, or an outcome."""

    job_id: UUID
    dispatch: int

    @property
    def parameters(self) -> dict[str, Any]:
        return {"id": self.job_id, "dispatch": self.dispatch}


@dataclass(frozen=True, slots=True)
class Scope:
    """Which jobs a caller may see: of one organization or, EVERYWHERE, of all; of one user unless `user_id` is None."""

    organization_id: str
    user_id: str | None

    @property
    def is_everywhere(self) -> bool:
        return self.organization_id == EVERYWHERE.organization_id

    @property
    def parameters(self) -> dict[str, Any]:
        return {"organization_id": self.organization_id, "user_id": self.user_id}


EVERYWHERE = Scope("", None)  # no organization goes by that name


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to submit.

    One that `follows` a job, or a canvas group, is called with its result; see tracking.successors. `successors`: those
    that follow this one, and what follows them. `begins`: the groups of which it is the first member that is sent, each
    the header of a chord. `joins`: it is a further member of a chord that runs already. `refused`: why its call cannot
    be accepted; its row fails with that. `external`: its work is done elsewhere, so it is never sent; None: if that is
    so of its type by the database. `origin`: from where somebody has asked for it, for the audit. `depends_when`: for
    which end of each of `depends_on` it waits; None: that all succeed. `unresolved`: its payload names results of jobs
    that it waits for, and is filled in when they are there; see tracking.workflows.
    """

    id: UUID
    owner: Owner
    job_type: str
    queue: str
    payload: JsonObject = field(default_factory=dict)
    priority: int = 0
    max_retries: int = 3
    delivery: JsonObject = field(default_factory=dict)
    project_id: str | None = None
    metadata: JsonObject = field(default_factory=dict)
    message: str | None = None
    scheduled_at: datetime | None = None
    delay: timedelta | None = None
    depends_on: Sequence[UUID] = ()
    depends_when: Sequence[When] | None = None
    unresolved: bool = False
    follows: UUID | None = None
    follows_group: str | None = None
    parent_id: UUID | None = None
    root_id: UUID | None = None
    group_id: str | None = None
    group_index: int | None = None
    idempotency_key: str | None = None
    request_hash: str | None = None
    circuit_key: str = ""
    actor: str | None = None
    successors: Sequence[NewJob] = ()
    begins: Sequence[str] = ()
    joins: bool = False
    refused: Failure | None = None
    external: bool | None = False
    origin: Origin | None = None


class Wishes(TypedDict, total=False):
    """What may be said of a new job beside its type, payload and owner, as NewJob has it; None: it is unsaid."""

    priority: int | None
    max_retries: int | None
    scheduled_at: datetime | None
    depends_on: Sequence[UUID] | None
    project_id: str | None
    message: str | None
    metadata: JsonObject | None
    idempotency_key: str | None
    request_hash: str | None


class JobRecord(NamedTuple):
    """One row of `jobs`. A time that is None has not come; `progress` is 0-100.

    `due_at`: when its hold of time ends. `sent_priority`: the priority of its message at the broker. `typed_result`:
    the result in Celery's JSON, when that names types that JSON lacks. `stopping`: it was cancelled, and its body still
    runs. `external`: its work is done elsewhere. `retry_of`: the job that it repeats with another payload.
    """

    id: UUID
    dispatch: int
    organization_id: str
    user_id: str
    project_id: str | None
    job_type: str
    status: Status
    hold: Hold | None
    due_at: datetime | None
    priority: int
    sent_priority: int | None
    queue: str
    attempt: int
    retry_count: int
    max_retries: int
    losses: int
    payload: dict[str, Any]
    metadata: dict[str, Any]
    delivery: dict[str, Any]
    parent_id: UUID | None
    root_id: UUID | None
    group_id: str | None
    group_index: int | None
    result: Any
    typed_result: Any
    error_type: str | None
    error_message: str | None
    message: str | None
    progress: int
    progress_detail: Any
    current_step: int
    total_steps: int
    circuit_key: str
    worker: str | None
    lease: UUID | None
    claim_id: UUID | None
    stopping: bool
    external: bool
    depends_on: list[UUID]
    follows: UUID | None
    follows_group: str | None
    retry_of: UUID | None
    idempotency_key: str | None
    request_hash: str | None
    scheduled_at: datetime | None
    dispatched_at: datetime | None
    cancel_requested_at: datetime | None
    cancel_seen_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    created_at: datetime
    updated_at: datetime

    @property
    def fence(self) -> Fence:
        return Fence(self.id, self.dispatch)

    @property
    def ended_uncalled(self) -> bool:
        """Whether it ended with what it waited for, and lacks arguments: that is to be retried instead."""
        return self.error_type == UNCALLED and (self.follows is not None or self.follows_group is not None)

    @property
    def next_retry_at(self) -> datetime | None:
        """When a retrying job is due again; None in every other status."""
        return self.due_at if self.status is Status.RETRYING else None

    @property
    def duration(self) -> timedelta | None:
        """How long the last attempt took; None unless one has ended."""
        return self.completed_at - self.started_at if self.completed_at and self.started_at else None


@dataclass(frozen=True, slots=True)
class Submitted:
    """The job that a submit led to; `created` is False when it was there already."""

    job: JobRecord
    created: bool


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's wish to run one delivered message. `claim_id` is new for every delivery.

    `job_type`: of the handler that would run; None: whichever the job has.
    """

    fence: Fence
    claim_id: UUID
    worker: str
    lease: UUID | None
    job_type: str | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A claim that was granted: all that the attempt needs to know of its job, and what it is to run.

    `leaves_place`: now the next one in its organization's line may be sent.
    """

    fence: Fence
    attempt: int
    owner: Owner
    project_id: str | None
    job_type: str
    retry_count: int
    max_retries: int
    root_id: UUID | None
    group_id: str | None
    group_index: int | None = None
    parent_id: UUID | None = None
    payload: JsonObject = field(default_factory=dict)
    delivery: JsonObject = field(default_factory=dict)
    leaves_place: bool = False

    @property
    def job_id(self) -> UUID:
        return self.fence.job_id


class Refusal(StrEnum):
    """Why a message was not run. `REPEATED`: its worker had it; `LOCKED`: its job is being changed; ask again."""

    UNKNOWN = "unknown"
    STALE = "stale"
    OTHER_TYPE = "other type"
    REPEATED = "repeated"
    RUNNING = "running"
    HELD = "held"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    LOCKED = "locked"


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong in an attempt; `traceback` and `exception`, class and arguments, are bounded by their maker.

    `blames_payload`: the job itself is wrong, which says nothing of its type and does not count in its circuit.
    """

    type: str
    message: str
    traceback: str | None = None
    exception: JsonObject | None = None
    blames_payload: bool = False


@dataclass(frozen=True, slots=True)
class Milestone:
    """Where a body was when a step began or ended, so long `ago`: history has it though the row has moved on."""

    ago: timedelta
    percent: int
    message: str | None = None
    current_step: int | None = None
    total_steps: int | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """A report from a running body. `percent` and the steps never move the row backwards; None leaves as is.

    `milestones`: those since the last report; `moved_on`: there is news after the last of them, or there is none.
    """

    fence: Fence
    attempt: int
    percent: int | None = None
    message: str | None = None
    detail: Any = None
    current_step: int | None = None
    total_steps: int | None = None
    milestones: Sequence[Milestone] = ()
    moved_on: bool = True


@dataclass(frozen=True, slots=True)
class Report:
    """What somebody says of a job whose work is done elsewhere; None leaves as is.

    `percent` never moves the row backwards, and begins a job that waits. `result`: of one that has succeeded. `error`:
    why it failed or was cancelled.
    """

    status: Status | None = None
    percent: int | None = None
    message: str | None = None
    detail: Any = None
    result: Any = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """What a retry or an edit changes; None leaves as is. `delivery` is merged. `unresolved`: of an edited payload."""

    payload: JsonObject | None = None
    delivery: JsonObject | None = None
    queue: str | None = None
    priority: int | None = None
    max_retries: int | None = None
    circuit_key: str | None = None
    unresolved: bool = False


class Breaker(NamedTuple):
    """How many failures in a row open the circuit of a job, and for how long."""

    failures: int
    pause: timedelta


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended. `attempt` None stands for the only attempt that a dispatch can have had.

    succeeded: `result`, and `typed_result`, the same in Celery's JSON when that names types that JSON lacks.
    failed: `failure`. retry: `failure`, the `delay` until it is due again, and what it `changes`.
    lost: its worker died; it runs again unless it took too many down. released: handed back by its worker, runs again.
    returned: handed back by its handler, which counts as a loss; after too many it fails with `failure`. replaced:
    another task runs in its place, and has still to be called. cancelled: ended by somebody outside the platform, with
    the reason in `failure.message`. `last_news`: what the body said last and nobody has written yet. `children`: the
    results of the tasks that the body sent, in Celery's form. `breaker`: of a failure; None: it opens no circuit.
    """

    fence: Fence
    kind: OutcomeKind
    actor: str
    attempt: int | None = None
    result: Any = None
    typed_result: Any = None
    failure: Failure | None = None
    delay: timedelta = timedelta(0)
    changes: Changes = field(default_factory=Changes)
    last_news: Progress | None = None
    children: Sequence[Any] = ()
    breaker: Breaker | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """An outcome that was accepted, and where the job is now.

    `has_line`: others wait for the slot that it has left; `is_awaited`: they wait for its own end; `is_followed`: they
    wait to be called with its result. `failed_in`: the type and the key of the circuit in which it counts as a failure;
    `has_opened`: it has opened that.
    """

    fence: Fence
    organization_id: str
    status: Status
    has_line: bool = False
    is_awaited: bool = False
    is_followed: bool = False
    failed_in: tuple[str, str] | None = None
    has_opened: bool = False

    @property
    def job_id(self) -> UUID:
        return self.fence.job_id


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A cancel that took effect; `was_running` says that a body must still be stopped."""

    job: JobRecord
    was_running: bool
