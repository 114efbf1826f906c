"""docs/failures.md: what it calls alike is alike, its request is one, and its commands are."""

from __future__ import annotations

import shlex

import click
from sqlalchemy import text

from api.schemas.operations import BulkRequest
from celeriac.commands.cli import command
from tests.project.test_handler_docs import blocks
from tests.tracked import Tracked

PAGE = "failures.md"


def test_the_errors_of_the_page_are_alike(tracked: Tracked) -> None:
    """The three errors of docs/failures.md have one fingerprint."""
    lines = blocks(PAGE, "")[0].splitlines()
    prints = {
        tracked.connection.execute(
            text("SELECT error_fingerprint('t', :kind, :says)"),
            dict(zip(("kind", "says"), line.split(": ", 1), strict=True)),
        ).scalar_one()
        for line in lines
    }
    assert (len(lines), len(prints)) == (3, 1)


def test_the_request_retries_a_group() -> None:
    """The request of docs/failures.md is a retry with a canary, of what failed alike."""
    asked = BulkRequest.model_validate_json(blocks(PAGE, "json")[0])
    assert (asked.action, asked.filters.error, asked.canary) == ("retry", "0f3a19aa1e7c4d5a", 5)


def test_the_commands_are_commands() -> None:
    """The commands of docs/failures.md have the options that they are given."""
    lines = [shlex.split(line)[1:] for line in blocks(PAGE, "sh")[0].splitlines()]
    for line in lines:
        context, rest = click.Context(command), line
        found: click.Command = command
        while isinstance(found, click.Group):
            name, inner, rest = found.resolve_command(context, rest)
            assert inner is not None
            context, found = click.Context(inner, parent=context, info_name=name), inner
        found.parse_args(context, rest)
    assert len(lines) == 4
