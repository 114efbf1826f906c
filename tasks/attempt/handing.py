"""A plain end that the process of a body hands to its worker's main process, which writes many in one commit.

In their order, so that failures in a row are a row in the history. Only what nobody hears of before it is written: a
handler with a hook for its end, or a listener to Celery's signals of it, is told after the commit, as ever, and its
process makes that by itself.
"""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any, NamedTuple
from uuid import UUID

from celery import Task, signals

from tasks.attempt.outcomes import FINISHED_FIRST, End
from tasks.current import Running
from tracking.identifiers import trace_of
from tracking.models import Attempt, Fence, JsonObject, Outcome, Owner

BYTES = 64 * 1024  # that go through the pool's pipe at the end; larger results go to the database from here

OURS = "celeriac"  # by which Celery knows the platform's own listeners, which hear of every end by themselves

# What Celery calls for an outcome between its end and the next job, and the signals that it sends.
HOOKS = {
    "succeeded": (("on_success", "after_return"), (signals.task_success, signals.task_postrun)),
    "failed": (("on_failure", "after_return"), (signals.task_failure, signals.task_postrun)),
    "retry": (("on_retry", "after_return"), (signals.task_retry, signals.task_postrun)),
}


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


class Offer(NamedTuple):
    """Instead of a Grant: the process is to claim its attempt by itself, and may hand over its end as well."""


class Handed(NamedTuple):
    """What the main process gets instead of the text of a result, or an error, for its events: the outcome as well."""

    told: bytes
    said: Any


def handed(now: Running, end: End, handler: Any) -> bytes | None:
    """What the main process is told of the end of an attempt that it has claimed; None: it is to be written here."""
    outcome = end.outcome
    if not now.is_batched or not end.is_plain or _is_heard(type(handler), outcome.kind):
        return None
    traced = trace_of(now.attempt.delivery)
    own = None if now.is_granted else Grant.of(replace(now.attempt, payload={}, delivery=traced))
    if outcome.kind != "succeeded":
        told = pickle.dumps((own, outcome, end.how))
        return told if len(told) <= BYTES and handler.acks_on_failure else None
    said = (own, outcome.result, outcome.typed_result, outcome.children, outcome.last_news)
    told = pickle.dumps(said) if any(each is not None and each != [] for each in said) else b""
    return told if len(told) <= BYTES else None


def ended(granted: Attempt, told: bytes, actor: str) -> tuple[Attempt, Outcome, str]:
    """The attempt, and the outcome that was handed over in the form in which the pool's pipe has everything, and how.

    `granted`: the attempt, if it was claimed here; if None, its process says which it was, without what it ran.
    """
    said: list[Any]
    own, *said = pickle.loads(told) if told else (None, None, None, (), None)  # noqa: S301 - of our own process
    attempt: Attempt = own.opened() if own is not None else granted
    if isinstance(said[0], Outcome):
        failed, how = said
        return attempt, failed, how
    result, typed, children, news = said
    success = Outcome(attempt.fence, "succeeded", actor, attempt.attempt, result=result, typed_result=typed)
    return attempt, replace(success, children=children, last_news=news) if told else success, FINISHED_FIRST


def _is_heard(cls: type[Any], kind: str) -> bool:
    """Whether anybody is told of it here."""
    hooks, sent = HOOKS[kind]
    if any(getattr(cls, name) is not getattr(Task, name) for name in hooks):
        return True
    return any(key[0] != OURS for signal in sent for key, _ in signal.receivers or ())
