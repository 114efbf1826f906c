"""What an operator does with workflows at a terminal: `celeriac workflows`."""

from __future__ import annotations

from uuid import uuid4

import pytest
from click.testing import CliRunner, Result

from celeriac.commands.cli import command
from tests import sample_handlers
from tests.tracked import Tracked
from tests.workflowing import create, node
from tracking import audit
from tracking.audit import Sought
from tracking.db import Database
from tracking.exit_status import Exit

pytestmark = pytest.mark.usefixtures("configured")
assert sample_handlers.count_words.name == "count_words"  # it is known here

MINE = ("--organization", "acme")


def celeriac(*arguments: str) -> Result:
    """The result of `celeriac workflows`."""
    return CliRunner().invoke(command, ["workflows", *arguments])


def test_workflows_are_listed_shown_cancelled_and_retried(pool: Database, tracked: Tracked) -> None:
    """`celeriac workflows` shows why a job did not run, and its cancel and retry do and tell what the API's do."""
    flow = create(pool, tracked, node("a"), node("b", "a"), node("c"))
    flow.run("a", "failed")
    shown = celeriac("show", str(flow.id), *MINE).output
    assert shown.startswith("nightly: running 66 %, run 1, ")
    assert "skipped" in shown
    assert "its dependency" in shown
    assert str(flow.id) in celeriac("list", *MINE, "--status", "running").output
    assert celeriac("list", *MINE, "--status", "failed").output == ""
    assert celeriac("retry", str(flow.id), *MINE).exit_code == Exit.MISUSED
    assert celeriac("cancel", str(flow.id), *MINE, "--reason", "late").output == "nightly: failed 100 %\n"
    assert flow.now.reason == "late"
    assert celeriac("retry", str(flow.id), *MINE).output.startswith(f"{flow.id}: 3 jobs run again: ")
    celeriac("cancel", str(flow.id), *MINE)
    assert celeriac("retry", str(flow.id), *MINE, "--whole").output.startswith(f"{flow.id}: 3 jobs run again: ")
    with pool.begin() as connection:
        told = audit.find(connection, Sought("acme"), before_id=None, size=20)
    found = [(each.action, each.source) for each in told if each.target == str(flow.id)]
    assert found == [(f"workflow.{verb}", "cli") for verb in ("retry", "cancel", "retry", "cancel", "retry")]


def test_a_workflow_that_there_is_not_is_told(pool: Database, tracked: Tracked) -> None:
    """An unknown id, and one of another organization, is refused with a line that says so."""
    flow = create(pool, tracked, node("a"))
    for arguments in ((str(uuid4()), *MINE), (str(flow.id), "--organization", "globex")):
        for verb in ("show", "cancel", "retry"):
            answer = celeriac(verb, *arguments)
            assert answer.exit_code == Exit.MISUSED
            assert "There is no such workflow" in answer.output
