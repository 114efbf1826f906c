"""Handlers that end in every way, for what follows from it."""

# The stubs know one kind of result.
# mypy: disable-error-code="untyped-decorator,call-overload"

from __future__ import annotations

import os
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from celery import shared_task

from tasks import BaseModel, Job, app


class Number(BaseModel):
    number: int


@shared_task(name="succession.number", pydantic=True)
def number(payload: Number) -> int:
    """Take a payload that a text is not."""
    return payload.number


@shared_task(name="succession.text")
def text(size: int = 1) -> str:
    return "x" * size


@shared_task(name="succession.count")
def count(texts: list[str]) -> int:
    """Count what was handed on."""
    return len(texts)


@shared_task(name="succession.needs", circuit_failures=0, max_retries=3)
def needs(path: str) -> str:
    """Fail until there is such a file."""
    if not Path(path).exists():
        raise FileNotFoundError(path)
    return "found"


@shared_task(name="succession.die", circuit_failures=0)
def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@shared_task(name="succession.sleep", circuit_failures=0)
def sleep(seconds: float) -> None:
    time.sleep(seconds)


@shared_task(name="succession.note")
def note(task_id: str, path: str = "") -> None:
    Path(path).write_text(task_id, encoding="utf-8")


@app.task(bind=True, name="succession.return_and_retry", circuit_failures=0, max_retries=3)
def return_and_retry(self: Job) -> int:
    """Ask for another attempt without saying so by an exception."""
    if self.request.retries < 1:
        self.retry(countdown=0, throw=False)
    return self.request.retries


@app.task(bind=True, name="succession.retry_with", circuit_failures=0, max_retries=3)
def retry_with(self: Job, options: dict[str, Any], seconds: float = 0, *, times: int = 1) -> dict[str, Any]:
    """Ask for another attempt with these options; the last attempt takes so many seconds and tells how it was sent."""
    if self.request.retries < times:
        eta = options.get("eta")
        moment = datetime.now(UTC) + timedelta(seconds=eta) if eta is not None else None
        raise self.retry(exc=ValueError("again"), **{"countdown": 0, **options, **({"eta": moment} if moment else {})})
    time.sleep(seconds)
    delivered: Any = self.request.delivery_info
    return {
        "queue": delivered["routing_key"],
        "priority": delivered["priority"],
        "retries": self.request.retries,
        "limits": self.request.timelimit,
    }
