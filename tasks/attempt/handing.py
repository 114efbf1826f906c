"""A plain success that the process of a body hands to its worker's main process, which writes many in one commit.

Only what nobody hears of before it is written: a handler with a hook for its success, or a listener to Celery's
signals of it, is told after the commit, as ever, and its process makes that by itself.
"""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any, NamedTuple
from uuid import UUID

from celery import Task, signals

from tasks.attempt.outcomes import End
from tasks.current import Running
from tracking.models import Attempt, Fence, JsonObject, Outcome, Owner

BYTES = 64 * 1024  # that go through the pool's pipe at the end; larger results go to the database from here

# What Celery calls for a success between its end and the next job.
HOOKS = ("on_success", "after_return")


class Grant(NamedTuple):
    """An attempt on its way through the pool's pipe; in this form it takes a third of the time to pack.

    No message holds a value of this kind, whatever its sender writes.
    """

    job_id: int
    dispatch: int
    attempt: int
    owner: tuple[str, str]
    project_id: str | None
    job_type: str
    retries: tuple[int, int]
    root_id: int | None
    group: tuple[str | None, int | None]
    parent_id: int | None
    payload: JsonObject
    delivery: JsonObject

    @classmethod
    def of(cls, attempt: Attempt) -> Grant:
        """What is sent."""
        owner, root, parent = attempt.owner, attempt.root_id, attempt.parent_id
        return cls(
            attempt.job_id.int,
            attempt.fence.dispatch,
            attempt.attempt,
            (owner.organization_id, owner.user_id),
            attempt.project_id,
            attempt.job_type,
            (attempt.retry_count, attempt.max_retries),
            root.int if root else None,
            (attempt.group_id, attempt.group_index),
            parent.int if parent else None,
            attempt.payload,
            attempt.delivery,
        )

    def opened(self) -> Attempt:
        """What is received; that it leaves a place in its line the main process has seen to."""
        return Attempt(
            Fence(UUID(int=self.job_id), self.dispatch),
            self.attempt,
            Owner(*self.owner),
            self.project_id,
            self.job_type,
            *self.retries,
            UUID(int=self.root_id) if self.root_id is not None else None,
            *self.group,
            UUID(int=self.parent_id) if self.parent_id is not None else None,
            self.payload,
            self.delivery,
        )


class Handed(NamedTuple):
    """What the main process gets instead of the text of a result, which is for its events: the outcome as well."""

    told: bytes
    text: str


def handed(now: Running, end: End, handler: Any) -> bytes | None:
    """What the main process is told of the end of an attempt that it has claimed; None: it is to be written here."""
    if not now.is_batched or not end.is_plain:
        return None
    if signals.task_success.receivers or signals.task_postrun.receivers or _has_hooks(type(handler)):
        return None
    outcome = end.outcome
    said = (outcome.result, outcome.typed_result, outcome.children, outcome.last_news)
    told = pickle.dumps(said) if any(each is not None and each != [] for each in said) else b""
    return told if len(told) <= BYTES else None


def outcome_of(attempt: Attempt, told: bytes, actor: str) -> Outcome:
    """The outcome that was handed over, in the form in which the pool's pipe has everything."""
    result, typed, children, news = pickle.loads(told) if told else (None, None, (), None)  # noqa: S301 - of our own process
    success = Outcome(attempt.fence, "succeeded", actor, attempt.attempt, result=result, typed_result=typed)
    return replace(success, children=children, last_news=news) if told else success


def _has_hooks(cls: type[Any]) -> bool:
    return any(getattr(cls, name) is not getattr(Task, name) for name in HOOKS)
