"""The rows of a canvas: from the submit on, called with a result, or ended with what they waited for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.tracked import ACME, Tracked, check_rows, new_job
from tracking import groups, jobs, successors
from tracking.admission import holds
from tracking.admission.rule import UNLIMITED
from tracking.errors import IllegalMove
from tracking.models import Failure, JobRecord, NewJob
from tracking.reads import explain, lists, waiting
from tracking.states import Hold, Status


def plan(tracked: Tracked, *planned: NewJob, **changes: Any) -> JobRecord:
    """A job, with the rows of what follows it."""
    job = new_job(**changes, successors=planned)
    return successors.submit(tracked.connection, job, UNLIMITED, scope=ACME).job


def chain(tracked: Tracked, length: int) -> list[JobRecord]:
    """A job and a chain of others behind it."""
    first = uuid4()
    links: list[NewJob] = []
    for _ in range(length - 1):
        links.append(new_job(follows=links[-1].id if links else first))
    head = plan(tracked, *links, id=first)
    return [head, *(tracked.get(link.id) for link in links)]


def call(tracked: Tracked, job: JobRecord, **payload: Any) -> JobRecord | None:
    """Call a job with the result of its predecessor, which has just succeeded."""
    assert job.follows is not None
    return successors.call(tracked.connection, new_job(id=job.id, payload=payload), UNLIMITED, [job.follows])


def fail(tracked: Tracked, job: JobRecord) -> list[UUID]:
    """Let a job fail for good; returns what ended with it."""
    tracked.fail(tracked.start(job))
    return [each.job.id for each in successors.end(tracked.connection, job.id)]


def exception(tracked: Tracked, job: JobRecord) -> Any:
    found = tracked.get(job.id)
    end = lists.last_move(tracked.connection, job.id, found.status)
    assert end is not None
    return end.detail["exception"]


def test_what_follows_has_a_row_from_the_submit_on(tracked: Tracked) -> None:
    """A successor has a row from the submit on, held by `dependency`, which no other duty lifts."""
    head, second, third = chain(tracked, 3)
    assert head.hold is None
    for job, before in ((second, head), (third, second)):
        assert (job.status, job.hold, job.follows) == (Status.QUEUED, Hold.DEPENDENCY, before.id)
    tracked.end(tracked.start(head))
    assert holds.lift_dependents(tracked.connection, UNLIMITED, 10) == []
    assert holds.cancel_dependents(tracked.connection, 10) == []


def test_the_same_submit_again_plans_nothing(tracked: Tracked) -> None:
    """A repeated submit of a chain writes no further rows."""
    follower = new_job(follows=uuid4())
    head = plan(tracked, follower, id=follower.follows)
    again = successors.submit(
        tracked.connection, new_job(id=head.id, successors=[new_job(follows=head.id)]), UNLIMITED, scope=ACME
    )
    assert not again.created
    assert len(tracked.all()) == 2


def test_a_chord_waits_for_the_end_of_a_chain_that_joins_it(tracked: Tracked) -> None:
    """A chord that a chain joins waits for the chain's last job."""
    groups.set_size(tracked.connection, "header", 2)
    first = uuid4()
    plan(tracked, new_job(follows=first, group_id="header", joins=True), id=first)
    assert groups.size(tracked.connection, "header") == 3


def test_a_call_gives_the_arguments_and_lets_the_job_run(tracked: Tracked) -> None:
    """A call gives a successor its arguments and lets it run, once."""
    head, second = chain(tracked, 2)
    tracked.end(tracked.start(head))
    called = call(tracked, second, x=1)
    assert called is not None
    assert (called.payload, called.hold, called.follows) == ({"x": 1}, None, None)
    assert call(tracked, second, x=2) is None
    tracked.end(tracked.start(called))
    check_rows(tracked)
    assert tracked.events(second) == ["created", "due", "started", "completed"]


