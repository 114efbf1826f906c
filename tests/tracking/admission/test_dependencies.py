"""Dependencies: what waits for other jobs, and what becomes of it when they end."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest
from sqlalchemy import text

from tests.holding import GLOBEX, Limited
from tests.tracked import HOUR, Tracked, new_job, wish
from tracking import jobs
from tracking.admission.rule import UNLIMITED
from tracking.db import Database
from tracking.errors import InvalidValue, UnknownDependency
from tracking.models import JobRecord, Refusal, Scope
from tracking.states import Status


def test_a_job_runs_when_all_that_it_depends_on_have_succeeded(free: Limited, tracked: Tracked) -> None:
    """A job is sent after the last of its dependencies has succeeded, and not before."""
    first, second = free.start(2)
    job = free.submit(depends_on=[first.id, second.id])
    assert job.hold == "dependency"
    assert jobs.claim(tracked.connection, [wish(job.fence)]) == [Refusal.HELD]
    tracked.end(first)
    assert free.after(first) == []
    tracked.end(second)
    assert free.after(second) == [job.id]
    assert tracked.start(job).status is Status.RUNNING


def test_what_was_missed_at_the_moment_itself_is_found_by_the_leader(free: Limited, tracked: Tracked) -> None:
    """The leader lets a dependent job through whose dependency's process died."""
    done, failed = free.start(2)
    goes, ends = free.submit(depends_on=[done.id]), free.submit(depends_on=[failed.id])
    tracked.end(done)
    tracked.fail(failed)
    assert free.turn() == [goes.id]
    assert tracked.get(ends.id).status is Status.CANCELLED


def test_a_dependency_that_has_succeeded_already_is_no_hold(free: Limited, tracked: Tracked) -> None:
    """A dependency that has succeeded before the submit holds nothing."""
    assert free.submit(depends_on=[tracked.run().id]).hold is None


def test_a_dependency_that_ends_between_the_submit_and_the_look_is_seen(free: Limited, tracked: Tracked) -> None:
    """A dependency that ends while a dependent job is submitted is seen by the look after the commit."""
    dependency = tracked.start(free.submit())
    job = free.submit(depends_on=[dependency.id])
    tracked.end(dependency)
    assert free.after(job) == []
    assert free.after(dependency) == [job.id]


def test_an_attempt_that_will_be_repeated_ends_nobodys_wait(free: Limited, tracked: Tracked) -> None:
    """An attempt that will be repeated neither releases nor cancels dependent jobs."""
    dependency = tracked.start(free.submit())
    job = free.submit(depends_on=[dependency.id])
    tracked.back_off(dependency)
    free.turn()
    assert tracked.get(job.id).hold == "dependency"


BREAKS: dict[str, Callable[[Tracked, JobRecord], object]] = {"failed": Tracked.fail, "cancelled": Tracked.cancel}


@pytest.mark.parametrize("how", BREAKS)
def test_what_depends_on_a_job_that_did_not_succeed_is_cancelled(free: Limited, tracked: Tracked, how: str) -> None:
    """Jobs that depend on a failed or cancelled one, also through others, are cancelled and say why."""
    dependency = tracked.start(free.submit())
    child = free.submit(depends_on=[dependency.id])
    grandchild = free.submit(depends_on=[child.id], delay=HOUR)
    stranger = free.submit(depends_on=[free.submit().id])
    BREAKS[how](tracked, dependency)
    free.after(dependency)
    child, grandchild = tracked.get(child.id), tracked.get(grandchild.id)
    assert (child.status, child.error_message) == ("cancelled", f"its dependency {dependency.id} is {how}")
    assert (grandchild.status, grandchild.error_message) == ("cancelled", f"its dependency {child.id} is cancelled")
    assert tracked.history(child)[-1].detail["reason"] == child.error_message
    assert tracked.get(stranger.id).hold == "dependency"


def test_what_depends_on_a_job_that_is_gone_is_cancelled(free: Limited, tracked: Tracked) -> None:
    """A job whose dependency was removed is cancelled."""
    dependency = free.submit()
    job = free.submit(depends_on=[dependency.id])
    tracked.connection.execute(text("DELETE FROM jobs WHERE id = :id"), {"id": dependency.id})
    tracked.connection.execute(text("DELETE FROM history WHERE job_id = :id"), {"id": dependency.id})
    free.turn()
    assert tracked.get(job.id).error_message == f"its dependency {dependency.id} is gone"


def test_a_long_chain_is_cancelled_in_one_turn(free: Limited, tracked: Tracked) -> None:
    """A long chain of dependent jobs is cancelled in one turn."""
    chain = [free.submit()]
    for _ in range(20):
        chain.append(free.submit(depends_on=[chain[-1].id]))
    tracked.cancel(chain[0])
    free.after(chain[0])
    assert {tracked.get(job.id).status for job in chain} == {Status.CANCELLED}


def test_nobody_depends_on_itself(free: Limited) -> None:
    """A job can depend neither on itself nor on one that does not exist."""
    own = uuid4()
    with pytest.raises(InvalidValue, match="itself"):
        free.submit(id=own, depends_on=[own])
    with pytest.raises(UnknownDependency):
        free.submit(depends_on=[uuid4()])
    assert free.tracked.all() == []


def test_nobody_depends_on_what_it_may_not_see(free: Limited, pool: Database) -> None:
    """A job cannot depend on another organization's job, or a user's on another user's."""
    foreign = free.submit(owner=GLOBEX)
    with pytest.raises(UnknownDependency):
        free.submit(depends_on=[foreign.id])
    mine = free.submit()
    with pool.begin() as connection, pytest.raises(UnknownDependency):
        jobs.submit(connection, new_job(depends_on=[mine.id]), UNLIMITED, scope=Scope("acme", "u2"))


def test_a_retry_does_not_ask_again_for_dependencies_that_were_fulfilled(free: Limited, tracked: Tracked) -> None:
    """A retry of a job that has run does not wait for its dependencies again."""
    dependency = tracked.run()
    job = tracked.fail(tracked.start(free.submit(depends_on=[dependency.id])))
    tracked.connection.execute(text("DELETE FROM jobs WHERE id = :id"), {"id": dependency.id})
    assert free.retry(job).hold is None


def test_a_retry_of_what_its_dependency_ended_waits_for_it_again(free: Limited, tracked: Tracked) -> None:
    """A retry of a job that ended with its dependency waits for that again."""
    dependency = tracked.start(free.submit())
    job = free.submit(depends_on=[dependency.id])
    tracked.fail(dependency)
    free.after(dependency)
    free.retry(dependency)
    assert free.retry(job).hold == "dependency"
    free.turn()
    tracked.end(tracked.start(tracked.get(dependency.id)))
    assert free.after(dependency) == [job.id]
