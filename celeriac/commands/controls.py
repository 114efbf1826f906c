"""What an operator sets at a terminal: limits of organizations, and pauses of jobs and queues."""

from __future__ import annotations

from datetime import UTC

import click

from celeriac.commands import registered
from celeriac.commands.names import similar
from celeriac.commands.operations import connected
from tracking.admission import line, organizations, pauses, queue_pauses, waiting, weights
from tracking.admission.rule import Limits
from tracking.db import Connection
from tracking.errors import ConfigurationError
from tracking.origins import OPERATOR, Origin, Source
from tracking.reads import fleet, seen
from tracking.settings import settings

TERMINAL = Origin(Source.CLI)
TIMEOUT = 30  # seconds for each statement


def show_limit(organization_id: str) -> None:
    """Print an organization's limit, how many of its jobs execute, and how many wait in line."""
    with connected(TIMEOUT) as database, database.autocommit() as connection:
        found = organizations.get(connection, organization_id, Limits.configured(settings()))
        own = waiting.own_limit(connection, organization_id)
        weight = weights.weight(connection, organization_id)
        own_ones = organizations.own(connection, organization_id)
        _note_unseen(connection, organization_id)
    whose = "by default" if found.is_default_limit else "its own limit"
    may_wait = settings().waiting_limit if own is None else own
    click.echo(f"limit      {found.limit or 'none'} ({whose})")
    click.echo(f"executing  {found.executing}")
    click.echo(f"in line    {found.in_line}")
    click.echo(f"weight     {weight}")
    click.echo(f"may wait   {may_wait or 'any number'} ({'by default' if own is None else 'its own limit'})")
    for each in own_ones:
        click.echo(
            f"set        {each.name}, by {each.changed_by} at {each.changed_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        )


def set_limit(organization_id: str, concurrency: int | None) -> None:
    """Set the limit of an organization; 0 = any number, None = the platform's limit."""
    with connected(TIMEOUT) as database, database.begin() as connection:
        if concurrency is None:
            limits = Limits.configured(settings())
            line.reset_limit(connection, organization_id, limits, actor=OPERATOR, origin=TERMINAL)
        else:
            line.set_limit(connection, organization_id, concurrency, actor=OPERATOR, origin=TERMINAL)


def set_waiting_limit(organization_id: str, most: int | None) -> None:
    """Set how many jobs of an organization may wait; 0 = any number, None = the platform's limit."""
    with connected(TIMEOUT) as database, database.begin() as connection:
        waiting.set_limit(connection, organization_id, most, actor=OPERATOR, origin=TERMINAL)


def set_weight(organization_id: str, weight: int | None) -> None:
    """Set how many jobs of an organization are served while one of another is; None = 1."""
    with connected(TIMEOUT) as database, database.begin() as connection:
        weights.set_weight(connection, organization_id, weight, actor=OPERATOR, origin=TERMINAL)


def pause_jobs(organization_id: str | None, job_type: str | None, reason: str | None) -> None:
    """Pause these jobs, None standing for all, and say whether they were already.

    Raises ConfigurationError for a type that no handler and no job has.
    """
    given = {"organization_id": organization_id, "job_type": job_type}
    with connected(TIMEOUT) as database, database.begin() as connection:
        _require_known(connection, job_type)
        is_new = pauses.pause(connection, **given, actor=OPERATOR, reason=reason, origin=TERMINAL)
        _note_unseen(connection, organization_id)
    click.echo(f"{_named(organization_id, job_type)}: {'paused' if is_new else 'were paused already'}.")


def resume_jobs(organization_id: str | None, job_type: str | None) -> None:
    """End the pause of these jobs, and say whether there was one. Raises ConfigurationError like `pause_jobs`."""
    given = {"organization_id": organization_id, "job_type": job_type}
    with connected(TIMEOUT) as database, database.begin() as connection:
        _require_known(connection, job_type)
        was_paused = pauses.resume(connection, **given, actor=OPERATOR, origin=TERMINAL)
        _note_unseen(connection, organization_id)
    click.echo(f"{_named(organization_id, job_type)}: {'resumed' if was_paused else 'were not paused so'}.")


def pause_queue(queue: str, reason: str | None) -> None:
    """Pause a queue, and say whether it was already. Raises ConfigurationError for one that nobody has heard of."""
    with connected(TIMEOUT) as database, database.begin() as connection:
        _require_queue(connection, queue)
        is_new = queue_pauses.pause(connection, queue=queue, actor=OPERATOR, reason=reason, origin=TERMINAL)
    click.echo(f"The queue {queue}: {'paused' if is_new else 'was paused already'}.")


def resume_queue(queue: str) -> None:
    """End the pause of a queue, and say whether there was one."""
    with connected(TIMEOUT) as database, database.begin() as connection:
        was_paused = queue_pauses.resume(connection, queue=queue, actor=OPERATOR, origin=TERMINAL)
        if not was_paused:
            _require_queue(connection, queue)
    click.echo(f"The queue {queue}: {'resumed' if was_paused else 'was not paused'}.")


def _require_queue(connection: Connection, queue: str) -> None:
    patience = Limits.configured(settings()).lease_timeout
    if not fleet.is_known(connection, queue, patience):
        hint = similar(queue, {each.name for each in fleet.all_queues(connection, patience)})
        raise ConfigurationError(f"no living worker consumes the queue {queue!r}, and no job waits in it{hint}")


def _require_known(connection: Connection, job_type: str | None) -> None:
    if job_type is None:
        return
    found = seen.job_types(connection)
    if job_type not in found and job_type not in (known := found | registered.job_types()):
        hint = similar(job_type, known) or "; handlers of your own are those of CELERIAC_IMPORTS"
        raise ConfigurationError(f"no handler and no job is of the type {job_type!r}{hint}")


def _note_unseen(connection: Connection, organization_id: str | None) -> None:
    """Print a note when no job of the organization is known: the name may be misspelt."""
    if organization_id is None or organization_id in (found := seen.organizations(connection)):
        return
    hint = similar(organization_id, found)
    click.echo(f"celeriac: note: no job of {organization_id!r} was seen yet{hint}", err=True)


def _named(organization_id: str | None, job_type: str | None) -> str:
    what = f"Jobs of type {job_type}" if job_type else "All jobs"
    return f"{what} of {organization_id or 'all organizations'}"
