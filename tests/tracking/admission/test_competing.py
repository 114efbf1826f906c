"""Organizations compete where the same workers serve them, and nowhere else."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from tests.holding import GLOBEX, Limited
from tests.properties import ON_ONE_DATABASE
from tests.tracked import HOUR, LEASE_TIMEOUT, Tracked, empty
from tracking import workers
from tracking.db import Database

QUEUES = ("a", "b", "c")
KINDS = {  # status, hold, and whether it competes
    "sent": ("queued", None, True),
    "sent again": ("retrying", None, True),
    "in line": ("queued", "organization_limit", True),
    "running": ("running", None, False),
    "ended": ("failed", None, False),
    "scheduled": ("queued", "schedule", False),
    "paused": ("queued", "paused", False),
}
ROW = text(
    """INSERT INTO jobs (id, organization_id, user_id, job_type, status, hold, queue, max_retries, created_at,
                         started_at, completed_at, due_at, lease)
       SELECT :id, :organization, 'u', 'kind', status, hold, :queue, 3, now(),
              CASE WHEN status = 'running' THEN now() END, CASE WHEN status = 'failed' THEN now() END,
              CASE WHEN hold = 'schedule' THEN now() END, CASE WHEN status = 'running' THEN gen_random_uuid() END
       FROM (SELECT CAST(:status AS text), CAST(:hold AS text)) AS wanted (status, hold)"""
)
ASK = text("SELECT is_contended(:organization, :queue, :silence)")


def serve(tracked: Tracked, *queues: str, seen: timedelta = timedelta(0)) -> UUID:
    """A worker of these queues, whose last heartbeat was that long ago."""
    lease = uuid4()
    workers.beat(tracked.connection, lease, name="w", pid=1, queues=[*queues], concurrency=1)
    tracked.age_heartbeat(lease, seen)
    return lease


@pytest.mark.parametrize("served", [[("a",), ("b",)], [("a", "c"), ("b", "c")], []])
def test_what_waits_for_other_workers_is_nobodys_competition(
    free: Limited, tracked: Tracked, served: list[tuple[str, ...]]
) -> None:
    """Beside another organization's jobs in a queue of other workers, or of none, one without a limit is alone."""
    for queues in served:
        serve(tracked, *queues)
    theirs = free.submit_many(3, owner=GLOBEX, queue="b")
    mine = free.submit_many(5, queue="a", priority=7)
    assert free.holds([*theirs, *mine]) == [None] * 8
    free.turn()
    assert free.holds([*theirs, *mine]) == [None] * 8


def test_one_worker_of_both_queues_lets_them_take_turns(free: Limited, tracked: Tracked) -> None:
    """Of two organizations in two queues that a worker shares neither goes ahead; when it is gone they are alone."""
    for queue in ("a", "b"):
        serve(tracked, queue)
    shared = serve(tracked, "a", "b")
    free.submit_many(3, owner=GLOBEX, queue="b")
    mine = free.submit_many(5, queue="a")
    assert "organization_limit" in free.holds(mine)
    tracked.age_heartbeat(shared, HOUR)
    free.turn()
    assert free.holds(mine) == [None] * 5


JOBS = st.lists(
    st.tuples(st.sampled_from(["acme", "globex"]), st.sampled_from(QUEUES), st.sampled_from([*KINDS])), max_size=6
)
WORKERS = st.lists(st.tuples(st.sets(st.sampled_from(QUEUES), min_size=1), st.booleans()), max_size=4)


@settings(ON_ONE_DATABASE, max_examples=60)
@given(rows=JOBS, served=WORKERS, with_silent=st.booleans())
def test_the_answer_is_that_of_the_rows(
    pool: Database,
    tracked: Tracked,
    rows: list[tuple[str, str, str]],
    served: list[tuple[set[str], bool]],
    *,
    with_silent: bool,
) -> None:
    """An organization has others beside it where their jobs compete in a queue that one worker serves with its own."""
    empty(pool)
    for queues, is_silent in served:
        serve(tracked, *sorted(queues), seen=HOUR if is_silent else timedelta(0))
    for organization, queue, kind in rows:
        status, hold, _ = KINDS[kind]
        given_row = {"id": uuid4(), "organization": organization, "queue": queue, "status": status, "hold": hold}
        tracked.connection.execute(ROW, given_row)
    silence = None if with_silent else LEASE_TIMEOUT
    for asking in ("acme", "globex", "initech"):
        for own in QUEUES:
            near = {own}.union(*(queues for queues, silent in served if own in queues and (with_silent or not silent)))
            wanted = any(each != asking and queue in near and KINDS[kind][2] for each, queue, kind in rows)
            answer = tracked.connection.execute(ASK, {"organization": asking, "queue": own, "silence": silence})
            assert answer.scalar_one() is wanted, (asking, own)
