"""The leader counts what happens, on a live platform."""

from __future__ import annotations

from pathlib import Path

from tests.live import LivePlatform, eventually
from tracking import totals
from tracking.totals import Measure


def _numbers(platform: LivePlatform) -> dict[tuple[str, str], int]:
    with platform.database.autocommit() as connection:
        return {
            (each.job_type, f"{each.measure} {each.outcome}".strip()): each.number for each in totals.read(connection)
        }


def test_a_worker_that_leads_counts_what_happens(running: LivePlatform, tmp_path: Path) -> None:
    """Within seconds a job that lost its process once is a success, a lost attempt, and a time that it ran."""
    running.wait_for(running.submit("die", payload={"witness": str(tmp_path / "starts")}))
    eventually(
        lambda: _numbers(running).get(("die", f"{Measure.ENDED} succeeded")) == 1, within=20, what="the job's count"
    )
    numbers = _numbers(running)
    assert numbers["die", f"{Measure.CREATED}"] == 1
    assert numbers["die", f"{Measure.ATTEMPTS} lost"] == 1
    assert numbers["die", f"{Measure.ATTEMPTS} succeeded"] == 1