def test_a_job_is_called_by_what_it_follows_only(tracked: Tracked) -> None:
    """A successor is called by the job that it follows, and by no other one."""
    _, second = chain(tracked, 2)
    other = tracked.submit()
    assert successors.call(tracked.connection, new_job(id=second.id), UNLIMITED, [other.id, "group"]) is None
    assert tracked.get(second.id) == second


def test_a_failure_ends_all_that_follows_with_its_exception(tracked: Tracked) -> None:
    """The successors of a failed job fail with its exception, and no other job does."""
    head, second, third = chain(tracked, 3)
    bystander = chain(tracked, 2)
    kept = {"exc_type": "Mine", "exc_message": [7], "exc_module": "m"}
    tracked.end(tracked.start(head), "failed", failure=Failure("Mine", "7", exception=kept))
    ended = successors.end(tracked.connection, head.id)
    assert {each.job.id for each in ended} == {second.id, third.id}
    for job in (second, third):
        found = tracked.get(job.id)
        assert (found.status, found.error_type, found.attempt) == (Status.FAILED, "DependencyEnded", 0)
        assert str(head.id) in (found.error_message or "")
        assert exception(tracked, job) == kept
    assert [tracked.get(job.id) for job in bystander] == bystander
    assert successors.end(tracked.connection, head.id) == []
    check_rows(tracked)


def test_a_cancel_cancels_what_follows(tracked: Tracked) -> None:
    """The successors of a cancelled job are cancelled, which `get()` raises as TaskRevokedError."""
    head, second = chain(tracked, 2)
    tracked.cancel(head)
    assert [each.job.status for each in successors.end(tracked.connection, head.id)] == [Status.CANCELLED]
    assert exception(tracked, second)["exc_type"] == "TaskRevokedError"
    check_rows(tracked)


def test_what_follows_a_job_that_has_expired_says_so(tracked: Tracked) -> None:
    """The successor of a job that was not started in time says that this one has expired."""
    over = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    first = uuid4()
    link = new_job(follows=first)
    head, second = plan(tracked, link, id=first, delivery={"expires": over}), tracked.get(link.id)
    assert jobs.expire(tracked.connection, head.fence, actor="worker-1") is not None
    assert [each.job.id for each in successors.end(tracked.connection, head.id)] == [second.id]
    assert tracked.get(second.id).error_message == f"it follows the job {head.id}, which is cancelled: expired"
    assert exception(tracked, second)["exc_message"] == ["expired"]
    check_rows(tracked)


def test_a_failed_job_that_succeeds_after_a_retry_calls_what_had_ended_with_it(tracked: Tracked) -> None:
    """After a retry that succeeds, the successors that had ended are called once each."""
    head, second, third = chain(tracked, 3)
    fail(tracked, head)
    tracked.end(tracked.start(tracked.retry(tracked.get(head.id))))
    called = call(tracked, second, x=1)
    assert called is not None
    assert (called.status, called.payload, called.error_type) == (Status.QUEUED, {"x": 1}, None)
    assert tracked.get(third.id).status is Status.FAILED
    tracked.end(tracked.start(called))
    assert call(tracked, third) is not None
    assert tracked.events(third) == ["created", "failed", "retried"]
    check_rows(tracked)


def test_a_job_that_somebody_has_cancelled_stays_so_when_it_is_called(tracked: Tracked) -> None:
    """A cancelled successor stays cancelled when it is called, and a retry by hand runs it."""
    head, second = chain(tracked, 2)
    tracked.cancel(second)
    tracked.end(tracked.start(head))
    called = call(tracked, second, x=1)
    assert called is not None
    assert (called.status, called.payload) == (Status.CANCELLED, {"x": 1})
    again = tracked.retry(called)
    assert (again.status, again.hold, again.payload) == (Status.QUEUED, None, {"x": 1})
    check_rows(tracked)


