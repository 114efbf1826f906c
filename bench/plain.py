"""A plain Celery app with the platform's settings for queues, prefetching and acknowledgement, and a no-op task."""

from __future__ import annotations

import os

from celery import Celery

from bench import variables
from bench.witness import leave_mark

broker_url = os.environ[variables.BROKER]

PREFETCH = (
    64  # messages for each process: what Celeriac fetches of such short jobs, and what bare Celery is fastest with
)

app = Celery("bench")
# As in celeriac's celeryconfig.py but for the prefetch; whatever is not named here is Celery's default.
app.conf.update(
    broker_url=broker_url,
    broker_connection_retry_on_startup=True,
    result_backend=os.environ.get(variables.RESULTS) or None,
    task_queue_max_priority=9,
    task_acks_late=True,
    task_reject_on_worker_lost=False,
    worker_prefetch_multiplier=PREFETCH,
)


@app.task(name="bench.noop")
def noop() -> None:
    """Do nothing."""
    leave_mark()
