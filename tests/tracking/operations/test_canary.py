"""A canary: some jobs are retried first, and the others only when all of these have succeeded in time."""

from __future__ import annotations

from sqlalchemy import text

from tests.tracked import Tracked
from tests.tracking.operations.conftest import Bulk
from tracking.models import JobRecord
from tracking.operated import Action, State
from tracking.operations.values import Operation
from tracking.states import Status


def failed(bulk: Bulk, count: int) -> list[JobRecord]:
    """So many failed jobs, by their ids."""
    return sorted((bulk.tracked.put_into("failed") for _ in range(count)), key=lambda job: job.id)


def tried(bulk: Bulk, operation: Operation) -> list[JobRecord]:
    """The jobs that were tried first."""
    rows = bulk.tracked.connection.execute(
        text("SELECT job_id FROM operation_jobs WHERE operation_id = :id AND is_canary ORDER BY job_id"),
        {"id": operation.id},
    )
    return [bulk.tracked.get(job_id) for job_id in rows.scalars()]


def end(tracked: Tracked, job: JobRecord, kind: str = "succeeded") -> None:
    """Let a job that was retried end."""
    started = tracked.start(job)
    if kind == "failed":
        tracked.fail(started)
    else:
        tracked.end(started)


def test_the_others_wait_for_the_first(bulk: Bulk) -> None:
    """Only the first jobs are retried until all of them have succeeded; then the others are."""
    failed(bulk, 7)
    operation = bulk.finish(bulk.begin(Action.RETRY, canary=3))
    assert (operation.state, operation.succeeded) == (State.CANARY, 3)
    first = tried(bulk, operation)
    for job in first[:2]:
        end(bulk.tracked, job)
    bulk.be_due()
    assert (bulk.finish(operation).state, bulk.get(operation).succeeded) == (State.CANARY, 3)
    end(bulk.tracked, first[2])
    bulk.be_due()
    assert (bulk.finish(operation).state, bulk.get(operation).succeeded) == (State.COMPLETED, 7)


def test_a_failure_among_the_first_stops_it(bulk: Bulk) -> None:
    """When one of the first fails, the operation stops and says which and why, and the others stay as they are."""
    found = failed(bulk, 5)
    operation = bulk.finish(bulk.begin(Action.RETRY, canary=2))
    first = tried(bulk, operation)
    end(bulk.tracked, first[1], "failed")
    bulk.be_due()
    stopped = bulk.finish(operation)
    assert (stopped.state, stopped.succeeded) == (State.STOPPED, 2)
    assert stopped.reason == f"the job {first[1].id} is failed: wrong"
    others = [job for job in found if job.id not in {each.id for each in first}]
    assert [bulk.tracked.get(job.id) for job in others] == others
    assert {bulk.outcomes(operation)[job.id] for job in others} == {None}


def test_a_first_job_that_never_ends_stops_it_in_time(bulk: Bulk) -> None:
    """When one of the first has not ended at the deadline, the operation stops; it does not wait for ever."""
    failed(bulk, 4)
    operation = bulk.finish(bulk.begin(Action.RETRY, canary=2))
    end(bulk.tracked, tried(bulk, operation)[0])
    assert operation.canary_until is not None
    bulk.pass_time()
    stopped = bulk.finish(operation)
    assert (stopped.state, stopped.reason) == (
        State.STOPPED,
        "1 of the 2 jobs that were tried first had not ended in time",
    )


def test_what_cannot_be_retried_is_no_trial(bulk: Bulk) -> None:
    """A job that is refused is not one of the first: another one is tried in its place."""
    found = failed(bulk, 4)
    operation = bulk.begin(Action.RETRY, canary=2)
    bulk.tracked.retry(found[0])
    operation = bulk.finish(operation)
    assert (operation.succeeded, operation.refused) == (2, 1)
    assert [job.id for job in tried(bulk, operation)] == [found[1].id, found[2].id]


def test_fewer_than_the_first_are_all_there_is(bulk: Bulk) -> None:
    """With fewer jobs than are to be tried first, it ends when these have; with none, at once."""
    failed(bulk, 2)
    operation = bulk.finish(bulk.begin(Action.RETRY, canary=5))
    assert operation.state is State.CANARY
    for job in tried(bulk, operation):
        end(bulk.tracked, job)
    bulk.be_due()
    assert bulk.finish(operation).state is State.COMPLETED
    assert bulk.finish(bulk.begin(Action.RETRY, canary=5)).state is State.COMPLETED


def test_a_first_job_that_was_removed_stops_it(bulk: Bulk) -> None:
    """A first job that is gone has not succeeded for anybody to see: the operation stops."""
    failed(bulk, 3)
    operation = bulk.finish(bulk.begin(Action.RETRY, canary=1))
    (job,) = tried(bulk, operation)
    end(bulk.tracked, job)
    bulk.tracked.connection.execute(text("DELETE FROM history WHERE job_id = :id"), {"id": job.id})
    bulk.tracked.connection.execute(text("DELETE FROM jobs WHERE id = :id"), {"id": job.id})
    bulk.be_due()
    assert (bulk.finish(operation).state, bulk.get(operation).succeeded) == (State.STOPPED, 1)


def test_a_first_job_that_backs_off_is_waited_for(bulk: Bulk) -> None:
    """A first job whose attempt failed and will be repeated has not ended."""
    failed(bulk, 2)
    operation = bulk.finish(bulk.begin(Action.RETRY, canary=1))
    (job,) = tried(bulk, operation)
    bulk.tracked.back_off(bulk.tracked.start(job))
    bulk.be_due()
    assert bulk.finish(operation).state is State.CANARY
    assert bulk.tracked.get(job.id).status is Status.RETRYING