def test_a_job_that_waits_for_its_call_waits_on_after_a_retry(tracked: Tracked) -> None:
    """A cancelled successor that is retried before its call waits for the call again."""
    _, second = chain(tracked, 2)
    tracked.cancel(second)
    assert tracked.retry(tracked.get(second.id)).hold is Hold.DEPENDENCY


def test_a_job_whose_predecessor_has_failed_cannot_be_retried(tracked: Tracked) -> None:
    """A successor whose predecessor has failed cannot be retried."""
    head, second = chain(tracked, 2)
    fail(tracked, head)
    with pytest.raises(IllegalMove, match=str(head.id)):
        tracked.retry(tracked.get(second.id), force=True)


@pytest.mark.parametrize("bodies", [1, 2])
def test_a_member_that_fails_fails_the_bodies_of_its_chord(tracked: Tracked, bodies: int) -> None:
    """A failed member fails one body with a ChordError, and several bodies with its own exception."""
    planned = [new_job(follows_group="g") for _ in range(bodies)]
    behind = new_job(follows=planned[0].id)
    member = plan(tracked, *planned, behind, group_id="g")
    other = tracked.submit(group_id="g")
    tracked.end(tracked.start(member), "failed", failure=Failure("ValueError", "wrong"))
    ended = {each.job.id: each for each in successors.end(tracked.connection, member.id)}
    assert ended.keys() == {job.id for job in (*planned, behind)}
    expected = "ChordError" if bodies == 1 else "ValueError"
    assert {exception(tracked, each.job)["exc_type"] for each in ended.values()} == {expected}
    assert {job_id for job_id, each in ended.items() if each.calls_errbacks} == {job.id for job in planned}
    assert tracked.get(other.id).status is Status.QUEUED
    assert str(member.id) in (tracked.get(planned[0].id).error_message or "")


def test_what_a_failure_ends_ends_chords_in_turn(tracked: Tracked) -> None:
    """The body of a chord whose members never ran fails with the cause, without its errbacks."""
    first = uuid4()
    members = [new_job(follows=first, group_id="g") for _ in range(3)]
    body, last = new_job(follows_group="g"), new_job()
    head = plan(tracked, *members, body, new_job(id=last.id, follows=body.id), id=first)
    tracked.end(tracked.start(head), "failed", failure=Failure("ValueError", "wrong"))
    ended = successors.end(tracked.connection, head.id)
    assert {each.job.id for each in ended} == {body.id, last.id, *(job.id for job in members)}
    assert not any(each.calls_errbacks for each in ended)
    assert exception(tracked, tracked.get(last.id)) == {
        "exc_type": "ValueError",
        "exc_message": ["wrong"],
        "exc_module": "builtins",
    }


def test_a_chain_in_a_header_that_fails_before_its_end_calls_the_errbacks_of_the_body(tracked: Tracked) -> None:
    """A body's errbacks are called when a chain of its header fails midway."""
    first = uuid4()
    member, body = new_job(follows=first, group_id="g"), new_job(follows_group="g")
    head = plan(tracked, member, body, id=first, begins=["g"])
    tracked.end(tracked.start(head), "failed", failure=Failure("ValueError", "wrong"))
    ended = successors.end(tracked.connection, head.id)
    assert {each.job.id: each.calls_errbacks for each in ended} == {member.id: False, body.id: True}
    assert exception(tracked, tracked.get(body.id))["exc_type"] == "ChordError"


def test_what_a_succeeded_job_did_not_call_fails(tracked: Tracked) -> None:
    """A successor that its succeeded predecessor did not call fails."""
    head, second = chain(tracked, 2)
    tracked.end(tracked.start(head))
    assert [each.job.id for each in successors.end(tracked.connection, head.id)] == [second.id]
    assert tracked.get(second.id).status is Status.FAILED


