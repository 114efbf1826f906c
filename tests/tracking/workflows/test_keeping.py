"""What people do with workflows: create, cancel, retry; and what is kept of them."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from tests.counting import statements_of
from tests.live import eventually
from tests.tracked import ACME, OTHERS, Tracked
from tests.tracking.workflows.conftest import Created
from tests.workflowing import Flow, begin, begin_on, cancel_job, node
from tracking import jobs, retention
from tracking.admission.rule import UNLIMITED
from tracking.db import Connection, Database
from tracking.errors import IdempotencyConflict, IllegalMove, IllegalWorkflowMove, WorkflowNotFound
from tracking.jobs import Applied
from tracking.models import Scope
from tracking.origins import By, Origin, Source
from tracking.reads import lists
from tracking.states import FINISHED, Status
from tracking.workflow_tables import WorkflowStatus
from tracking.workflows import concluding, reads

DAY = timedelta(days=1)


def test_a_large_workflow_is_made_in_one_statement_of_each_table(pool: Database, tracked: Tracked) -> None:
    """A workflow of a thousand jobs, each after the one before it, is made by as many statements as one of three."""
    counts = []
    for length in (3, 1000):
        with pool.begin() as connection, statements_of(connection) as sent:
            begin_on(
                connection, *(node(f"n{number}", *([f"n{number - 1}"] if number else [])) for number in range(length))
            )
        counts.append(len(sent))
    assert 0 < counts[0] == counts[1] < 5
    assert Counter(job.hold for job in tracked.all()) == {None: 2, "dependency": 1001}


def test_the_same_key_is_the_same_workflow(pool: Database, tracked: Tracked) -> None:
    """A repeated request makes nothing, one that differs is refused, and another user's key is another one."""
    wish: dict[str, Any] = {"idempotency_key": "k", "request_hash": "x"}
    first = begin(pool, node("a"), **wish)
    again = begin(pool, node("a"), **wish)
    assert (again.id, again.created, again.jobs) == (first.id, False, {})
    with pytest.raises(IdempotencyConflict):
        begin(pool, node("a"), idempotency_key="k", request_hash="y")
    assert len(tracked.all()) == 1


def test_requests_at_once_with_one_key_make_one_workflow(pool: Database, tracked: Tracked) -> None:
    """Of eight requests with the same key at the same time one makes the workflow, and all name it."""
    with ThreadPoolExecutor(8) as threads:
        wishes = [threads.submit(begin, pool, node("a"), idempotency_key="k", request_hash="x") for _ in range(8)]
        begun = [wish.result(30) for wish in wishes]
    assert len({each.id for each in begun}) == 1
    assert [each.created for each in begun].count(True) == 1
    assert len(tracked.all()) == 1


def test_cancel_ends_all_that_has_not_ended(created: Created) -> None:
    """A cancel ends what waits and what runs, also what comes after any end, leaves what has ended, and says why."""
    flow = created(node("a"), node("b"), node("c", "a?", "b?"), node("d", "c"))
    flow.run("a")
    running = flow.tracked.start(flow.job("b"))
    now = flow.cancel("not needed")
    assert flow.states == {"a": "succeeded", "b": "cancelled", "c": "cancelled", "d": "cancelled"}
    assert (now.status, now.cancelled_by, now.reason) == ("running", "u1", "not needed")  # b's body is stopping
    assert flow.tracked.last_detail(flow.job("d"))["reason"] == "the workflow 'nightly' was cancelled: not needed"
    jobs.stopped(flow.tracked.connection, running.fence, actor="worker-1", how="interrupted")
    flow.follow()
    assert flow.now.status == "cancelled"
    with pytest.raises(IllegalWorkflowMove, match="is over"):
        flow.cancel()


def test_a_cancel_keeps_the_end_at_once(created: Created) -> None:
    """A workflow none of whose jobs runs is over with its cancel, and its row says so."""
    flow = created(node("a"), node("b", "a"))
    assert flow.cancel().status == "cancelled"
    assert _row(flow).completed_at is not None


