"""What an operator sets at a terminal: limits of organizations, and pauses."""

from __future__ import annotations

import click

from celeriac.commands import registered
from celeriac.commands.operations import connected
from tracking.admission import line, organizations, pauses, waiting
from tracking.admission.rule import Limits
from tracking.db import Connection
from tracking.errors import ConfigurationError
from tracking.origins import Origin, Source
from tracking.reads import seen
from tracking.settings import settings

OPERATOR = "operator"
TERMINAL = Origin(Source.CLI)
TIMEOUT = 30  # seconds for each statement


def show_limit(organization_id: str) -> None:
    """Print an organization's limit, how many of its jobs execute, and how many wait in line."""
    with connected(TIMEOUT) as database, database.autocommit() as connection:
        found = organizations.get(connection, organization_id, Limits.configured(settings()))
        own = waiting.own_limit(connection, organization_id)
        _note_unseen(connection, organization_id)
    whose = "by default" if found.is_default_limit else "its own limit"
    may_wait = settings().waiting_limit if own is None else own
    click.echo(f"limit      {found.limit or 'none'} ({whose})")
    click.echo(f"executing  {found.executing}")
    click.echo(f"in line    {found.in_line}")
    click.echo(f"may wait   {may_wait or 'any number'} ({'by default' if own is None else 'its own limit'})")


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


def _require_known(connection: Connection, job_type: str | None) -> None:
    if job_type is None:
        return
    found = seen.job_types(connection)
    if job_type not in found and job_type not in (known := found | registered.job_types()):
        hint = registered.similar(job_type, known) or "; handlers of your own are those of CELERIAC_IMPORTS"
        raise ConfigurationError(f"no handler and no job is of the type {job_type!r}{hint}")


def _note_unseen(connection: Connection, organization_id: str | None) -> None:
    """Print a note when no job of the organization is known: the name may be misspelt."""
    if organization_id is None or organization_id in (found := seen.organizations(connection)):
        return
    hint = registered.similar(organization_id, found)
    click.echo(f"celeriac: note: no job of {organization_id!r} was seen yet{hint}", err=True)


def _named(organization_id: str | None, job_type: str | None) -> str:
    what = f"Jobs of type {job_type}" if job_type else "All jobs"
    return f"{what} of {organization_id or 'all organizations'}"
