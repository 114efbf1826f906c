"""What runs in a worker: `celery -A tasks worker`, and what handlers are written with."""

from tasks.app import app
from tasks.attempt.job import Job
from tasks.payloads import BaseModel
from tasks.worker import signals
from tracking.logs import keep_off_stdout

__all__ = ["BaseModel", "Job", "app", "celery"]

celery = app  # the name that `celery -A tasks` looks for

keep_off_stdout()
signals.connect()
