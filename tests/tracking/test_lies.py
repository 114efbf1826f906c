"""Each kind of lie in the rows is caught by the check that is made for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import text

from tests.servers import Servers
from tests.tracked import Tracked, own_pool
from tests.verifying import NAMES, OLD_WORKER, findings, live_through_everything
from tests.workflowing import begin_on, node
from tracking import jobs
from tracking.admission import holds
from tracking.admission.rule import UNLIMITED
from tracking.db import Database
from tracking.models import JobRecord, Progress
from tracking.workflows import concluding


@dataclass(frozen=True)
class Lie:
    """Something to be wrong with a job that is first brought into `situation`; which checks must see it."""

    situation: str
    sql: str
    caught: dict[str, int]
    schema: str = "SELECT 1"
    parameters: dict[str, Any] = field(default_factory=dict)


LIES = {
    "a job without history": Lie("queued", "DELETE FROM history WHERE job_id = :id", {"created_once": 1}),
    "a job that was created twice": Lie(
        "queued",
        """INSERT INTO history (job_id, organization_id, user_id, job_type, event, to_status, attempt, dispatch, actor)
           SELECT job_id, organization_id, user_id, job_type, event, to_status, attempt, dispatch, actor
           FROM history WHERE job_id = :id""",
        {"created_once": 1, "path": 1},
    ),
    "a lost row": Lie("queued", "DELETE FROM jobs WHERE id = :id", {"not_lost": 1}),
    "two jobs of one key": Lie(
        "queued",
        "UPDATE jobs SET idempotency_key = 'k' WHERE id IN (:id, :other)",
        {"keys": 2},
        schema="DROP INDEX jobs_idempotency",
    ),
    "a gap in the path": Lie(
        "running",
        "UPDATE history SET from_status = 'retrying' WHERE job_id = :id AND event = 'started'",
        {"path": 1},
    ),
    "a move under a wrong name": Lie(
        "cancelled",
        "UPDATE history SET event = 'failed' WHERE job_id = :id AND event = 'cancelled'",
        {"legal_moves": 1},
    ),
    "a move that leads nowhere": Lie(
        "queued",
        """INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status, attempt,
                                dispatch, actor)
           SELECT job_id, organization_id, user_id, job_type, 'retried', to_status, to_status, attempt, dispatch, actor
           FROM history WHERE job_id = :id""",
        {"legal_moves": 1},
    ),
    "a status without a history": Lie("queued", "UPDATE jobs SET status = 'retrying' WHERE id = :id", {"status": 1}),
    "an attempt that ended twice": Lie(
        "second attempt succeeded",
        """UPDATE history SET attempt = 1, dispatch = first.dispatch
           FROM (SELECT dispatch FROM history WHERE job_id = :id AND event = 'started' AND attempt = 1) AS first
           WHERE job_id = :id AND event = 'completed'""",
        {"one_end": 1, "fence": 1},
    ),
    "a dispatch that ended twice": Lie(
        "retried and cancelled",
        """UPDATE history SET dispatch = first.dispatch
           FROM (SELECT dispatch FROM history WHERE job_id = :id AND event = 'failed') AS first
           WHERE job_id = :id AND event = 'cancelled'""",
        {"one_end": 1, "fence": 1},
    ),
    "a dispatch that was cancelled twice": Lie(
        "cancelled, retried and cancelled",
        "UPDATE history SET dispatch = 2 WHERE job_id = :id AND event = 'cancelled'",
        {"one_end": 1},
    ),
    "an attempt that nobody claimed": Lie("succeeded", "UPDATE jobs SET attempt = 2 WHERE id = :id", {"attempts": 1}),
    "two attempts of one number": Lie(
        "second attempt succeeded",
        "UPDATE history SET attempt = 1 WHERE job_id = :id AND event = 'started'",
        {"attempts": 1, "fence": 1},
    ),
    "an outcome of another dispatch": Lie(
        "succeeded",
        "UPDATE history SET dispatch = dispatch + 1 WHERE job_id = :id AND event = 'completed'",
        {"fence": 1},
    ),
    "a running job of another dispatch": Lie(
        "running", "UPDATE jobs SET dispatch = dispatch + 1 WHERE id = :id", {"fence": 1}
    ),
    "two claims of one dispatch": Lie(
        "second attempt succeeded", "UPDATE history SET dispatch = 1 WHERE job_id = :id", {"fence": 1}
    ),
    "a number that falls": Lie(
        "running", "UPDATE history SET dispatch = 2 WHERE job_id = :id AND event = 'created'", {"fence": 1}
    ),
    "a start after the cancel by the clock": Lie(
        "stopping",
        "UPDATE jobs SET cancel_requested_at = started_at - interval '1 second' WHERE id = :id",
        {"cancelled": 1},
    ),
    "a start after the cancel": Lie(
        "cancelled",
        """INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status, attempt,
                                dispatch, actor)
           SELECT job_id, organization_id, user_id, job_type, 'started', 'cancelled', 'running', 1, dispatch, actor
           FROM history WHERE job_id = :id AND event = 'cancelled'""",
        {"cancelled": 1, "legal_moves": 1, "status": 1, "attempts": 1},
    ),
    "progress that falls": Lie(
        "reported",
        """UPDATE history SET detail = '{"percentage": 30}'
           WHERE id = (SELECT max(id) FROM history WHERE job_id = :id AND event = 'progress')""",
        {"progress": 1},
    ),
    "progress that is no number": Lie(
        "reported",
        """UPDATE history SET detail = '{"percentage": "much"}' WHERE job_id = :id AND event = 'progress'""",
        {"progress": 1},
    ),
    "more running than the limit allows": Lie(
        "running",
        """WITH organization AS (INSERT INTO organizations (id, concurrency, changed_by, changed_at)
                                 VALUES ('small', 1, 'admin', '1970-01-01Z'))
           UPDATE jobs SET organization_id = 'small' WHERE id IN (:id, :other)""",
        {"limit": 2},
    ),
    "a job that is due and still waits": Lie(
        "scheduled",
        """WITH worker AS (INSERT INTO workers (lease, name, pid, queues, concurrency, started_at)
                           VALUES (:id, 'worker-1', 1, '{}', 2, clock_timestamp() - interval '1 hour'))
           UPDATE jobs SET due_at = clock_timestamp() - interval '1 hour', updated_at = updated_at - interval '1 hour'
           WHERE id = :id""",
        {"held": 1},
    ),
    "more bodies than the worker has room for": Lie(
        "running",
        """WITH worker AS (INSERT INTO workers (lease, name, pid, queues, concurrency)
                           VALUES (:id, 'worker-1', 1, '{}', 1))
           UPDATE jobs SET lease = :id, created_at = created_at - interval '1 hour',
                           started_at = started_at - interval '30 minutes'
           WHERE id IN (:id, :other)""",
        {"bodies": 2},
    ),
    "a body of a worker that is gone": Lie(
        "running",
        f"""WITH worker AS ({OLD_WORKER})
            UPDATE jobs SET lease = CASE WHEN id = :id THEN CAST(:other AS uuid) ELSE lease END,
                            created_at = created_at - interval '1 hour',
                            started_at = CASE WHEN id = :id THEN started_at - interval '30 minutes'
                                              ELSE clock_timestamp() END
            WHERE status = 'running'""",  # noqa: S608 - our own constant
        {"bodies": 1},
    ),
    "completeness without success": Lie(
        "running",
        "UPDATE jobs SET progress = 100 WHERE id = :id",
        {"progress": 1},
        schema="ALTER TABLE jobs DROP CONSTRAINT jobs_progress_complete",
    ),
    "a start before the creation": Lie(
        "running",
        "UPDATE jobs SET started_at = created_at - interval '1 hour' WHERE id = :id",
        {"times": 1},
        schema="ALTER TABLE jobs DROP CONSTRAINT jobs_started_after_created",
    ),
    "an end without a time": Lie(
        "succeeded",
        "UPDATE jobs SET completed_at = NULL WHERE id = :id",
        {"times": 1},
        schema="ALTER TABLE jobs DROP CONSTRAINT jobs_completed_when_finished",
    ),
    "no partition for next week": Lie(
        "queued",
        "UPDATE jobs SET message = 'x' WHERE id = :id",
        {"weeks": 1},
        schema="DO $$ BEGIN EXECUTE 'DROP TABLE history_'"
        " || to_char(now() AT TIME ZONE 'UTC' + interval '7 days' - extract(isodow FROM now() AT TIME ZONE 'UTC')"
        " * interval '1 day' + interval '1 day', 'YYYYMMDD'); END $$",
    ),
    "a workflow that ended otherwise than its jobs": Lie(
        "second of a workflow", "UPDATE workflow_jobs SET ended = 'failed' WHERE job_id = :id", {"workflow_ends": 1}
    ),
    "a job that did not wait": Lie(
        "second of a workflow",
        """UPDATE workflow_jobs SET after = '[{"key": "a", "when": "failed"}]' WHERE job_id = :id""",
        {"waited": 1},
    ),
    "a history that goes back in time": Lie(
        "running",
        "UPDATE history SET at = at - interval '1 hour' WHERE job_id = :id AND event = 'started'",
        {"times": 1},
    ),
}


def bring(tracked: Tracked, situation: str) -> JobRecord:
    """A job in one of SITUATIONS, or with more of a past."""
    if situation == "second attempt succeeded":
        return tracked.end(tracked.start(tracked.end(tracked.start(tracked.submit()), "released")))
    if situation == "second of a workflow":
        made = begin_on(tracked.connection, node("a"), node("b", "a")).jobs
        tracked.end(tracked.start(made["a"]))
        holds.lift_dependents(tracked.connection, UNLIMITED, 10)
        ended = tracked.end(tracked.start(made["b"]))
        concluding.conclude(tracked.connection, 10)
        return ended
    if situation == "retried and cancelled":
        return tracked.cancel(tracked.retry(tracked.put_into("failed")))
    if situation == "cancelled, retried and cancelled":
        return tracked.cancel(tracked.retry(tracked.put_into("cancelled")))
    if situation == "reported":
        job = tracked.put_into("running")
        for percent in (40, 60):
            jobs.report(tracked.connection, Progress(job.fence, job.attempt, percent=percent))
        return job
    return tracked.put_into(situation)


@pytest.fixture(scope="module")
def healthy(servers: Servers) -> Iterator[str]:
    """The name of a database whose jobs have lived through everything; each lie gets a copy."""
    with own_pool(servers) as pool:
        with pool.autocommit() as connection:
            live_through_everything(Tracked(connection), 1)
        pool.close()
        yield str(pool.engine.url.database)


@pytest.fixture
def database(servers: Servers, healthy: str) -> Iterator[Database]:
    """A pool on a copy of it."""
    with own_pool(servers, healthy) as pool:
        yield pool


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_lie_is_caught_by_its_check(database: Database, lie: Lie) -> None:
    """Each false row is found by its check, and healthy rows are not named."""
    with database.autocommit() as connection:
        tracked = Tracked(connection)
        job, other = bring(tracked, lie.situation), bring(tracked, lie.situation)
        connection.execute(text(lie.schema))
        assert connection.execute(text(lie.sql), {"id": job.id, "other": other.id}).rowcount > 0
    found = {finding.name: finding for finding in findings(database) if not finding.holds}
    if "weeks" in found:  # which names partitions
        assert found.pop("weeks").violations == lie.caught["weeks"]
        return
    assert {name: finding.violations for name, finding in found.items()} == lie.caught
    # Of a workflow that is wrong its own id is told.
    ours, others = ({str(each.id), str(each.root_id)} for each in (job, other))
    assert all(set(finding.examples) <= ours | others for finding in found.values())
    assert all(ours & set(finding.examples) for finding in found.values())


def test_every_check_has_a_lie_that_it_alone_catches() -> None:
    """Every check of verify but `stats` finds a false row that no other check finds."""
    assert {name for lie in LIES.values() if len(lie.caught) == 1 for name in lie.caught} == {*NAMES} - {"stats"}