def test_the_cancel_ends_what_its_jobs_have_sent(created: Created, tracked: Tracked) -> None:
    """A job that a job of the workflow has sent, and that waits, is cancelled with it; another job is not."""
    flow = created(node("a"))
    sent = tracked.submit(root_id=flow.id, parent_id=flow.job("a").id)
    other = tracked.submit()
    flow.cancel()
    assert [tracked.get(job.id).status for job in (sent, other)] == ["cancelled", "queued"]


def test_a_retry_of_the_failed_part_runs_that_and_what_follows(created: Created) -> None:
    """What has failed or was cancelled, and all that follows it, gets new jobs; what has succeeded before stays."""
    flow = created(node("a"), node("b", "a"), node("c", "b"), node("clean", "b?"), node("alone"), node("alarm", "a!"))
    for key, kind in (("a", "succeeded"), ("b", "failed"), ("clean", "succeeded"), ("alone", "succeeded")):
        flow.run(key, kind)
    before = {key: each.job_id for key, each in flow.nodes.items()}
    assert flow.states["c"] == "skipped"
    begun = flow.retry()
    assert begun.jobs.keys() == {"b", "c", "clean"}
    after = {key: each.job_id for key, each in flow.nodes.items()}
    assert {key for key in after if after[key] != before[key]} == {"b", "c", "clean"}
    assert flow.states == {
        "a": "succeeded",
        "b": "queued",
        "c": "queued",
        "clean": "queued",
        "alone": "succeeded",
        "alarm": "skipped",
    }
    assert (flow.now.run, flow.now.status) == (2, "running")
    assert flow.job("b").hold is None
    assert flow.job("b").retry_of == before["b"]
    assert flow.tracked.get(before["clean"]).status is Status.SUCCEEDED
    for key in ("b", "clean", "c"):
        flow.run(key)
    assert flow.now.status == "succeeded"


def test_a_retry_of_the_whole_runs_all_again(created: Created) -> None:
    """All jobs are made anew, with the same payloads, also of a workflow that has succeeded."""
    flow = created(node("a", payload={"x": 1}), node("b", "a", payload={"y": {"$from": "a"}}))
    flow.run("a", result=5)
    flow.run("b")
    assert flow.now.status == "succeeded"
    with pytest.raises(IllegalWorkflowMove, match="no job"):
        flow.retry()
    assert flow.retry(whole=True).jobs.keys() == {"a", "b"}
    assert flow.states == {"a": "queued", "b": "queued"}
    flow.run("a", result=6)
    assert (flow.job("a").payload, flow.job("b").payload) == ({"x": 1}, {"y": 6})


def test_a_retry_waits_for_the_end(created: Created) -> None:
    """A workflow that goes on cannot be retried; while a body is stopping, the answer says when to ask again."""
    flow = created(node("a"))
    with pytest.raises(IllegalWorkflowMove, match="not over") as refused:
        flow.retry()
    assert refused.value.retry_after is None
    flow.tracked.start(flow.job("a"))
    flow.cancel()
    with pytest.raises(IllegalWorkflowMove, match="not over") as refused:
        flow.retry()
    assert refused.value.retry_after == 2


def test_a_result_that_was_removed_is_missed_by_the_retry(created: Created) -> None:
    """A retry of the failed part is refused when a job that it needs was removed, and one of the whole is not."""
    flow = created(node("a"), node("b", "a"))
    flow.run("a")
    flow.run("b", "failed")
    flow.conclude()
    removed = {"id": flow.job("a").id}
    flow.tracked.connection.execute(text("DELETE FROM jobs WHERE id = :id"), removed)
    flow.tracked.connection.execute(text("DELETE FROM history WHERE job_id = :id"), removed)
    assert flow.states == {"a": "succeeded", "b": "failed"}
    with pytest.raises(IllegalWorkflowMove, match="'a' of the workflow was removed"):
        flow.retry()
    assert flow.retry(whole=True).jobs.keys() == {"a", "b"}


@pytest.mark.parametrize("scope", OTHERS)
def test_nobody_else_sees_or_moves_it(created: Created, scope: Scope) -> None:
    """For another organization, and for another user, the workflow does not exist."""
    flow = created(node("a"))
    with pytest.raises(WorkflowNotFound):
        reads.get(flow.tracked.connection, flow.id, scope)
    with pytest.raises(WorkflowNotFound):
        flow.cancel(scope=scope)
    with pytest.raises(WorkflowNotFound):
        flow.retry(scope=scope)
    page = reads.page(flow.tracked.connection, scope, statuses=(), name=None, cursor=None, size=10)
    assert page.workflows == []


