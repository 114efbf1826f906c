"""Workers and queues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from pydantic import Field

from api.schemas.answers import Answered
from api.schemas.fields import Milliseconds
from tracking.reads.fleet import QueueState, WorkerState
from tracking.values import Instant


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


class Queue(Answered):
    """A queue."""

    name: str
    workers: int = Field(description="Living ones that consume it.")
    slots: int = Field(description="Jobs that these run at once, of all their queues.")
    running: int
    waiting: int = Field(description="Jobs that were sent to it, or stand in line for a slot.")
    held: int = Field(description="Jobs that wait for something else, such as their time.")
    oldest_waiting_age_ms: Milliseconds | None = Field(validation_alias="oldest")


class Queues(Answered):
    """All queues."""

    queues: list[Queue]

    @classmethod
    def of(cls, found: Sequence[QueueState]) -> Self:
        """These queues as clients see them."""
        return cls(queues=[Queue.model_validate(queue) for queue in found])
