"""canary: a job that does nothing, for as long as it is asked to. `celeriac doctor` makes these jobs."""

from __future__ import annotations

import time

from pydantic import Field

from tasks import BaseModel, Job, app

LONGEST = 30  # seconds
PAUSE = 2.0  # seconds between two looks whether it was cancelled, for threads, which no signal reaches


class Canary(BaseModel):
    """For how many seconds it goes on."""

    seconds: float = Field(default=0, ge=0, le=LONGEST)


class Sang(BaseModel):
    """It has run."""

    worker: str


@app.task(bind=True, pydantic=True, name="canary", max_retries=0, soft_time_limit=2 * LONGEST, time_limit=3 * LONGEST)
def canary(self: Job, payload: Canary) -> Sang:
    """Wait, ready to be cancelled."""
    until = time.monotonic() + payload.seconds
    if payload.seconds:
        self.progress(0, "it sings")  # so that its cancel meets a body: one that has not begun is never interrupted
    while (rest := until - time.monotonic()) > 0:
        time.sleep(min(PAUSE, rest))  # in a process, an interrupt ends it here, long before it asks
        if not self.still_mine():
            break
    return Sang(worker=str(self.request.hostname))
