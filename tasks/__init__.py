"""What runs in a worker: `celery -A tasks worker`, and what handlers are written with."""

from tasks import signals
from tasks.app import app
from tasks.base import Job
from tasks.payloads import BaseModel
from tracking.logs import keep_off_stdout

__all__ = ["BaseModel", "Job", "app", "celery"]

celery = app  # the name that `celery -A tasks` looks for

keep_off_stdout()
signals.connect()
