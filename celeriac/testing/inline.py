"""Running a handler in the process of its test, without any server: what it returns, reports and enqueues."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from celeriac import packages

packages.claim(*packages.NEEDED)

from pydantic import BaseModel  # noqa: E402 - now that the packages below are ours

from tasks import observing, submission  # noqa: E402 - as above
from tracking.models import NewJob  # noqa: E402 - as above


@dataclass(frozen=True, slots=True)
class Step:
    """A step that a handler has begun: the `current` of `of`."""

    name: str
    current: int
    of: int


@dataclass(frozen=True, slots=True)
class Enqueued:
    """A job that was sent, and is not in any database. `delay` None: it may start at once."""

    job_type: str
    payload: Mapping[str, Any]
    organization: str
    user: str
    priority: int
    queue: str
    delay: timedelta | None
    scheduled_at: datetime | None
    idempotency_key: str | None

    @classmethod
    def of(cls, job: NewJob) -> Enqueued:
        """The same of what the platform would have accepted."""
        return cls(
            job_type=job.job_type,
            payload=job.payload,
            organization=job.owner.organization_id,
            user=job.owner.user_id,
            priority=job.priority,
            queue=job.queue,
            delay=job.delay,
            scheduled_at=job.scheduled_at,
            idempotency_key=job.idempotency_key,
        )


@dataclass
class Ran:
    """What a handler did: `progress` are the percentages that it reported, `messages` what it said with them."""

    result: Any = None
    steps: list[Step] = field(default_factory=list)
    progress: list[float] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    enqueued: Sequence[Enqueued] = ()

    @property
    def step_names(self) -> list[str]:
        """The names of its steps, in their order."""
        return [step.name for step in self.steps]

    def _hear(self, news: Mapping[str, Any]) -> None:
        message = news.get("message")
        if "current_step" in news:
            self.steps.append(Step(str(message), news["current_step"], news["total_steps"]))
        elif message is not None:
            self.messages.append(message)
        if news.get("percent") is not None:
            self.progress.append(float(news["percent"]))


class Collection(Sequence[Enqueued]):
    """The jobs that were sent so far, in their order."""

    def __init__(self) -> None:
        self._jobs: list[NewJob] = []

    def of(self, job_type: str) -> list[Enqueued]:
        return [each for each in self if each.job_type == job_type]

    def __getitem__(self, index: Any) -> Any:
        found = self._jobs[index]
        return [Enqueued.of(job) for job in found] if isinstance(index, slice) else Enqueued.of(found)

    def __len__(self) -> int:
        return len(self._jobs)

    def __repr__(self) -> str:
        return repr(list(self))


@contextmanager
def collected() -> Iterator[Collection]:
    """Within the block jobs are collected instead of being sent, by whatever means of Celery's; none runs."""
    collection = Collection()
    with submission.collecting(collection._jobs):  # noqa: SLF001 - its own
        yield collection


def run_inline(handler: Any, payload: Any = None) -> Ran:
    """Run a handler here and now, with its payload as a model, or as JSON that is checked as the API checks it.

    What it raises, is raised: also `pydantic.ValidationError` for a payload that the API would refuse with 422.
    """
    ran = Ran()
    with collected() as enqueued, observing.heard(ran._hear):  # noqa: SLF001 - its own
        ran.enqueued = enqueued
        ran.result = _call(handler, payload)
    return ran


def _call(handler: Any, payload: Any) -> Any:
    if payload is None:
        return handler()
    if isinstance(payload, BaseModel):
        return handler(payload)
    whole = handler.validate_payload(payload)
    return handler(whole) if handler.signature_read.takes_object else handler(**whole)
