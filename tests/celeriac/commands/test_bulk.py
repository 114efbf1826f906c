"""What an operator does to many jobs at a terminal: `celeriac bulk`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from click.testing import CliRunner, Result

from celeriac.commands.cli import command
from tests.live import eventually
from tests.tracked import ACME, Tracked
from tracking import audit
from tracking.admission.rule import UNLIMITED
from tracking.audit import Sought
from tracking.db import Database
from tracking.exit_status import Exit
from tracking.operations import reads, work
from tracking.operations.values import Operation
from tracking.states import Status

pytestmark = pytest.mark.usefixtures("configured")
SOME = "019aa0f3-7c1e-7d5a-9f57-3a1f6a0c9d11"
MINE = ("--organization", "acme")


def celeriac(*arguments: str) -> Result:
    """The result of `celeriac bulk`."""
    return CliRunner().invoke(command, ["bulk", *arguments])


def operations(tracked: Tracked) -> list[Operation]:
    """Those of acme, newest first."""
    return list(reads.page(tracked.connection, ACME, states=(), cursor=None, size=10).operations)


def working(pool: Database) -> Callable[[], bool]:
    """What the leader does: one batch, if one is due; whether there was one."""

    def turn() -> bool:
        with pool.begin() as connection:
            operation = work.next_one(connection)
            if operation is not None:
                work.work(connection, operation, UNLIMITED, 10, timedelta(hours=1))
            return operation is not None

    return turn


def test_an_operation_is_begun_listed_and_aborted(tracked: Tracked) -> None:
    """`celeriac bulk` previews, begins, lists and aborts an operation, and the audit tells the operator."""
    job = tracked.put_into("failed")
    tracked.submit()
    assert celeriac("retry", *MINE, "--status", "failed", "--dry-run").output == "1 jobs match.\n"
    assert operations(tracked) == []
    begun = celeriac("retry", *MINE, "--status", "failed", "--priority", "3", "--canary", "2", "--force")
    (operation,) = operations(tracked)
    assert begun.output == f"{operation.id}: 1 jobs.\n"
    assert (operation.priority, operation.canary, operation.force, operation.whose) == (3, 2, True, None)
    assert f"{operation.id}\tretry\tcanary" in celeriac("list", *MINE).output
    assert "aborted by operator" in celeriac("abort", str(operation.id), *MINE).output
    assert tracked.get(job.id) == job
    entries = audit.find(tracked.connection, Sought("acme"), before_id=None, size=10)
    assert [(each.action, each.actor, each.source) for each in entries] == [
        ("bulk.abort", "operator", "cli"),
        ("bulk.create", "operator", "cli"),
    ]


@pytest.mark.parametrize(("situations", "status"), [(("queued", "queued"), Exit.FINE), (("queued", "succeeded"), 1)])
def test_it_can_be_waited_for(pool: Database, tracked: Tracked, situations: tuple[str, ...], status: int) -> None:
    """With --wait it prints the counts at the end, and ends with 1 unless every job was done."""
    ids = [part for each in situations for part in ("--id", str(tracked.put_into(each).id))]
    turn = working(pool)
    leader = threading.Thread(target=lambda: eventually(turn, within=20, what="a batch"))
    leader.start()
    waited = celeriac("cancel", *MINE, *ids, "--wait")
    leader.join()
    assert waited.exit_code == status
    assert "completed" in waited.output.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("cancel", *MINE), "say which jobs"),
        (("cancel", *MINE, "--status", "failed", "--id", SOME), "say which jobs"),
        (("cancel", *MINE, "--created-from", "soon"), "--created-from"),
        (("abort", SOME, *MINE), "There is no such bulk operation"),
    ],
    ids=["none", "both", "no time", "unknown"],
)
def test_what_makes_no_sense_is_refused_in_one_line(tracked: Tracked, arguments: tuple[str, ...], said: str) -> None:
    """What names no jobs, or what is no time, ends with 2 and one line that says so."""
    refused = celeriac(*arguments)
    assert (refused.exit_code, said in refused.stderr) == (Exit.MISUSED, True), refused.output
    assert operations(tracked) == []


def test_other_actions_have_their_commands(pool: Database, tracked: Tracked) -> None:
    """Jobs that wait get another priority, and finished ones are removed."""
    job, gone = tracked.submit(), tracked.run()
    assert celeriac("reprioritize", *MINE, "--job-type", job.job_type, "--priority", "8").exit_code == Exit.FINE
    assert celeriac("delete", *MINE, "--status", "completed").exit_code == Exit.FINE
    turn = working(pool)
    while turn():
        pass
    assert tracked.get(job.id).priority == 8
    assert [each.id for each in tracked.all()] == [job.id]
    assert gone.status is Status.SUCCEEDED
