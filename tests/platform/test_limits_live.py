"""Limits of types and keys with real workers on each broker, and an example for each way to set one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from uuid import uuid4

from sqlalchemy import text

from tests.live import LivePlatform
from tests.platform.test_holds_live import call
from tracking.admission import job_limits
from tracking.admission.job_limits import Per, Wanted

# Each body, from its start to its end.
BODIES = """
    SELECT organization_id, payload ->> 'steps' AS key, started_at, completed_at FROM jobs
    WHERE job_type = 'nap' ORDER BY started_at"""


# Each time that a job was sent, also of those that are forgotten by now.
WATCH = """
    CREATE TABLE seen (at timestamptz);
    CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN INSERT INTO seen VALUES (NEW.expires_at - interval '1 second'); RETURN NEW; END$$;
    CREATE TRIGGER see AFTER INSERT ON limit_admissions FOR EACH ROW EXECUTE FUNCTION see()"""


def bound(platform: LivePlatform, per: str, concurrency: int | None = None, rate: int | None = None) -> None:
    """Limit naps, per key by the number of their steps, or so many a second."""
    path, period = "steps" if per == "key" else None, timedelta(seconds=1) if rate else None
    wanted = Wanted(None, "nap", Per(per), path, concurrency, rate, period)
    with platform.database.begin() as connection:
        job_limits.put(connection, uuid4(), wanted, actor="admin", origin=None)


Body = tuple[str, str | None, datetime, datetime]


def bodies(
    platform: LivePlatform,
    payload: dict[str, object],
    organizations: int = 2,
    each: int = 12,
    *,
    workers: Sequence[int] = (),
) -> list[Body]:
    """Naps of several organizations, run to their ends; `workers`: of these sizes, started when all jobs are there."""
    calls = [
        call("nap", {**payload, "steps": 1 + number % 2}, organization=f"org-{of}")
        for number in range(each)
        for of in range(organizations)
    ]
    submitted = platform.submit_all(calls)
    for concurrency in workers:
        platform.start_worker(concurrency=concurrency)
    for job_id in submitted:
        platform.wait_for(job_id, "succeeded", within=60)
    with platform.database.autocommit() as connection:
        return [
            (row.organization_id, row.key, row.started_at, row.completed_at) for row in connection.execute(text(BODIES))
        ]


def most_at_once(found: list[tuple[datetime, datetime]]) -> int:
    """How many of these intervals overlap at most."""
    changes = sorted([(began, 1) for began, _ in found] + [(ended, -1) for _, ended in found])
    running = most = 0
    for _, change in changes:
        running += change
        most = max(most, running)
    return most


def test_no_more_than_the_limit_execute_over_all_organizations(platform: LivePlatform) -> None:
    """Of a type that is limited on the platform so many execute at once, and organizations take turns."""
    bound(platform, "platform", concurrency=2)
    found = bodies(platform, {"seconds": 0.05}, organizations=3, each=8, workers=(3, 3))
    assert most_at_once([(began, ended) for *_, began, ended in found]) == 2
    first_half = Counter(of for of, *_ in found[: len(found) // 2])
    assert max(first_half.values()) - min(first_half.values()) <= 3, first_half


def test_no_more_than_the_limit_execute_of_each_key(platform: LivePlatform) -> None:
    """Of each key of each organization one executes at once, those of others beside it."""
    bound(platform, "key", concurrency=1)
    platform.start_worker(concurrency=4)
    found = bodies(platform, {"seconds": 0.1}, each=6)
    kinds = {(of, key) for of, key, *_ in found}
    assert len(kinds) == 4
    for kind in kinds:
        assert most_at_once([(began, ended) for of, key, began, ended in found if (of, key) == kind]) == 1
    assert most_at_once([(began, ended) for *_, began, ended in found]) > 1


def test_no_more_than_the_rate_are_sent_in_any_second(platform: LivePlatform) -> None:
    """In no second more jobs of an organization are sent than its rate says, and the rate is used by what starts."""
    with platform.database.autocommit() as connection:
        connection.exec_driver_sql(WATCH)
    bound(platform, "organization", rate=5)
    platform.start_worker(concurrency=4)
    found = bodies(platform, {"seconds": 0.0}, organizations=1, each=18)
    with platform.database.autocommit() as connection:
        sent = list(connection.execute(text("SELECT at FROM seen ORDER BY at")).scalars())
    assert len(sent) == 18
    assert min(later - earlier for earlier, later in zip(sent, sent[5:], strict=False)) >= timedelta(seconds=1)
    starts = [began for *_, began, _ in found]
    assert all(at <= began for at, began in zip(sent, starts, strict=True))
    assert starts[-1] - starts[0] < timedelta(seconds=12)
    assert max(later - earlier for earlier, later in pairwise(starts)) < timedelta(seconds=3)
