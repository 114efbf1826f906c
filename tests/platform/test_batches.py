"""Many short jobs at once: claimed and settled together by the worker's main process, each as if it were alone."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import text

from tests.live import LivePlatform, eventually
from tracking.crashpoints import HANDED_OVER, SETTLED, VARIABLE

BURST = 100
SIGNALS = 10  # to each process of bodies: of those that hit a body, each costs it two seconds

Call = tuple[str, list[Any], dict[str, Any], dict[str, Any]]


@pytest.fixture(autouse=True)
def _no_limit(platform: LivePlatform) -> None:
    platform.environment["CELERIAC_ORGANIZATION_LIMIT"] = "0"  # what is sent is the broker's alone


def noops(count: int, **options: Any) -> list[Call]:
    """Calls of the shortest body."""
    return [("noop", [], {}, options)] * count


def in_batches(platform: LivePlatform) -> int:
    """How many of the first worker's jobs have ended by a batch."""
    return platform.log().count("job.ended [tasks.worker.batcher]")


def warm_up(platform: LivePlatform) -> None:
    """Let the worker know how short its bodies are."""
    platform.all_ended(platform.submit_all(noops(20)))


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_burst_of_short_jobs_runs_once_each_and_most_of_it_in_batches(platform: LivePlatform, pool: str) -> None:
    """A hundred jobs, some with results, progress or errors: each ends as it would alone, with the same history."""
    kinds: list[tuple[Call, str, list[str], Any]] = [
        (("noop", [], {}, {}), "succeeded", ["created", "started", "completed"], None),
        (("add", [1, 2], {}, {}), "succeeded", ["created", "started", "completed"], 3),
        (
            ("count_words", [], {"payload": {"words": ["a", "b"]}}, {}),
            "succeeded",
            ["created", "started", "completed"],
            {"wordCount": 2},
        ),
    ]
    failing: tuple[Call, str, list[str], Any] = (
        ("add", ["a", 1], {}, {}),
        "failed",
        ["created", "started", "failed"],
        None,
    )
    # Fewer than open a circuit.
    wanted = [failing if number % 40 == 0 else kinds[number % 3] for number in range(BURST)]
    platform.start_worker("-P", pool)
    ids = platform.submit_all([call for call, *_ in wanted])
    jobs, told = platform.all_ended(ids), platform.all_events()
    for job, (_, status, events, result) in zip(jobs, wanted, strict=True):
        assert (job.status, job.attempt, job.losses, job.result) == (status, 1, 0, result)
        assert told[job.id] == events
        assert job.progress == (100 if status == "succeeded" else 0)
    assert in_batches(platform) > BURST / 4
    assert "batch.failed" not in platform.log()


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_failures_between_successes_are_no_row_of_failures(platform: LivePlatform, pool: str) -> None:
    """Of a burst every third job fails: its circuit stays closed, though failures are written before successes."""
    platform.start_worker("-P", pool)
    calls: list[Call] = [("add", ["a" if number % 3 == 0 else 1, 1], {}, {}) for number in range(BURST)]
    statuses = Counter(job.status for job in platform.all_ended(platform.submit_all(calls)))
    assert statuses == {"failed": -(-BURST // 3), "succeeded": BURST - -(-BURST // 3)}
    with platform.database.autocommit() as connection:
        assert (
            connection.execute(text("SELECT count(*) FROM history WHERE detail ->> 'hold' = 'circuit'")).scalar() == 0
        )
        assert connection.execute(text("SELECT count(*) FROM circuits")).scalar() == 0


def test_short_jobs_do_not_wait_for_the_long_one_before_them(platform: LivePlatform, tmp_path: Path) -> None:
    """While one process runs a long body, the other one runs all that came after it, acknowledged and settled."""
    gate = tmp_path / "gate"
    platform.start_worker()
    warm_up(platform)
    long, *short = platform.submit_all([("until", [str(gate)], {}, {}), *noops(BURST)])
    assert {job.status for job in platform.all_ended(short)} == {"succeeded"}
    assert platform.job(long).status == "running"
    gate.touch()
    assert platform.wait_for(long).status == "succeeded"


def test_an_urgent_job_overtakes_those_that_a_worker_has_already(platform: LivePlatform) -> None:
    """Behind a hundred and fifty jobs of 10 ms an urgent one starts long before the last of them."""
    platform.start_worker(concurrency=1)
    naps: list[Call] = [("nap", [], {"payload": {"seconds": 0.01}}, {"priority": 1})] * (BURST + 50)
    ids = platform.submit_all(naps)
    eventually(lambda: platform.job(ids[30]).status == "succeeded", within=30, what="the beginning")
    urgent = platform.submit("noop", priority=9)
    started = platform.wait_for(urgent).started_at
    assert started is not None
    times = [job.started_at for job in platform.all_ended(ids) if job.started_at is not None]
    assert sum(time > started for time in times) > BURST / 4


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_long_body_gives_what_waits_behind_it_to_an_idle_worker(
    platform: LivePlatform, tmp_path: Path, pool: str
) -> None:
    """A worker that has fetched many short jobs and then meets a long one keeps none of them waiting."""
    gate = tmp_path / "gate"
    platform.start_worker("-P", pool, concurrency=1)
    warm_up(platform)
    long, *short = platform.submit_all([("until", [str(gate)], {}, {}), *noops(50)])
    eventually(lambda: platform.job(long).status == "running", what="the long body")
    platform.start_worker("-P", pool, concurrency=1)
    jobs = platform.all_ended(short, within=20)
    assert {(job.status, job.losses) for job in jobs} == {("succeeded", 0)}
    gate.touch()
    platform.wait_for(long)


@pytest.mark.parametrize("point", [HANDED_OVER, SETTLED])
def test_a_worker_that_dies_with_many_jobs_in_its_hands_loses_none(platform: LivePlatform, point: str) -> None:
    """The main process dies between a commit and what follows it: each job ends once, none as poison."""
    platform.environment["CELERIAC_LEASE_TIMEOUT"] = "2"
    platform.environment["CELERIAC_HEARTBEAT"] = "0.5"
    ids = platform.submit_all(noops(2 * BURST))
    platform.environment[VARIABLE] = f"{point}:0.5"  # in every second batch
    dying = platform.start_worker()
    assert dying.wait(60) == -signal.SIGKILL
    assert f"crash point {point}" in platform.log()
    del platform.environment[VARIABLE]
    platform.start_worker()
    jobs = platform.all_ended(ids)
    assert {(job.status, job.attempt <= 2, job.losses <= 1) for job in jobs} == {("succeeded", True, True)}
    told = platform.all_events()
    assert {told[job.id].count("completed") for job in jobs} == {1}


def test_only_the_job_that_takes_workers_down_is_poison(platform: LivePlatform) -> None:
    """Three main processes die of one job with many others claimed beside it: it fails, and no other one does."""
    platform.environment["CELERIAC_LEASE_TIMEOUT"] = "2"
    platform.environment["CELERIAC_HEARTBEAT"] = "0.5"
    ids = platform.submit_all([*noops(60), ("kill_worker", [], {}, {}), *noops(BURST)])
    for _ in range(3):
        platform.start_worker().wait(30)
    platform.start_worker()
    jobs = {job.id: job for job in platform.all_ended(ids)}
    poison = jobs.pop(ids[60])
    assert (poison.status, poison.error_type) == ("failed", "WorkerLost")
    assert Counter(job.status for job in jobs.values()) == {"succeeded": 60 + BURST}
    assert max(job.losses for job in jobs.values()) <= 1


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_worker_that_is_told_to_stop_leaves_nothing_running(platform: LivePlatform, pool: str) -> None:
    """A warm stop amid a burst: what has run is settled, what has not begun is another worker's, without a loss."""
    ids = platform.submit_all(noops(4 * BURST))
    stopping = platform.start_worker("-P", pool)
    eventually(lambda: in_batches(platform) > 20, what="some batches")
    stopping.terminate()
    assert stopping.wait(30) == 0
    running = [job.id for job in platform.jobs() if job.status == "running"]
    assert [platform.history(job_id) for job_id in running] == []
    platform.start_worker()
    jobs = platform.all_ended(ids)
    assert {(job.status, job.losses) for job in jobs} == {("succeeded", 0)}


def test_interruptions_between_two_jobs_harm_neither(platform: LivePlatform) -> None:
    """Signals that arrive in a body's process at any moment, meant for a job before, fail no job and end no process."""
    platform.start_worker()
    warm_up(platform)
    ids = platform.submit_all(noops(3 * BURST))
    children = psutil.Process(platform.worker_pid).children()
    for _ in range(SIGNALS):
        for child in children:
            child.send_signal(signal.SIGUSR1)
        time.sleep(random.uniform(0, 0.05))
    jobs = platform.all_ended(ids)
    assert {(job.status, job.losses <= 2) for job in jobs} == {("succeeded", True)}
    assert {child.pid for child in psutil.Process(platform.worker_pid).children()} == {child.pid for child in children}


def test_processes_that_are_replaced_after_some_jobs_take_none_with_them(platform: LivePlatform) -> None:
    """With `--max-tasks-per-child` each job runs once, without a loss, in bundles and alone."""
    platform.start_worker("--max-tasks-per-child", "5")
    ids = platform.submit_all([("short" if number % 2 else "noop", [], {}, {}) for number in range(80)])
    ended = platform.all_ended(ids)
    assert {(job.status, job.losses) for job in ended} == {("succeeded", 0)}
    # Where a new process takes long to start, what was claimed for it is given back before its body begins.
    again = [job for job in ended if job.attempt > 1]
    released = [
        entry.detail["errorType"] for job in again for entry in platform.history(job.id) if entry.event == "released"
    ]
    assert (len(released), {*released} - {"GivenBack"}) == (sum(job.attempt - 1 for job in again), set())
