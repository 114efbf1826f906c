"""docs/configuration.md about tokens: its commands deny some."""

from __future__ import annotations

import shlex

import pytest
from click.testing import CliRunner

from celeriac.commands.cli import command
from tests.project.test_handler_docs import blocks
from tracking import audit, denied_tokens
from tracking.audit import Sought
from tracking.db import Database
from tracking.settings import settings


@pytest.mark.usefixtures("configured")
def test_the_commands_do_what_they_say(database: Database) -> None:
    """The commands of docs/configuration.md deny a token, a user's older tokens and all of a user's, and list them."""
    (block,) = [block for block in blocks("configuration.md", "sh") if block.startswith("celeriac denied-tokens")]
    results = [CliRunner().invoke(command, shlex.split(line)[1:]) for line in block.splitlines()]
    assert [result.exit_code for result in results] == [0, 0, 0, 0], results[0].output
    assert all(word in results[-1].output for word in ("token 5f3a9c", "on a screenshot", "user ann", "user mallory"))
    with database.autocommit() as connection:
        found = {denial.token_id or denial.user_id: denial for denial in denied_tokens.listed_denials(connection)}
        told = audit.find(connection, Sought(None), before_id=None, size=10)
    assert {entry.target for entry in told if entry.action == "tokens.deny"} == {
        str(each.id) for each in found.values()
    }
    assert (found["ann"].organization_id, found["mallory"].organization_id) == ("acme", None)
    assert [found[who].expires_at is None for who in ("5f3a9c", "ann", "mallory")] == [False, False, True]
    removed = CliRunner().invoke(command, ["denied-tokens", "remove", "--operator", str(found["ann"].id)])
    settings.cache_clear()
    assert removed.exit_code == 0, removed.output
    with database.autocommit() as connection:
        assert len(denied_tokens.listed_denials(connection)) == 2
