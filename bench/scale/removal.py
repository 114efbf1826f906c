"""How long it takes the leader to remove old jobs with their history, and what others notice of it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from bench.latency import percentile
from bench.scale.fill import SMALL
from bench.scale.reads import Answers, Api
from tasks.app import app
from tasks.leader.duties import Duties
from tasks.leader.pruning import Pruning
from tasks.platform import Platform
from tracking import clean_ups
from tracking.settings import Settings

NAME = "retention"  # of the leader's duty
KEPT = 40  # days; of the 90 that the database is filled with
QUIET = 200  # questions before it
MILLION = 1_000_000
PATIENCE = 600.0  # seconds


@dataclass(frozen=True)
class Removal:
    """`seconds` for a million jobs at the pace that it had; milliseconds of another tenant's statuses, p99."""

    seconds: float
    quiet: float
    beside: float
    answers: Answers


def measure(settings: Settings, api: Api) -> Removal:
    """Have the jobs that are older than `KEPT` days removed as the leader does it, at its pace."""
    kept = ("succeeded", "failed", "cancelled")
    platform = Platform(app, settings.model_copy(update={f"retention_{status}_days": KEPT for status in kept}))
    pruning = Pruning(platform)
    removal = Duties([duty for duty in pruning.duties(breath=0.0) if duty.name == NAME], "bench")
    quiet, beside = Answers(), Answers()
    with api.client(SMALL) as client:
        path = api.paths["list by cursor"]
        for _ in range(QUIET):
            quiet.ask(client, path)
        began = time.monotonic()
        try:
            while not pruning.is_up_to_date:
                removal.turn()
                beside.ask(client, path)
                if time.monotonic() - began > PATIENCE:
                    raise AssertionError(f"old jobs are left after {PATIENCE:.0f} s")
            spent = time.monotonic() - began
        finally:
            removal.close(PATIENCE)
    with platform.database.autocommit() as connection:
        removed = next(each.removed for each in clean_ups.every(connection) if each.name == NAME)
    platform.database.close()
    if not removed:
        raise AssertionError("no job was old enough to be removed")
    return Removal(
        spent / removed * MILLION, percentile(quiet.milliseconds, 99), percentile(beside.milliseconds, 99), beside
    )