def test_the_list_knows_those_that_have_just_ended(created: Created) -> None:
    """A filter by status finds a workflow by its jobs, before and after the leader has kept its end."""
    flow, other = created(node("a")), created(node("a"))
    flow.run("a", "failed")

    def found(*statuses: WorkflowStatus, cursor: UUID | None = None) -> list[UUID]:
        page = reads.page(flow.tracked.connection, ACME, statuses=statuses, name="nightly", cursor=cursor, size=10)
        return [each.id for each in page.workflows]

    assert found() == [other.id, flow.id]
    assert found(cursor=other.id) == [flow.id]
    for _ in range(2):
        assert found(WorkflowStatus.FAILED) == [flow.id]
        assert found(WorkflowStatus.QUEUED, WorkflowStatus.RUNNING) == [other.id]
        flow.conclude()
    first = reads.page(flow.tracked.connection, ACME, statuses=(), name=None, cursor=None, size=1)
    assert ([each.id for each in first.workflows], first.next_cursor) == ([other.id], other.id)


def test_jobs_of_a_workflow_that_goes_on_are_kept(created: Created, pool: Database) -> None:
    """Neither retention nor a delete takes a job whose workflow goes on; afterwards both do, and the end is kept."""
    flow = created(node("a"), node("b", "a"), node("c", "b"))
    flow.run("a")
    done = flow.tracked.finished_ago(flow.job("a"), 400 * DAY)
    flow.run("b")
    policy = retention.Policy(dict.fromkeys(FINISHED, DAY))
    with pool.begin() as connection:
        assert retention.prune(connection, policy, limit=None).total == 0
        refused = jobs.delete_each(connection, [done.id], ACME).refused[done.id]
    assert isinstance(refused, IllegalMove)
    assert "workflow" in str(refused)
    flow.run("c")
    flow.conclude()
    with pool.begin() as connection:
        assert retention.prune(connection, policy, limit=None).total == 1
    assert lists.find(flow.tracked.connection, done.id) is None
    assert flow.states == {"a": "succeeded", "b": "succeeded", "c": "succeeded"}
    assert flow.nodes["a"].is_gone
    assert flow.now.status == "succeeded"


def test_a_workflow_goes_after_the_last_of_its_jobs(created: Created, pool: Database) -> None:
    """A workflow is forgotten when it is old enough and no job of it is kept."""
    flow = created(node("a"))
    flow.run("a")
    flow.conclude()
    flow.tracked.connection.execute(text("UPDATE workflows SET completed_at = completed_at - interval '3 days'"))

    def forget() -> int:
        with pool.begin() as connection:
            return concluding.forget(connection, DAY, 10)

    assert forget() == 0
    flow.tracked.connection.execute(text("DELETE FROM jobs"))
    assert forget() == 1
    flow.tracked.connection.execute(text("DELETE FROM history"))
    assert flow.tracked.connection.execute(text("SELECT count(*) FROM workflow_jobs")).scalar() == 0


def test_a_retry_of_a_job_while_the_end_is_being_kept_opens_the_workflow_again(
    created: Created, pool: Database
) -> None:
    """Whoever retries a job waits for the leader that keeps the end, and the workflow goes on afterwards."""
    flow = created(node("a"))
    failed = flow.run("a", "failed")
    with ThreadPoolExecutor(1) as threads:
        with pool.begin() as connection:
            assert [*concluding.conclude(connection, 10)] == [flow.id]
            retried = threads.submit(_retry, pool, failed.id)
            eventually(flow.tracked.waits_for_lock, what="somebody who waits")
        assert retried.result(30) is Status.QUEUED
    assert (flow.now.status, _row(flow).completed_at) == ("running", None)


