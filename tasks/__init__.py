"""What runs in a worker: `celery -A tasks worker`, and what handlers are written with."""

from pathlib import Path

import tracking

if Path(str(tracking.__file__)).resolve().parents[1] != Path(__file__).resolve().parents[1]:
    raise ImportError(f"{tracking.__file__} has the name of a package that Celeriac needs: rename it")

from tasks.app import app
from tasks.attempt.job import Job
from tasks.payloads import BaseModel
from tasks.worker import signals
from tracking.logs import keep_off_stdout

__all__ = ["BaseModel", "Job", "app", "celery", "track"]

track = app.track
celery = app  # the name that `celery -A tasks` looks for

keep_off_stdout()
signals.connect()
