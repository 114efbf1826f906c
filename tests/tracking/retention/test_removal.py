"""Old jobs go with their history, in batches; whatever is active stays."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import update

from tests.aged import DAY, ENDS, MINUTE, POLICY, aged, kind, removed
from tests.tracked import Tracked, new_job
from tracking import jobs
from tracking.admission.rule import UNLIMITED
from tracking.db import Database
from tracking.models import Owner
from tracking.retention import Policy, Pruned, prune
from tracking.schema import jobs as table
from tracking.states import Status


@pytest.mark.parametrize(("situation", "kept"), ENDS)
def test_a_job_goes_when_it_is_older_than_its_status_is_kept(
    pool: Database, tracked: Tracked, situation: str, kept: timedelta
) -> None:
    """A job is removed when it is older than its status is kept, and not a minute earlier."""
    aged(tracked, situation, kept + MINUTE)
    young = aged(tracked, situation, kept - MINUTE)
    assert removed(pool).jobs == {kind(situation): 1}
    assert tracked.all() == [young]


def test_a_type_may_have_a_time_of_its_own(pool: Database, tracked: Tracked) -> None:
    """A type may be kept longer or shorter than its status."""
    policy = Policy(POLICY.by_status, {"export": 7 * DAY, "audit": 1000 * DAY})
    for situation in ("succeeded", "failed", "cancelled"):
        aged(tracked, situation, 8 * DAY, job_type="export")
        aged(tracked, situation, 999 * DAY, job_type="audit")
        aged(tracked, situation, 8 * DAY)
    assert removed(pool, policy=policy).jobs == {
        kind("succeeded", "export"): 1,
        kind("failed", "export"): 1,
        kind("cancelled", "export"): 1,
    }
    assert len(tracked.all()) == 6


def test_the_history_goes_with_its_job(pool: Database, tracked: Tracked) -> None:
    """The history of a removed job goes with it, and that of others stays."""
    old, young = aged(tracked, "succeeded", 31 * DAY), tracked.run()
    assert removed(pool).history == 3
    assert tracked.events(old) == []
    assert tracked.events(young) == ["created", "started", "completed"]


@pytest.mark.parametrize("situation", ["queued", "scheduled", "running", "retrying", "backoff", "stopping"])
def test_what_is_not_over_never_goes(pool: Database, tracked: Tracked, situation: str) -> None:
    """An unfinished job, or one that is stopping, is never removed."""
    job = tracked.put_into(situation)
    past = {
        column: getattr(table.c, column) - 1000 * DAY
        for column in ("created_at", "started_at", "completed_at", "cancel_requested_at", "updated_at")
    }
    tracked.connection.execute(update(table).where(table.c.id == job.id).values(past))
    assert removed(pool, dry_run=True).total == 0
    assert removed(pool) == Pruned({}, 0, 0, more=False)
    assert tracked.get(job.id).status is job.status


def test_a_stopped_job_goes_like_any_other(pool: Database, tracked: Tracked) -> None:
    """A cancelled job is removed once its body is over."""
    job = aged(tracked, "stopping", 91 * DAY)
    jobs.stopped(tracked.connection, job.fence, actor="worker-1", how="at a step")
    assert removed(pool).jobs == {kind("cancelled"): 1}


def test_jobs_of_every_organization_go(pool: Database, tracked: Tracked) -> None:
    """Retention removes jobs of every organization."""
    for organization in ("acme", "globex"):
        aged(tracked, "succeeded", 31 * DAY, owner=Owner(organization, "u1"))
    assert removed(pool).total == 2


def test_the_key_of_a_job_that_is_gone_is_free(pool: Database, tracked: Tracked) -> None:
    """The idempotency key of a removed job is free."""
    aged(tracked, "succeeded", 31 * DAY, idempotency_key="k", request_hash="h")
    removed(pool)
    assert jobs.submit(tracked.connection, new_job(idempotency_key="k", request_hash="other"), UNLIMITED).created


def test_a_dry_run_counts_and_removes_nothing(pool: Database, tracked: Tracked) -> None:
    """A dry run counts what is removed afterwards, and removes nothing."""
    for situation, kept in ENDS:
        aged(tracked, situation, kept + DAY)
        aged(tracked, situation, kept + DAY, job_type="export")
        tracked.put_into(situation)
    before = tracked.all()
    counted = removed(pool, dry_run=True)
    assert (counted.total, counted.history) == (6, None)
    assert tracked.all() == before
    assert removed(pool).jobs == counted.jobs
    assert len(tracked.all()) == 3


def test_a_dry_run_waits_for_nobody(pool: Database, tracked: Tracked) -> None:
    """A dry run waits for no lock, and takes none."""
    job = aged(tracked, "failed", 91 * DAY)
    with pool.begin() as connection:
        assert prune(connection, POLICY, limit=None, dry_run=True).total == 1
        assert tracked.retry(job).status is Status.QUEUED


def test_a_batch_is_no_larger_than_its_limit(pool: Database, tracked: Tracked) -> None:
    """A batch of removals is at most its limit over all kinds, and says whether there is more."""
    for situation, kept in ENDS:
        for _ in range(3):
            aged(tracked, situation, kept + DAY)
    batches = [removed(pool, 4) for _ in range(3)]
    assert [(batch.total, batch.more) for batch in batches] == [(4, True), (4, True), (1, False)]


def test_the_oldest_go_first(pool: Database, tracked: Tracked) -> None:
    """Of each kind the oldest jobs are removed first."""
    old = [aged(tracked, "succeeded", age * DAY) for age in (40, 60, 50)]
    removed(pool, 1)
    assert {job.id for job in tracked.all()} == {old[0].id, old[2].id}
    removed(pool, 1)
    assert {job.id for job in tracked.all()} == {old[0].id}