def test_a_retry_of_a_job_does_not_block_a_cancel_of_its_workflow(created: Created, pool: Database) -> None:
    """Whoever retries a job waits for its workflow before locking it: who has the workflow may have to lock the job."""
    flow = created(node("a"))
    failed = flow.run("a", "failed")
    with ThreadPoolExecutor(1) as threads:
        with pool.begin() as connection:
            connection.execute(text("SELECT id FROM workflows WHERE id = :id FOR UPDATE"), {"id": flow.id})
            retried = threads.submit(_retry, pool, failed.id)
            eventually(flow.tracked.waits_for_lock, what="somebody who waits")
            connection.execute(text("SELECT id FROM jobs WHERE id = :id FOR UPDATE NOWAIT"), {"id": failed.id})
        assert retried.result(30) is Status.QUEUED


def test_a_bulk_retry_passes_over_the_jobs_of_a_workflow_that_somebody_has(created: Created, pool: Database) -> None:
    """A bulk retry neither waits for a workflow that somebody has locked nor locks its jobs: they come again later."""
    flow, other = created(node("a")), created(node("a"))
    taken, free = flow.run("a", "failed"), other.run("a", "failed")
    with pool.begin() as holding, pool.begin() as working:
        holding.execute(text("SELECT id FROM workflows WHERE id = :id FOR UPDATE"), {"id": flow.id})
        working.execute(text("SET LOCAL lock_timeout = '5s'"))
        applied = _retry_each(working, taken.id, free.id)
        assert (set(applied.done), applied.refused) == ({free.id}, {})
        holding.execute(text("SELECT id FROM jobs WHERE id = :id FOR UPDATE NOWAIT"), {"id": taken.id})
    with pool.begin() as connection:
        assert set(_retry_each(connection, taken.id).done) == {taken.id}
    assert (flow.now.status, other.now.status) == ("running", "running")


def test_what_is_being_retried_is_not_kept(created: Created, pool: Database) -> None:
    """The leader passes over a workflow one of whose jobs somebody is retrying."""
    flow = created(node("a"))
    failed = flow.run("a", "failed")
    with pool.begin() as connection:
        jobs.retry(connection, failed.id, ACME, actor="u1", limits=UNLIMITED)
        assert flow.conclude() == []
    assert flow.conclude() == []
    assert flow.now.status == "running"


def test_the_audit_has_one_entry_for_each_deed(pool: Database, tracked: Tracked) -> None:
    """Create, cancel and retry of a workflow are one entry each, however many jobs they touch."""
    by = By("u1", Origin(Source.API, "acme"))
    flow = Flow(pool, tracked, begin(pool, node("a"), node("b", "a"), by=by).id)
    flow.cancel(by=by)
    rows = tracked.connection.execute(text("SELECT action, target, detail FROM audit ORDER BY id")).all()
    assert [(row.action, row.target) for row in rows] == [
        ("workflow.create", str(flow.id)),
        ("workflow.cancel", str(flow.id)),
    ]
    assert rows[1].detail == {"name": "nightly", "jobs": 2}


def test_a_job_that_was_cancelled_by_itself_counts_in_the_whole(created: Created) -> None:
    """A workflow one of whose jobs somebody has cancelled was cancelled, unless one has failed as well."""
    flow = created(node("a"), node("b"))
    cancel_job(flow, "a")
    flow.run("b")
    assert flow.now.status == "cancelled"
    other = created(node("a"), node("b"))
    cancel_job(other, "a")
    other.run("b", "failed")
    assert other.now.status == "failed"


def test_an_unknown_one_is_not_found(pool: Database, tracked: Tracked) -> None:
    """An id that no workflow has is not found."""
    with pytest.raises(WorkflowNotFound):
        Flow(pool, tracked, uuid4()).cancel()


def _row(flow: Flow) -> Any:
    return flow.tracked.connection.execute(text("SELECT * FROM workflows WHERE id = :id"), {"id": flow.id}).one()


def _retry(pool: Database, job_id: UUID) -> Status:
    with pool.autocommit() as connection:
        return jobs.retry(connection, job_id, ACME, actor="u1", limits=UNLIMITED).job.status


def _retry_each(connection: Connection, *job_ids: UUID) -> Applied:
    return jobs.retry_each(
        connection, job_ids, ACME, actor="u1", limits=UNLIMITED, force=False, priority=None, operation=uuid4()
    )
