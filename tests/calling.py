"""What a call becomes, without a worker: its row, its message, and the arguments of the handler."""

from __future__ import annotations

from typing import Any

from kombu import Connection

from tasks import calls
from tasks.app import JobApp
from tasks.broker.messages import called, publish
from tests.tracked import Tracked
from tracking import jobs
from tracking.admission.rule import UNLIMITED
from tracking.models import Attempt, JobRecord, NewJob, Owner


def nothing() -> None:
    """A handler."""


def row(app: JobApp, name: str, args: Any = None, kwargs: Any = None, **options: Any) -> NewJob:
    """The row that a call would write."""
    return calls.new_job(app, name, args, kwargs, task_id=options.pop("task_id", None), options=options)


def accepted(tracked: Tracked, job: NewJob) -> JobRecord:
    """The row that was written."""
    return jobs.submit(tracked.connection, job, UNLIMITED).job


def arguments(app: JobApp, record: JobRecord) -> list[Any]:
    """Those that a handler is called with, args and kwargs, once the row is claimed."""
    handler: Any = app.tasks.get(record.job_type)
    attempt = Attempt(
        fence=record.fence,
        attempt=1,
        owner=Owner(record.organization_id, record.user_id),
        project_id=None,
        job_type=record.job_type,
        retry_count=0,
        max_retries=0,
        root_id=None,
        group_id=None,
        payload=record.payload,
        delivery=record.delivery,
    )
    call = called(attempt, takes_payload=handler is None or handler.takes_payload)
    return [call["args"], call["kwargs"]]


def message(app: JobApp, record: JobRecord) -> Any:
    """The message that would be sent for a row, as a worker receives it."""
    with Connection("memory://") as connection:
        publish(app, connection.Producer(), record)
        queue = app.amqp.queues[record.queue](connection.default_channel)
        found = queue.get(no_ack=True)
    assert found is not None
    return found
