"""Who removes: the leader, a batch at a turn, or an operator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from celeriac.commands.cli import command
from tasks import app
from tasks.leader.pruning import Pruning
from tests.aged import DAY, ENDS, aged
from tests.handling import workplace
from tests.tracked import SITUATIONS, Tracked
from tracking.db import Database


@pytest.fixture
def configured(pool: Database, tmp_path: Path) -> Iterator[None]:
    """Platform code works on the database of this module."""
    with workplace(pool.engine.url.render_as_string(hide_password=False), tmp_path):
        yield


@pytest.mark.usefixtures("configured")
def test_the_leader_removes_a_batch_at_a_turn(tracked: Tracked) -> None:
    """The leader removes a batch, smaller ones on a slow machine, at each turn until nothing is old."""
    for _ in range(5):
        aged(tracked, "succeeded", 31 * DAY)
    leader, left = Pruning(app.platform, most=2), [5]
    while leader.jobs():
        left.append(len(tracked.all()))
        assert left[-2] - left[-1] in (1, 2)
    assert left[-1] - len(tracked.all()) in (0, 1)
    assert tracked.all() == []


SLOW = """
    CREATE FUNCTION take_long() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF (SELECT count(*) FROM gone) > 2 THEN PERFORM pg_sleep(60); END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER take_long AFTER DELETE ON jobs REFERENCING OLD TABLE AS gone
        FOR EACH STATEMENT EXECUTE FUNCTION take_long()"""


@pytest.fixture
def slow(tracked: Tracked) -> Iterator[Callable[[], None]]:
    """The removal of more than two jobs at once takes too long, until this is called."""

    def end() -> None:
        tracked.connection.execute(text("DROP FUNCTION IF EXISTS take_long CASCADE"))

    tracked.connection.execute(text(SLOW))
    yield end
    end()


def test_the_leader_tries_fewer_when_many_take_too_long(
    pool: Database, tracked: Tracked, slow: Callable[[], None], tmp_path: Path
) -> None:
    """The leader halves its batch at each time-out, and tries as many as before when nothing old is left."""
    url = pool.engine.url.render_as_string(hide_password=False)
    with workplace(url, tmp_path, CELERIAC_STATEMENT_TIMEOUT="1"):
        leader = Pruning(app.platform, most=8)
        for _ in range(6):
            aged(tracked, "succeeded", 31 * DAY)
        left: list[int] = []
        while 0 not in left:
            with suppress(SQLAlchemyError):
                leader.jobs()
            left.append(len(tracked.all()))
        assert left[:2] == [6, 6]
        assert {before - after for before, after in pairwise(left[1:])} <= {1, 2}
        assert not leader.jobs()
        slow()
        for _ in range(5):
            aged(tracked, "succeeded", 31 * DAY)
        assert (leader.jobs(), tracked.all()) == (False, [])


@pytest.mark.usefixtures("configured")
def test_the_command_says_what_it_would_remove_and_removes_it(tracked: Tracked) -> None:
    """`celeriac prune` counts by status and type, and removes what it counted."""
    for situation in SITUATIONS:
        tracked.put_into(situation)
    for situation, kept in ENDS:
        aged(tracked, situation, kept + DAY)
    aged(tracked, "failed", 91 * DAY, job_type="export")
    lines = [["1", "cancelled", "count_words"], ["1", "failed", "count_words"], ["1", "failed", "export"]]
    lines.append(["1", "succeeded", "count_words"])
    would, did, again = (CliRunner().invoke(command, ["prune", *option]) for option in (["--dry-run"], [], []))
    assert [result.exit_code for result in (would, did, again)] == [0, 0, 0]
    *counted, conclusion = would.output.splitlines()
    assert ([line.split() for line in counted], conclusion) == (lines, "Would remove 4 jobs and 0 groups.")
    *counted, conclusion = did.output.splitlines()
    assert ([line.split() for line in counted], conclusion) == (lines, "Removed 4 jobs and 0 groups.")
    assert again.output == "Removed 0 jobs and 0 groups.\n"
    assert len(tracked.all()) == len(SITUATIONS)