def test_nothing_ends_before_its_predecessor(tracked: Tracked) -> None:
    """No successor ends while its predecessor waits, runs or backs off."""
    head, second = chain(tracked, 2)
    for _ in range(2):
        assert successors.end(tracked.connection, head.id) == []
        head = tracked.get(head.id) if head.attempt else tracked.back_off(tracked.start(head))
    assert tracked.get(second.id) == second


def test_the_sweep_finds_what_was_left_behind(tracked: Tracked) -> None:
    """The sweep ends the successors that a crash left behind, of jobs and of groups."""
    head, _ = chain(tracked, 2)
    member = plan(tracked, new_job(follows_group="g"), group_id="g")
    tracked.submit(group_id="g")
    chain(tracked, 2)
    assert waiting.left_behind(tracked.connection, 10) == []
    tracked.fail(tracked.start(head))
    tracked.fail(tracked.start(member))
    found = waiting.left_behind(tracked.connection, 10)
    assert set(found) == {head.id, member.id}
    for job_id in found:
        successors.end(tracked.connection, job_id)
    assert waiting.left_behind(tracked.connection, 10) == []


def test_the_body_of_a_header_with_a_member_of_another_canvas_fails(tracked: Tracked) -> None:
    """A body fails whose header has a member that belongs to another canvas."""
    groups.set_size(tracked.connection, "g", 2)
    member = plan(tracked, new_job(follows_group="g"), group_id="g")
    tracked.end(tracked.start(member))
    assert groups.results(tracked.connection, "g") is None
    assert waiting.incomplete_headers(tracked.connection, timedelta(0), 10) == ["g"]


def test_the_body_of_a_header_that_was_never_sent_completely_fails(tracked: Tracked) -> None:
    """A body fails whose header was never sent completely, but not while it is being sent."""
    body = new_job(follows_group="g")
    member = plan(tracked, body, group_id="g")
    hour = timedelta(hours=1)
    none = timedelta(0)
    assert waiting.incomplete_headers(tracked.connection, none, 10) == []
    tracked.end(tracked.start(member))
    assert waiting.incomplete_headers(tracked.connection, hour, 10) == []
    assert waiting.incomplete_headers(tracked.connection, none, 10) == ["g"]
    ended = successors.end_bodies(tracked.connection, "g", Failure("ChordError", "never sent"))
    assert [each.job.id for each in ended] == [body.id]


def test_a_replaced_job_waits_for_its_replacement(tracked: Tracked) -> None:
    """A replaced job keeps its id, waits for its replacement, and is followed as before."""
    head, second = chain(tracked, 2)
    running = tracked.start(head)
    tracked.end(running, "replaced")
    first = uuid4()
    plan(tracked, new_job(id=head.id, job_type="last", follows=first), id=first)
    waiting = tracked.get(head.id)
    assert (waiting.status, waiting.hold, waiting.follows) == (Status.QUEUED, Hold.DEPENDENCY, first)
    assert (waiting.job_type, waiting.started_at) == ("last", None)
    tracked.end(tracked.start(tracked.get(first)))
    called = call(tracked, waiting, x=1)
    assert called is not None
    assert (called.id, called.attempt, called.retry_count) == (head.id, 1, 0)
    assert called.dispatch == running.dispatch + 1
    tracked.end(tracked.start(called))
    assert tracked.get(second.id).follows == head.id
    check_rows(tracked)


def test_explain_names_what_a_successor_waits_for(tracked: Tracked) -> None:
    """The explanation of a successor names its predecessor, or the header's unfinished members."""
    head, second = chain(tracked, 2)
    body = new_job(follows_group="g")
    member = plan(tracked, body, group_id="g")
    tracked.end(tracked.start(tracked.submit(group_id="g")))
    for job_id, awaited, total in ((second.id, head.id, 1), (body.id, member.id, 2)):
        reason: Any = explain.explain(tracked.connection, job_id, ACME, UNLIMITED).reasons[0]
        assert (reason.kind, reason.total, reason.unfinished) == ("dependency", total, 1)
        assert [each.job_id for each in reason.jobs] == [awaited]
