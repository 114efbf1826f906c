"""What a bulk operation is, as data: what it does, where it is, and what became of each of its jobs."""

from __future__ import annotations

from enum import StrEnum


class Action(StrEnum):
    """The verb that it applies to each of its jobs."""

    CANCEL = "cancel"
    RETRY = "retry"
    DELETE = "delete"
    REPRIORITIZE = "reprioritize"


class State(StrEnum):
    """Where it is. CANARY: some of its jobs are retried first, and the others wait for their ends."""

    CANARY = "canary"
    RUNNING = "running"
    COMPLETED = "completed"
    STOPPED = "stopped"
    ABORTED = "aborted"


class Outcome(StrEnum):
    """What became of one of its jobs. REFUSED: the job did not allow it; FAILED: the database did not take it."""

    SUCCEEDED = "succeeded"
    REFUSED = "refused"
    FAILED = "failed"


WORKED_ON = (State.CANARY, State.RUNNING)
PENDING = "pending"  # of a job that has no outcome yet
