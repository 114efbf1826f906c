"""The jobs of the chaos run. Their circuits never open: a pause of a minute would hide what happens in it."""

from __future__ import annotations

import time

from celery.exceptions import SoftTimeLimitExceeded

from bench.chaos.witness import witnessed
from tasks import BaseModel, Job, app


class Work(BaseModel):
    """What a job is given: the word of its organization, which nobody else may see, and how long it takes."""

    canary: str
    seconds: float = 0.0
    failures: int = 0


class Done(BaseModel):
    """What a job leaves."""

    canary: str


@app.task(bind=True, pydantic=True, name="chaos.quick", public=True, circuit_failures=0, bundle=True)
def quick(self: Job, payload: Work) -> Done:
    """Do nothing."""
    assert self.job is not None
    with witnessed(self.job):
        return Done(canary=payload.canary)


@app.task(bind=True, pydantic=True, name="chaos.work", public=True, circuit_failures=0)
def work(self: Job, payload: Work) -> Done:
    """Take some time, in steps."""
    assert self.job is not None
    with witnessed(self.job):
        for number in range(1, 5):
            with self.step(f"part {number}", number, of=4):
                time.sleep(payload.seconds / 4)
    return Done(canary=payload.canary)


@app.task(bind=True, pydantic=True, name="chaos.deaf", public=True, circuit_failures=0)
def deaf(self: Job, payload: Work) -> Done:
    """Take some time and return, interrupted or not: the late result of a cancelled job."""
    assert self.job is not None
    with witnessed(self.job):
        until = time.monotonic() + payload.seconds
        while time.monotonic() < until:
            try:
                time.sleep(max(0.0, until - time.monotonic()))
            except SoftTimeLimitExceeded:
                continue
    return Done(canary=payload.canary)


@app.task(
    bind=True,
    pydantic=True,
    name="chaos.flaky",
    public=True,
    autoretry_for=(ConnectionError,),
    retry_backoff=1,
    retry_backoff_max=2,
    max_retries=3,
    circuit_failures=0,
)
def flaky(self: Job, payload: Work) -> Done:
    """Fail as often as asked, with the canary in the error."""
    assert self.job is not None
    with witnessed(self.job):
        if self.request.retries < payload.failures:
            raise ConnectionError(f"{payload.canary} is away")
    return Done(canary=payload.canary)
