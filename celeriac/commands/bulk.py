"""Bulk operations, as the commands begin, wait for and print them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

import click

from celeriac.client import Client
from celeriac.client.answers import Operation
from celeriac.client.bulk import Action, Chosen
from celeriac.commands.screen import Columns, Screen
from tracking.errors import ConfigurationError
from tracking.exit_status import Exit

LOOK_EVERY = 1.0  # seconds
FOR_GOOD = ("cancel", "delete")  # what nobody can take back
FILTERS = Chosen.__optional_keys__

COLUMNS: Columns = {
    "id": lambda operation: operation.id,
    "does": lambda operation: operation.action,
    "is": lambda operation: operation.state,
    "done": lambda operation: f"{operation.counts.succeeded} of {operation.counts.matched} done",
    "undone": lambda operation: f"{operation.counts.refused} refused, {operation.counts.failed} failed",
    "reason": lambda operation: operation.reason,
    "by": lambda operation: operation.user_id,
    "created": lambda operation: operation.created_at,
}


def begin_operation(
    client: Client,
    screen: Screen,
    action: str,
    *,
    ids: Sequence[UUID],
    dry_run: bool,
    yes: bool,
    wait: bool,
    within: float,
    **said: Any,
) -> Exit | None:
    """Begin an operation and print it, or only how many jobs match.

    At a terminal what is for good is asked about first, with how many jobs a filter matches, unless `yes`.
    `wait`: until it has ended, `within` seconds at most; the status says whether every job was done. Raises
    ConfigurationError when nothing says which jobs, and ApiError.
    """
    matching = {name: value for name, value in said.items() if name in FILTERS and value not in (None, ())}
    how = {name: value for name, value in said.items() if name not in FILTERS}
    if bool(ids) == bool(matching):
        raise ConfigurationError("say which jobs: either by --id, or by --status, --search and the like")
    which = Chosen(**matching)  # type: ignore[typeddict-item]  # by their names
    named, verb = list(ids) or None, cast("Action", action)
    if dry_run:
        preview = client.preview(verb, ids=named, **which)
        if screen.as_json:
            screen.json(preview)
        else:
            screen.say(f"{preview.matched} jobs match.")
        return None
    if action in FOR_GOOD and matching and not yes and sys.stdin.isatty():
        _ask(action, client.preview(verb, **which).matched)
    operation = client.begin(verb, ids=named, **how, **which)
    if not wait:
        _print(screen, operation)
        return None
    return _waited(client, screen, operation, within)


def _ask(action: str, matched: int) -> None:
    """Raise UsageError unless somebody says yes."""
    jobs = "1 job" if matched == 1 else f"{matched:,} jobs"
    try:
        click.confirm(f"{action.capitalize()} {jobs}, for good?", abort=True, err=True)
    except click.Abort:
        raise click.UsageError("Nothing was begun; --yes begins without a question.") from None


def _waited(client: Client, screen: Screen, operation: Operation, within: float) -> Exit:
    if not screen.as_json:
        _print(screen, operation)
    ended = client.wait_for(operation.id, within=within, every=LOOK_EVERY)
    screen.rows([ended], COLUMNS)
    is_done = ended.state == "completed" and ended.counts.succeeded == ended.counts.matched
    return Exit.FINE if is_done else Exit.FAILED


def _print(screen: Screen, operation: Operation) -> None:
    if screen.as_json:
        screen.json(operation)
    else:
        screen.say(f"{operation.id}: {operation.counts.matched} jobs.")
