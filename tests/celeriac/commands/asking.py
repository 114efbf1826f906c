"""Commands asked by the two doors: the API of a profile, and the database of an operator."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

from click.testing import CliRunner, Result

from celeriac.commands.cli import command
from tests.api.calling import Caller


@dataclass(frozen=True)
class Door:
    """How the commands of a test reach the platform, and whose jobs they see there."""

    caller: Caller
    arguments: tuple[str, ...]

    def ask(self, *arguments: str, given: str | None = None) -> Result:
        """The result of a command of `celeriac`."""
        return CliRunner().invoke(command, [*arguments, *self.arguments], input=given)

    def lines(self, *arguments: str) -> list[list[str]]:
        """What a command prints that succeeds: its lines, in their parts."""
        result = self.ask(*arguments)
        assert result.exit_code == 0, result.output
        return [line.split("\t") for line in result.stdout.splitlines()]

    def json(self, *arguments: str, given: str | None = None) -> list[dict[str, Any]]:
        """The same as JSON: one object a line."""
        result = self.ask(*arguments, "--json", given=given)
        assert result.exit_code == 0, result.output
        return [json.loads(line) for line in result.stdout.splitlines()]


def environment_of(caller: Caller) -> dict[str, str]:
    """Variables by which a command is that caller at the API."""
    token = caller.headers["Authorization"].removeprefix("Bearer ")
    return {"CELERIAC_URL": caller.api.url, "CELERIAC_TOKEN": token}


def platform_of(caller: Caller, broker_url: str) -> dict[str, str]:
    """Variables by which a command is an operator on the host of that API."""
    return {
        "DATABASE_URL": caller.api.database.engine.url.render_as_string(hide_password=False),
        "BROKER_URL": broker_url,
        "CELERIAC_IMPORTS": "tests.sample_handlers,tests.api.handlers",
        "PATH": os.environ["PATH"],
    }
