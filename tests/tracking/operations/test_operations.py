"""A bulk operation does to each of its jobs what the single verb does, once, whatever happens in between."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from tests.tracked import ACME, HOUR, SITUATIONS, Tracked
from tests.tracking.operations.conftest import Bulk
from tracking import jobs
from tracking.admission.rule import UNLIMITED, Limits
from tracking.errors import (
    IdempotencyConflict,
    IllegalMove,
    JobNotFound,
    OperationEnded,
    OperationNotFound,
    OperationsTaken,
    TrackingError,
)
from tracking.models import Changes, JobRecord, Owner, Scope
from tracking.operated import Action, State
from tracking.operations import reads, work
from tracking.reads.answers import Filters
from tracking.states import FINISHED, Hold, Status

OTHER = Owner("globex", "u9")


def single(tracked: Tracked, action: Action, job: JobRecord) -> str | None:
    """What the single verb says against it; None: it is done."""
    try:
        if action is Action.CANCEL:
            jobs.cancel(tracked.connection, job.id, ACME, actor="u1")
        elif action is Action.RETRY:
            jobs.retry(tracked.connection, job.id, ACME, actor="u1", limits=UNLIMITED)
        else:
            jobs.edit(tracked.connection, job.id, ACME, Changes(priority=7), actor="u1", limits=UNLIMITED)
    except TrackingError as refused:
        return str(refused).replace(str(job.id), "-")
    return None


@pytest.mark.parametrize("action", [Action.CANCEL, Action.RETRY, Action.REPRIORITIZE])
def test_it_does_what_the_single_verb_does(bulk: Bulk, action: Action) -> None:
    """In every situation a job is moved, or refused with the same reason, as by the single verb."""
    alone = {situation: bulk.tracked.put_into(situation) for situation in SITUATIONS}
    expected = {situation: single(bulk.tracked, action, job) for situation, job in alone.items()}
    together = {situation: bulk.tracked.put_into(situation) for situation in SITUATIONS}
    chosen = Filters(ids=[job.id for job in together.values()])
    operation = bulk.finish(bulk.begin(action, chosen, priority=7 if action is Action.REPRIORITIZE else None))
    reasons = bulk.refusals(operation)
    assert (operation.state, operation.matched) == (State.COMPLETED, len(SITUATIONS))
    for situation, job in together.items():
        _, reason = reasons.get(job.id, (None, None))
        assert (reason and reason.replace(str(job.id), "-")) == expected[situation], situation
        one, other = bulk.tracked.get(job.id), bulk.tracked.get(alone[situation].id)
        shown = ("status", "hold", "priority", "dispatch", "retry_count", "stopping", "message")
        assert [getattr(one, name) for name in shown] == [getattr(other, name) for name in shown], situation
        if expected[situation] is None:
            assert bulk.tracked.last_detail(job)["operation"] == str(operation.id)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_only_finished_jobs_are_deleted(bulk: Bulk, situation: str) -> None:
    """A finished job is gone with its history, and what people did to it is kept in the audit; any other one stays."""
    job = bulk.tracked.put_into(situation)
    operation = bulk.finish(bulk.begin(Action.DELETE))
    if job.status in FINISHED and not job.stopping:
        assert bulk.outcomes(operation) == {job.id: "succeeded"}
        assert bulk.tracked.all() == []
        assert bulk.tracked.connection.execute(text("SELECT count(*) FROM history")).scalar() == 0
    else:
        assert bulk.refusals(operation)[job.id][0] == "illegal_move"
        assert bulk.tracked.get(job.id) == job


def test_what_others_wait_for_is_not_deleted(bulk: Bulk) -> None:
    """A job that an active one depends on, and a success that a chord may still count, are refused."""
    awaited = bulk.tracked.run()
    bulk.tracked.submit(depends_on=[awaited.id])
    member = bulk.tracked.run(group_id="g")
    bulk.tracked.submit(group_id="g")
    operation = bulk.finish(bulk.begin(Action.DELETE, Filters(statuses=(Status.SUCCEEDED,))))
    reasons = {job_id: detail for job_id, (_, detail) in bulk.refusals(operation).items()}
    assert "depends on it" in str(reasons[awaited.id])
    assert "chord" in str(reasons[member.id])


def test_its_jobs_are_those_that_matched_when_it_was_made(bulk: Bulk) -> None:
    """What comes to match later is not touched, and what matches no more is left to the guard of the verb."""
    early = bulk.tracked.put_into("failed")
    again = bulk.tracked.put_into("failed")
    operation = bulk.begin(Action.RETRY, Filters(statuses=(Status.FAILED,)))
    bulk.tracked.retry(again)
    late = bulk.tracked.put_into("failed")
    assert bulk.finish(operation).matched == 2
    assert bulk.outcomes(operation) == {early.id: "succeeded", again.id: "refused"}
    assert bulk.tracked.get(late.id) == late


def test_its_scope_is_its_creators(bulk: Bulk) -> None:
    """Without a right to see all, only the jobs of its creator match; those of another organization never do."""
    mine = bulk.tracked.submit()
    theirs = bulk.tracked.submit(owner=Owner("acme", "u2"))
    foreign = bulk.tracked.submit(owner=OTHER)
    everything = Filters(ids=[mine.id, theirs.id, foreign.id])
    own = bulk.finish(bulk.begin(Action.CANCEL, everything, scope=Scope("acme", "u1")))
    assert bulk.outcomes(own) == {mine.id: "succeeded"}
    assert bulk.outcomes(bulk.finish(bulk.begin(Action.CANCEL, everything))).keys() == {mine.id, theirs.id}
    assert bulk.tracked.get(foreign.id) == foreign
    for stranger in (Scope("globex", None), Scope("acme", "u2")):
        with pytest.raises(OperationNotFound):
            reads.get(bulk.tracked.connection, own.id, stranger)


def test_a_locked_job_comes_again(bulk: Bulk) -> None:
    """A job that somebody else has locked holds up no other one, and is done in a later round."""
    first, second = sorted((bulk.tracked.submit() for _ in range(2)), key=lambda job: job.id)
    operation = bulk.begin(Action.CANCEL)
    with bulk.pool.begin() as other:
        other.execute(text("SELECT FROM jobs WHERE id = :id FOR UPDATE"), {"id": first.id})
        assert bulk.finish(operation).succeeded == 1
    assert bulk.outcomes(operation) == {first.id: None, second.id: "succeeded"}
    assert bulk.get(operation).state is State.RUNNING
    bulk.be_due()
    assert bulk.finish(operation).state is State.COMPLETED
    assert bulk.tracked.get(first.id).status is Status.CANCELLED


def test_one_bad_row_fails_alone(bulk: Bulk) -> None:
    """A job that the database refuses to change fails with its reason, and all others of its batch are done."""
    found = [bulk.tracked.submit() for _ in range(9)]
    bad = found[4]
    refuse = f"CHECK (status <> 'cancelled' OR id <> '{bad.id}') NOT VALID"
    bulk.tracked.connection.execute(text(f"ALTER TABLE jobs ADD CONSTRAINT no_such_row {refuse}"))
    try:
        operation = bulk.finish(bulk.begin(Action.CANCEL))
    finally:
        bulk.tracked.connection.execute(text("ALTER TABLE jobs DROP CONSTRAINT no_such_row"))
    assert (operation.state, operation.succeeded, operation.failed) == (State.COMPLETED, 8, 1)
    code, reason = bulk.refusals(operation)[bad.id]
    assert (code, "no_such_row" in str(reason)) == ("internal_error", True)


def test_a_batch_that_was_not_committed_is_done_again(bulk: Bulk) -> None:
    """Work that ends before its commit leaves nothing, and the next turn does the same jobs."""
    found = [bulk.tracked.put_into("failed") for _ in range(5)]
    operation = bulk.begin(Action.RETRY)
    bulk.turn(2)
    with bulk.pool.begin() as connection:
        mine = work.next_one(connection)
        assert mine is not None
        assert len(work.work(connection, mine, UNLIMITED, 2, HOUR).done) == 2
        connection.rollback()
    assert bulk.get(operation).done == 2
    bulk.finish(operation, 2)
    assert [bulk.tracked.events(job).count("retried") for job in found] == [1] * 5


def test_types_that_are_denied_are_refused(bulk: Bulk) -> None:
    """Jobs of a type that its creator may not touch are refused with the code, and the audit names the type."""
    one, other = bulk.tracked.submit(), bulk.tracked.submit(job_type="secret")
    denied = {"secret": "permission_missing", "unknown": "unknown_job_type"}
    operation = bulk.finish(bulk.begin(Action.REPRIORITIZE, priority=3, denied=denied))
    assert bulk.outcomes(operation) == {one.id: "succeeded", other.id: "refused"}
    assert bulk.refusals(operation)[other.id][0] == "permission_missing"
    found = bulk.tracked.connection.execute(text("SELECT detail, code FROM audit WHERE outcome = 'denied'")).all()
    assert [(row.detail["jobType"], row.code) for row in found] == [("secret", "permission_missing")]


def test_organizations_take_turns(bulk: Bulk) -> None:
    """Of operations of several organizations each has its turn, however many one of them has."""
    for _ in range(4):
        bulk.tracked.submit()
        bulk.tracked.submit(owner=OTHER)
    long = [bulk.begin(Action.REPRIORITIZE, priority=1) for _ in range(3)]
    short = bulk.begin(Action.REPRIORITIZE, priority=1, scope=Scope("globex", None), user="u9")
    for _ in range(8):
        bulk.turn(1)
    assert bulk.get(short).done == 4
    assert sum(bulk.get(each).done for each in long) == 4
    assert {bulk.get(each).done for each in long} == {1, 2}


def test_an_abort_leaves_the_rest_as_it_is(bulk: Bulk) -> None:
    """After an abort nothing more is done, its counts stay, and a second abort is refused."""
    for _ in range(3):
        bulk.tracked.submit()
    operation = bulk.begin(Action.CANCEL)
    bulk.turn(1)
    aborted = reads.abort(bulk.tracked.connection, operation, actor="u7", origin=None)
    assert (aborted.state, aborted.reason) == (State.ABORTED, "aborted by u7")
    assert bulk.finish(operation).done == 1
    assert sorted(map(str, bulk.outcomes(operation).values())) == ["None", "None", "succeeded"]
    with pytest.raises(OperationEnded):
        reads.abort(bulk.tracked.connection, operation, actor="u7", origin=None)


def test_an_organization_has_only_so_many(bulk: Bulk) -> None:
    """One operation more than allowed is refused until one of them has ended; another organization has its own."""
    first = bulk.begin(Action.CANCEL, at_once=1)
    with pytest.raises(OperationsTaken):
        bulk.begin(Action.CANCEL, at_once=1)
    bulk.begin(Action.CANCEL, at_once=1, scope=Scope("globex", None))
    bulk.finish(first)
    bulk.begin(Action.CANCEL, at_once=1)


def test_the_same_key_is_the_same_operation(bulk: Bulk) -> None:
    """A repeated request with its key makes no second operation, even when there is no room; another one conflicts."""
    first = bulk.begin(Action.CANCEL, idempotency_key="k", request_hash="a", at_once=1)
    assert bulk.begin(Action.CANCEL, idempotency_key="k", request_hash="a", at_once=1).id == first.id
    with pytest.raises(IdempotencyConflict):
        bulk.begin(Action.CANCEL, idempotency_key="k", request_hash="b")


def test_under_a_limit_they_stand_in_line(bulk: Bulk) -> None:
    """Jobs that are retried together go into the line of their organization: none takes a slot that is not free."""
    found = [bulk.tracked.put_into("failed") for _ in range(3)]
    operation = bulk.begin(Action.RETRY)
    bulk.finish(operation, limits=Limits(1))
    assert {bulk.tracked.get(job.id).hold for job in found} == {Hold.ORGANIZATION_LIMIT}


def test_what_is_gone_is_not_found(bulk: Bulk) -> None:
    """A job that was removed since the operation was made is refused as not found."""
    job = bulk.tracked.run()
    first, second = bulk.begin(Action.DELETE), bulk.begin(Action.RETRY)
    bulk.finish(first)
    assert {code for code, _ in (bulk.refusals(first) | bulk.refusals(second)).values()} == {"job_not_found"}
    assert [*bulk.outcomes(second)] == [job.id]


def test_lists_are_read_by_cursor(bulk: Bulk) -> None:
    """Pages of operations, and of the jobs of one, put together are all of them, each once."""
    found = {bulk.tracked.submit().id for _ in range(5)}
    made = [bulk.begin(Action.REPRIORITIZE, priority=1).id for _ in range(5)]
    read: list[UUID] = []
    cursor: UUID | None = None
    while True:
        page = reads.page(bulk.tracked.connection, ACME, states=(State.RUNNING,), cursor=cursor, size=2)
        read += [each.id for each in page.operations]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert read == made[::-1]
    seen: list[UUID] = []
    while True:
        part = reads.results(bulk.tracked.connection, made[0], wanted=("pending", "failed"), cursor=cursor, size=2)
        seen += [each.job_id for each in part.results]
        cursor = part.next_cursor
        if cursor is None:
            break
    assert seen == sorted(found)


def test_old_operations_are_forgotten_in_parts(bulk: Bulk) -> None:
    """An operation that ended long ago goes with its rows, a part at a time; one that has not ended stays."""
    for _ in range(3):
        bulk.tracked.submit()
    old, new = bulk.begin(Action.REPRIORITIZE, priority=1), bulk.begin(Action.REPRIORITIZE, priority=1)
    bulk.turn()
    aged = "UPDATE operations SET completed_at = now() - interval '9 d' WHERE completed_at IS NOT NULL"
    bulk.tracked.connection.execute(text(aged))
    removed = [reads.forget(bulk.tracked.connection, timedelta(days=8), 2) for _ in range(4)]
    assert removed == [2, 2, 0, 0]
    kept = bulk.tracked.connection.execute(text("SELECT id FROM operations")).scalars().all()
    assert len(kept) == 1
    assert kept[0] in (old.id, new.id)
    bulk.tracked.connection.execute(text("DELETE FROM audit"))
    bulk.tracked.connection.execute(text("DELETE FROM operations"))


def test_a_job_of_nobody_is_not_found(bulk: Bulk) -> None:
    """A verb on a job outside of its scope, or on none, is refused as not found, and nothing moves."""
    foreign = bulk.tracked.submit(owner=OTHER)
    nobody = uuid4()
    with bulk.pool.begin() as connection:
        by = {"actor": "u1", "operation": uuid4()}
        given = [foreign.id, nobody]
        answers = [
            jobs.cancel_each(connection, given, ACME, reason=None, **by),  # type: ignore[arg-type]
            jobs.retry_each(connection, given, ACME, limits=UNLIMITED, force=True, priority=None, **by),  # type: ignore[arg-type]
            jobs.reprioritize_each(connection, given, ACME, limits=UNLIMITED, force=False, priority=1, **by),  # type: ignore[arg-type]
            jobs.delete_each(connection, given, ACME),
        ]
    for answer in answers:
        assert answer.done == {}
        assert {type(why) for why in answer.refused.values()} == {JobNotFound}
        assert answer.refused.keys() == set(given)
    assert IllegalMove not in {type(why) for answer in answers for why in answer.refused.values()}
    assert bulk.tracked.get(foreign.id) == foreign
