"""Messages of jobs that their worker has already: judged before Celery makes requests of them.

Celery's worker keeps one request for each id. Of two with the same id it would forget one, and a revocation, or the end
of the other one, would meet the wrong request.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import structlog
from celery.worker import state

from tasks.broker.messages import fence_of
from tasks.platform import Platform
from tasks.worker.answering import Answers
from tracking import jobs
from tracking.models import Fence

log = structlog.get_logger(__name__)

PAUSE = 0.05  # seconds between two looks whether the worker is done with the dispatch before
PATIENCE = 2.0  # seconds until the broker may give the message to another worker


class Repeats:
    """Refuses the same dispatch again, and every older one; a later one waits until the worker is done.

    That takes a moment: a body's end is in its row, and the next message sent, before the pool has told the worker.
    """

    def __init__(self, consumer: Any, answers: Answers, run: Callable[[Any], None]) -> None:
        self._consumer = consumer
        self._platform: Platform = consumer.app.platform
        self._answers = answers
        self._run = run

    def take(self, message: Any, since: float | None = None) -> None:
        """Let Celery have a message of a job of ours, or answer it. `since`: when it came, if it has waited."""
        held = state.requests.get(message.headers["id"])
        if held is None:
            state.successful_requests.discard(message.headers["id"])  # of a body whose success came too late to count
            self._run(message)
        elif _number(message) <= held.fence.dispatch:
            self._refuse(message, held.fence)
        else:
            self._wait(message, time.monotonic() if since is None else since)

    def _wait(self, message: Any, since: float) -> None:
        if time.monotonic() - since < PATIENCE:
            self._consumer.timer.call_after(PAUSE, self.take, (message, since))
        else:
            self._answers.give_back(message)

    def _refuse(self, message: Any, held: Fence) -> None:
        repeated = Fence(held.job_id, _number(message))
        log.info("message.repeated", job_id=str(held.job_id), dispatch=repeated.dispatch)
        worker = str(self._consumer.hostname)
        self._answers.after(message, lambda: self._log(repeated, held, worker), held.job_id)

    def _log(self, fence: Fence, held: Fence, worker: str) -> None:
        with self._platform.database.autocommit() as connection:
            jobs.refuse(connection, fence, held, worker=worker)


def _number(message: Any) -> int:
    fence = fence_of(message.headers["id"], message.headers)
    return fence.dispatch if fence is not None else 0
