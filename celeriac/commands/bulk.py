"""Bulk operations, as an operator handles them at a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import click
from pydantic import ValidationError
from uuid_utils.compat import uuid7

from api.problems import invalid_by
from api.schemas.operations import BulkRequest
from celeriac.commands.controls import OPERATOR, TERMINAL, TIMEOUT
from celeriac.commands.operations import connected
from tracking.errors import ConfigurationError, TrackingError
from tracking.exits import Exit
from tracking.models import Scope
from tracking.operated import State
from tracking.operations import reads
from tracking.operations.begin import begin, preview
from tracking.operations.values import NewOperation, Operation
from tracking.settings import settings

LOOK_EVERY = 1.0  # seconds
SHOWN = 50  # operations


def begin_operation(action: str, *, organization: str, dry_run: bool, wait: bool, **said: Any) -> Exit | None:
    """Begin an operation on the jobs of an organization and print its id, or only how many jobs match.

    `wait`: until it has ended; the status says whether every job was done. Raises ConfigurationError for what makes no
    sense, and when the organization has its share of operations already.
    """
    with _refusals():
        asked = _asked(action, **said)
        scope = Scope(organization, None)
        with connected(TIMEOUT) as database:
            if dry_run:
                with database.autocommit() as connection:
                    matched, _ = preview(connection, scope, asked.filters)
                click.echo(f"{matched} jobs match.")
                return None
            new = NewOperation(
                id=uuid7(),
                action=asked.action,
                scope=scope,
                user_id=OPERATOR,
                asked=asked.asked,
                priority=asked.priority,
                force=asked.force,
                canary=asked.canary,
            )
            with database.begin() as connection:
                # An operator may do this to jobs of any type, as by the database itself.
                begun = begin(
                    connection,
                    new,
                    asked.filters,
                    at_once=settings().bulk_at_once,
                    judge=lambda _: {},
                    origin=TERMINAL,
                )
            click.echo(f"{begun.operation.id}: {begun.operation.matched} jobs.")
            return _waited(database, begun.operation) if wait else None


def print_operations(organization: str) -> None:
    """Print the newest operations of an organization, one a line."""
    with connected(TIMEOUT) as database, database.autocommit() as connection:
        found = reads.page(connection, Scope(organization, None), states=(), cursor=None, size=SHOWN)
    for each in found.operations:
        click.echo(_line(each))


def abort(operation_id: UUID, organization: str) -> None:
    """End an operation, and print how far it came. Raises ConfigurationError when there is none, or it has ended."""
    with _refusals(), connected(TIMEOUT) as database, database.begin() as connection:
        operation = reads.get(connection, operation_id, Scope(organization, None))
        click.echo(_line(reads.abort(connection, operation, actor=OPERATOR, origin=TERMINAL)))


def _asked(
    action: str,
    *,
    ids: Sequence[UUID],
    status: Sequence[str],
    job_type: str | None,
    project: str | None,
    user: str | None,
    created_from: str | None,
    created_to: str | None,
    search: str | None,
    **how: Any,
) -> BulkRequest:
    """The same as a request of the API. Raises ValidationError, and ConfigurationError when nothing says which jobs."""
    narrowed = {
        "status": list(status),
        "jobType": job_type,
        "projectId": project,
        "userId": user,
        "createdFrom": created_from,
        "createdTo": created_to,
        "q": search,
    }
    narrowed = {name: value for name, value in narrowed.items() if value}
    if bool(ids) == bool(narrowed):
        raise ConfigurationError("say which jobs: either by --id, or by --status, --search and the like")
    which = {"ids": [str(job_id) for job_id in ids]} if ids else {"filter": narrowed}
    return BulkRequest.model_validate({"action": action, **which, **how})


def _waited(database: Any, operation: Operation) -> Exit:
    while operation.is_worked_on:
        time.sleep(LOOK_EVERY)
        with database.autocommit() as connection:
            operation = reads.get(connection, operation.id, operation.scope)
    click.echo(_line(operation))
    is_done = operation.state is State.COMPLETED and operation.succeeded == operation.matched
    return Exit.FINE if is_done else Exit.FAILED


def _line(operation: Operation) -> str:
    undone = f"{operation.refused} refused, {operation.failed} failed"
    counts = f"{operation.succeeded} of {operation.matched} done, {undone}"
    reason = f"  {operation.reason}" if operation.reason else ""
    return f"{operation.id}  {operation.action:<12}  {operation.state:<9}  {counts}{reason}"


@contextmanager
def _refusals() -> Iterator[None]:
    """What an operation cannot be is a wrong use, told in one line."""
    try:
        yield
    except ValidationError as error:
        raise ConfigurationError(str(invalid_by(error, outer=False).detail)) from None
    except ConfigurationError:
        raise
    except TrackingError as error:
        raise ConfigurationError(str(error)) from None
