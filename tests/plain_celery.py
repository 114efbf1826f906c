"""Plain Celery with the tasks of the canvases: what ours is compared with."""

from __future__ import annotations

import os

from celery import Celery

app = Celery("plain", include=["tests.canvases.tasks"])
app.conf.update(
    broker_url=os.environ["PLAIN_URL"],
    result_backend=os.environ["PLAIN_URL"],
    broker_connection_retry_on_startup=True,
    task_default_queue="plain",
)
app.set_default()
