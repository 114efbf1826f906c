"""A live worker makes the jobs of schedules, and runs them."""

from __future__ import annotations

from pathlib import Path

from tests.live import LivePlatform, eventually
from tests.scheduled import Scheduled
from tests.servers import Servers


def test_a_live_worker_makes_and_runs_the_jobs_of_due_times(
    servers: Servers, database_url: str, tmp_path: Path
) -> None:
    """A schedule that is due each second has jobs that succeed, one for each due time, while a worker lives."""
    with LivePlatform(database_url, servers.valkey_url, tmp_path) as platform:
        scheduled = Scheduled(platform.database)
        schedule = scheduled.create(every_seconds=1, payload={"words": ["a", "b"]})
        platform.start_worker()

        def has_run_thrice() -> bool:
            found = scheduled.outcomes(schedule)
            return sum(outcome.status == "succeeded" for outcome in found) >= 3

        eventually(has_run_thrice, within=30, what="three jobs of the schedule")
        made = [outcome.due_at for outcome in scheduled.outcomes(schedule) if outcome.job_id]
        assert len(set(made)) == len(made)
        assert all((at - schedule.anchor).total_seconds() % 1 == 0 for at in made)
