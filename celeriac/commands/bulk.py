"""Bulk operations, as the commands begin, wait for and print them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

from celeriac.client import Client
from celeriac.client.answers import Operation
from celeriac.client.bulk import Action, Chosen
from celeriac.commands.screen import Columns, Screen
from tracking.errors import ConfigurationError
from tracking.exit_status import Exit

LOOK_EVERY = 1.0  # seconds
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
    wait: bool,
    within: float,
    **said: Any,
) -> Exit | None:
    """Begin an operation and print it, or only how many jobs match.

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
    operation = client.begin(verb, ids=named, **how, **which)
    if not wait:
        _print(screen, operation)
        return None
    return _waited(client, screen, operation, within)


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
