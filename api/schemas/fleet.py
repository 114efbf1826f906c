"""Workers and queues."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Self

from pydantic import Field, WithJsonSchema

from api.schemas.answers import Answered
from api.schemas.fields import END, Milliseconds
from api.schemas.requests import Asked
from tracking.admission.queue_pauses import QueuePause as QueuePauseRecord
from tracking.reads.fleet import QueueState, WorkerState
from tracking.reads.overview import MOST_READ, By
from tracking.reads.overview import Overview as OverviewRecord
from tracking.values import Instant

LONGEST = timedelta(days=1)
SHORT = r"^(P1D|PT([1-9]|1[0-9]|2[0-4])H|PT[1-9][0-9]{0,2}M|PT[1-9][0-9]{0,3}S)" + END

RecentWindow = Annotated[
    timedelta,
    Field(gt=timedelta(0), le=LONGEST),
    WithJsonSchema({"type": "string", "pattern": SHORT, "examples": ["PT15M", "PT1H"]}),
]


class Worker(Answered):
    """A worker."""

    name: str
    pid: int
    queues: list[str]
    concurrency: int = Field(description="Jobs that it runs at once.")
    running: int
    is_alive: bool = Field(description="false: it has been silent for too long, and its jobs are given to others.")
    started_at: Instant
    seen_at: Instant


class Workers(Answered):
    """All workers, those that live first."""

    workers: list[Worker]

    @classmethod
    def of(cls, found: Sequence[WorkerState]) -> Self:
        """These workers as clients see them."""
        return cls(workers=[Worker.model_validate(worker) for worker in found])


SHOWN = ("name", "workers", "slots", "running", "waiting", "held", "oldest")


class QueuePause(Answered):
    """A pause of a queue: nothing of it starts."""

    paused_by: str
    reason: str | None
    paused_at: Instant


class Queue(Answered):
    """A queue."""

    name: str
    workers: int = Field(description="Living ones that consume it.")
    slots: int = Field(description="Jobs that these run at once, of all their queues.")
    running: int
    waiting: int = Field(description="Jobs that were sent to it, or stand in line for a slot.")
    held: int = Field(description="Jobs that wait for something else, such as their time.")
    oldest_waiting_age_ms: Milliseconds | None = Field(validation_alias="oldest")
    pause: QueuePause | None = Field(description="null: it is not paused.")

    @classmethod
    def of(cls, queue: QueueState) -> Self:
        """The queue as clients see it."""
        pause = None if queue.paused_at is None else QueuePause.model_validate(queue)
        return cls.model_validate({**{name: getattr(queue, name) for name in SHOWN}, "pause": pause})


class QueueHeld(Answered):
    """Whether a queue is paused."""

    name: str
    pause: QueuePause | None = Field(description="null: it is not paused.")

    @classmethod
    def of(cls, name: str, pause: QueuePauseRecord | None) -> Self:
        """The same as clients see it."""
        return cls(name=name, pause=None if pause is None else QueuePause.model_validate(pause))


class Queues(Answered):
    """All queues."""

    queues: list[Queue]

    @classmethod
    def of(cls, found: Sequence[QueueState]) -> Self:
        """These queues as clients see them."""
        return cls(queues=[Queue.of(queue) for queue in found])


class OverviewQuery(Asked):
    """Over which time the jobs that ended are counted, and how many organizations, types and queues are shown."""

    window: RecentWindow = Field(default=timedelta(hours=1), description="ISO 8601, at most a day.")
    limit: int = Field(default=100, ge=1, le=1000, description="Of each; those with most waiting first.")


class Load(Answered):
    """Jobs that wait and run, and those that ended within the window."""

    waiting: int = Field(description="Jobs that were sent, or stand in line for a slot.")
    held: int = Field(description="Jobs that wait for something else, such as their time.")
    running: int
    succeeded: int
    failed: int
    cancelled: int
    failure_rate: float | None = Field(description="The part of those that ended by themselves; null: none has.")
    oldest_waiting_age_ms: Milliseconds | None = Field(validation_alias="oldest")


class NamedLoad(Load):
    """The same of one organization, type or queue."""

    name: str


class Overview(Answered):
    """What waits, runs and fails, in all and by organization, type and queue; those with most waiting first."""

    total: Load
    organizations: list[NamedLoad]
    job_types: list[NamedLoad]
    queues: list[NamedLoad]
    is_capped: bool = Field(description=f"There are more than {MOST_READ:,} active jobs or ends: some are not counted.")

    @classmethod
    def of(cls, found: OverviewRecord, limit: int) -> Self:
        """What was found as clients see it, `limit` of each kind."""

        def by(which: By) -> list[NamedLoad]:
            return [NamedLoad.model_validate(load) for load in found.loads if load.by is which][:limit]

        return cls(
            total=Load.model_validate(next(load for load in found.loads if load.by is None)),
            organizations=by(By.ORGANIZATION),
            job_types=by(By.TYPE),
            queues=by(By.QUEUE),
            is_capped=found.is_capped,
        )
