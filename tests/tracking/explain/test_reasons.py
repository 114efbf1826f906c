"""Why a job does not run: every reason that holds now, the one that matters first."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import delete

from tests.explaining import U1, asked, kinds, known, only
from tests.holding import MINUTE, Limited
from tests.tracked import ACME, HOUR, Tracked
from tracking import jobs, workers
from tracking.admission.rule import Limits
from tracking.errors import JobNotFound
from tracking.models import Owner, Scope
from tracking.reads.explain import explain
from tracking.reads.reasons import (
    BackOff,
    Cancelled,
    CircuitOpen,
    Dependency,
    Failed,
    Paused,
    Running,
    Scheduled,
    Stopping,
    Succeeded,
)
from tracking.schema import jobs as table
from tracking.states import Status


def test_a_job_outside_of_the_scope_does_not_exist(tracked: Tracked) -> None:
    """Explaining a job outside of the scope raises JobNotFound."""
    job = tracked.submit()
    for job_id, scope in ((job.id, Scope("acme", "u2")), (job.id, Scope("globex", None)), (uuid4(), ACME)):
        with pytest.raises(JobNotFound):
            explain(tracked.connection, job_id, scope, Limits(0))


def test_dependencies_that_have_not_succeeded_are_named_with_their_status(platform: Limited) -> None:
    """Unfulfilled dependencies are named with their status, and the others counted."""
    done, running, queued = platform.tracked.run(), *platform.start(1), platform.submit()
    job = platform.submit(depends_on=[done.id, running.id, queued.id])
    reason = only(platform.tracked, job)
    assert isinstance(reason, Dependency)
    assert (reason.total, reason.unfinished) == (3, 2)
    assert [(each.job_id, each.status) for each in reason.jobs] == [(running.id, "running"), (queued.id, "queued")]


def test_a_dependency_of_another_user_is_counted_and_not_named(platform: Limited) -> None:
    """A dependency of another user is counted, and named only to callers who see the organization."""
    other = platform.submit(owner=Owner("acme", "u2"))
    job = platform.submit(depends_on=[other.id])
    assert (only(platform.tracked, job, U1).unfinished, only(platform.tracked, job, U1).jobs) == (1, [])
    assert [each.job_id for each in only(platform.tracked, job).jobs] == [other.id]


def test_a_job_that_has_started_once_does_not_wait_for_its_dependencies_again(platform: Limited) -> None:
    """A job that has run once is not explained by its dependencies."""
    needed = platform.tracked.run()
    job = platform.tracked.back_off(platform.tracked.start(platform.submit(depends_on=[needed.id])))
    platform.tracked.connection.execute(delete(table).where(table.c.id == needed.id))
    assert kinds(platform.tracked, job) == ["backoff"]


def test_a_scheduled_job_is_told_when_it_is_due(platform: Limited) -> None:
    """The explanation of a scheduled job has the time of its row."""
    job = platform.submit(delay=HOUR)
    assert only(platform.tracked, job) == Scheduled(known(job.due_at))


def test_a_job_that_backs_off_is_told_its_error_and_when_it_is_due(platform: Limited) -> None:
    """The explanation of a retrying job has its attempt, its error and its next time."""
    job = platform.tracked.back_off(platform.tracked.start(platform.submit()))
    assert only(platform.tracked, job) == BackOff(known(job.due_at), 1, "ConnectionError", "away")


def test_all_reasons_are_listed_and_the_hold_is_first(platform: Limited) -> None:
    """An explanation lists all reasons, the hold first."""
    platform.break_circuit()
    platform.pause("acme", "count_words")
    platform.pause("acme")
    job = platform.submit(delay=HOUR, queue="nobody's")
    assert kinds(platform.tracked, job) == ["schedule", "no_worker", "paused", "paused", "circuit"]


def test_a_pause_is_told_with_who_and_why(platform: Limited) -> None:
    """The explanation of a paused job says who paused, why and since when."""
    platform.pause("acme", "count_words")
    reason = only(platform.tracked, platform.submit())
    assert isinstance(reason, Paused)
    assert (reason.job_type, reason.everywhere, reason.paused_by, reason.reason) == (
        *("count_words", False, "admin"),
        "maintenance",
    )


def test_an_operator_who_paused_everywhere_is_not_named(platform: Limited) -> None:
    """An operator who paused everywhere is not named in an explanation."""
    platform.pause(job_type="count_words")
    reason = only(platform.tracked, platform.submit())
    assert (reason.everywhere, reason.paused_by) == (True, None)


@pytest.mark.parametrize(("organization", "job_type"), [("globex", None), ("globex", "count_words"), (None, "sync")])
def test_a_pause_of_others_is_not_told(platform: Limited, organization: str | None, job_type: str | None) -> None:
    """Pauses of another organization or type are not in an explanation."""
    platform.pause(organization, job_type)
    assert kinds(platform.tracked, platform.submit()) == ["dispatch"]


def test_an_open_circuit_is_told_until_when(platform: Limited) -> None:
    """The explanation of a circuit says until when it is open, and then that it is half open."""
    platform.break_circuit()
    job = platform.submit()
    reason = only(platform.tracked, job)
    assert isinstance(reason, CircuitOpen)
    assert (reason.state, reason.failures) == ("open", 3)
    assert timedelta(0) < reason.open_until - job.created_at <= MINUTE
    platform.let_circuits_rest()
    assert only(platform.tracked, job).state == "half_open"


def test_the_job_that_tries_is_not_held_by_the_circuit(platform: Limited) -> None:
    """A probe is explained as about to be sent, and the others as waiting for it."""
    platform.break_circuit()
    first, second = platform.submit_many(2)
    platform.let_circuits_rest()
    assert platform.probe() == [first.id]
    assert (kinds(platform.tracked, first), kinds(platform.tracked, second)) == (["lifting"], ["circuit"])


def test_a_hold_that_is_over_is_said_to_be_over(platform: Limited) -> None:
    """A hold that is over and was not lifted yet is explained as over."""
    platform.pause("acme")
    job = platform.submit()
    platform.resume("acme")
    assert kinds(platform.tracked, job) == ["lifting"]


def test_a_running_job_is_told_its_worker_and_whether_that_lives(tracked: Tracked) -> None:
    """The explanation of a running job has its worker, and whether its lease is alive."""
    lease = tracked.register_worker()
    job = tracked.start(tracked.submit(), lease=lease)
    assert only(tracked, job) == Running("worker-1", 1, known(job.started_at), is_alive=True)
    tracked.age_heartbeat(lease, HOUR)
    assert only(tracked, job).is_alive is False
    workers.leave(tracked.connection, lease)
    assert only(tracked, job).is_alive is False


def test_a_cancelled_job_whose_body_still_stops_is_told_both(tracked: Tracked) -> None:
    """A stopping job is explained by that first, then by who cancelled it."""
    job = tracked.cancel(tracked.start(tracked.submit(), lease=tracked.register_worker()))
    stopping, cancelled = asked(tracked, job).reasons
    assert stopping == Stopping("worker-1", known(job.cancel_requested_at), None, is_alive=True)
    assert isinstance(cancelled, Cancelled)


def test_a_cancelled_job_is_told_by_whom_and_why(tracked: Tracked) -> None:
    """The explanation of a cancelled job says by whom and why, also after its body stopped."""
    job = tracked.start(tracked.submit())
    jobs.cancel(tracked.connection, job.id, ACME, actor="u7", reason="not needed")
    jobs.stopped(tracked.connection, job.fence, actor="worker-1", how="returned")
    reason = only(tracked, job)
    assert (reason.by, reason.reason) == ("u7", "not needed")


def test_a_job_that_ended_with_its_dependency_is_told_so(platform: Limited) -> None:
    """The explanation of a job that ended with its dependency names that one."""
    first = platform.submit()
    second = platform.submit(depends_on=[first.id])
    platform.tracked.cancel(first)
    platform.turn()
    reason = only(platform.tracked, second)
    assert (reason.by, reason.reason) == ("admission", f"its dependency {first.id} is cancelled")


def test_a_failed_job_is_told_what_failed_after_how_many_attempts(tracked: Tracked) -> None:
    """The explanation of a failed job has its error, its attempts and who said so."""
    job = tracked.start(tracked.release(tracked.back_off(tracked.start(tracked.submit()))))
    tracked.fail(job)
    reason = only(tracked, job)
    assert isinstance(reason, Failed)
    assert (reason.attempts, reason.error_type, reason.error_message, reason.by) == (
        *(2, "ValueError"),
        *("wrong", "worker-1"),
    )


def test_a_job_that_no_worker_could_run_failed_before_its_first_attempt(tracked: Tracked) -> None:
    """The explanation of a job that no worker could run has that error and no attempt."""
    job = tracked.submit()
    jobs.fail_waiting(tracked.connection, job.fence, actor="worker-1", error_type="NotRegistered", message="sync")
    reason = only(tracked, job)
    assert (reason.attempts, reason.error_type) == (0, "NotRegistered")


def test_a_succeeded_job_is_told_after_how_many_attempts(tracked: Tracked) -> None:
    """The explanation of a succeeded job has its attempts and its worker."""
    job = tracked.run()
    assert only(tracked, job) == Succeeded(1, "worker-1", tracked.history(job)[-1].at)


@pytest.mark.parametrize("situation", ["queued", "scheduled", "running", "retrying", "backoff", "succeeded", "failed"])
def test_there_is_always_a_reason(tracked: Tracked, situation: str) -> None:
    """An explanation has a reason in every situation."""
    job = tracked.put_into(situation)
    explanation = asked(tracked, job)
    assert explanation.job == job
    assert explanation.reasons[0].sentence.endswith(".")
    assert (job.status in (Status.QUEUED, Status.RETRYING)) == ("no_worker" in kinds(tracked, job))
