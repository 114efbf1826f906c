"""Jobs, as the commands print them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any
from uuid import UUID

import click

from celeriac.client import ApiError, Client
from celeriac.client.answers import Created, Job
from celeriac.client.bulk import Chosen
from celeriac.client.looking import JobWithDetails
from celeriac.commands.names import similar
from celeriac.commands.saying import fault_of_answer
from celeriac.commands.screen import Columns, Screen, clean, lasted
from tasks.tracebacks import parts
from tracking.errors import ConfigurationError
from tracking.exit_status import Exit
from tracking.states import Status


def says(job: Job) -> str | None:
    """The one thing to know of a job: what it reports while it runs, then its error, or else its last report."""
    return job.message if job.status is Status.RUNNING else job.error_message or job.message


COLUMNS: Columns = {
    "id": lambda job: job.id,
    "type": lambda job: job.job_type,
    "status": lambda job: job.status,
    "hold": lambda job: job.hold,
    "priority": lambda job: job.priority,
    "attempt": lambda job: f"{job.attempt}/{job.max_retries + 1}",
    "%": lambda job: job.progress,
    "took": lambda job: lasted(job.duration_ms),
    "user": lambda job: job.user_id,
    "created": lambda job: job.created_at,
    "says": says,
}
LARGEST_PAGE = 100
OF_ATTEMPTS = {"traceback", "exception"}  # what the timeline leaves out: it stands with the attempt
UNKNOWN_JOB_TYPE = "unknown_job_type"  # a code of docs/errors.md


def print_jobs(client: Client, screen: Screen, limit: int, which: Mapping[str, Any]) -> None:
    """Print the newest `limit` jobs that match."""
    matching = Chosen(**{name: value for name, value in which.items() if value not in (None, ())})  # type: ignore[typeddict-item]  # by their names
    found = client.jobs(page_size=min(limit, LARGEST_PAGE), **matching)
    screen.rows(islice(found, limit), COLUMNS, empty="No job matches.")


def created_by(client: Client, job_type: str, **said: Any) -> Created:
    """Have a job made. Raises ConfigurationError for a type that there is not, when another one may be meant."""
    try:
        return client.create(job_type, **said)
    except ApiError as error:
        if error.code != UNKNOWN_JOB_TYPE:
            raise
        hint = similar(job_type, [kind.job_type for kind in client.job_types()])
        if not hint:
            raise
        raise ConfigurationError(f"there is no job type {job_type!r}{hint}") from None


def print_job(client: Client, screen: Screen, job_id: UUID, *, with_libraries: bool) -> None:
    """Print a job with all that is known of it; without libraries their frames are only counted."""
    found = client.details(job_id)
    if screen.as_json:
        screen.json(found)
        return
    screen.one(found, _facts(found))
    _print_attempts(screen, found, with_libraries=with_libraries)
    for entry in found.history:
        told = {name: value for name, value in entry.detail.items() if name not in OF_ATTEMPTS}
        detail = f"  {json.dumps(told, ensure_ascii=False)}" if told else ""
        screen.say(f"{entry.at:%Y-%m-%d %H:%M:%S}  {entry.event:<10}  {entry.actor}{detail}")


def each(screen: Screen, job_ids: Sequence[UUID], verb: Callable[[UUID], object]) -> Exit:
    """Do it to each of them, print what became of it, and say of those that would not. The worst is the status."""
    worst = Exit.FINE
    for job_id in job_ids:
        try:
            became = verb(job_id)
        except ApiError as error:
            fault = fault_of_answer(error)
            if fault.status is not Exit.MISUSED or len(job_ids) == 1:
                raise
            click.echo(f"celeriac: {job_id}: {fault.line}", err=True)
            worst = fault.status
        else:
            if screen.as_json:
                click.echo(json.dumps({"jobId": str(job_id), "became": str(became)}))
            else:
                click.echo(f"{job_id}\t{became}")
    return worst


def _facts(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "type": job.job_type,
        "status": job.status,
        "hold": job.hold,
        "progress": f"{job.progress} %",
        "message": job.message,
        "error": job.error_message,
        "priority": job.priority,
        "attempt": f"{job.attempt} of {job.max_retries + 1}",
        "worker": job.worker,
        "organization": job.organization_id,
        "user": job.user_id,
        "project": job.project_id,
        "after": job.depends_on or None,
        "repeats": job.retry_of,
        "created": job.created_at,
        "scheduled": job.scheduled_at,
        "next retry": job.next_retry_at,
        "started": job.started_at,
        "completed": job.completed_at,
        "took": lasted(job.duration_ms),
        "payload": json.dumps(job.payload, ensure_ascii=False),
        "metadata": json.dumps(job.metadata, ensure_ascii=False) if job.metadata else None,
        "result": None if job.result is None else json.dumps(job.result, ensure_ascii=False),
    }


def _print_attempts(screen: Screen, job: JobWithDetails, *, with_libraries: bool) -> None:
    for attempt in job.attempts:
        ended = attempt.outcome or "running"
        screen.say(f"attempt {attempt.attempt}  {ended:<10}  {attempt.worker}  {attempt.error_type or ''}".rstrip())
        for part in parts(attempt.traceback or attempt.error_message):
            passed = "1 frame" if part.count == 1 else f"{part.count} frames"
            is_shown = with_libraries or part.is_own
            for line in part.text.splitlines() if is_shown else [f"  ... {passed} of libraries, which --frames shows"]:
                click.echo(f"    {clean(line)}")
