"""`python -m bench`, as small as it goes: it ends well, says what it should, and leaves nothing behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.latency import percentile
from bench.report import Report, Target, targets, to_markdown
from bench.throughput import Round
from celeriac.embedded.processes import wait_until
from tests.commands import python

TINY = (
    "--broker",
    "valkey",
    "--jobs",
    "20",
    "--rounds",
    "1",
    "--samples",
    "3",
    "--creates",
    "50",
    "--posts",
    "16",
    "--log-level",
    "WARNING",
)
PATIENCE = 400  # seconds that a run may take on a busy machine; on a quiet one it takes 30


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any], str]:
    """What a tiny run prints, its JSON, and a document that it puts its results in."""
    directory = tmp_path_factory.mktemp("bench")
    found, docs = directory / "found.json", directory / "docs.md"
    docs.write_text("before\n<!-- results -->\nold\n<!-- end of results -->\nafter\n")
    files = ("--json", str(found), "--docs", str(docs))
    done = python("-m", "bench", *TINY, *files, within=PATIENCE, COLUMNS="160")
    assert done.status == 0, done.out + done.err
    return done.out, json.loads(found.read_text()), docs.read_text()


def test_a_run_prints_its_tables_and_targets(run: tuple[str, dict[str, Any], str]) -> None:
    """A bench run prints its four sides, the latency, and each target with its verdict."""
    printed, _, _ = run
    for words in (
        "Celery, bare",
        "db+postgresql",
        "Celeriac, tracked",
        "bundle=True",
        "Latency",
        "Bulk creates",
        "of 20 organizations",
        "≥ 15000",
        "≥ 1.2",
        "≤ 6",
    ):
        assert words in printed
    assert "reached" in printed or "missed" in printed


def test_a_run_measures_each_side_in_turn(run: tuple[str, dict[str, Any], str]) -> None:
    """A round measures each side once, with positive figures, and counts the database where there is one."""
    _, found, _ = run
    rounds = found["rounds"]["Valkey"]
    assert [each["side"] for each in rounds] == ["bare", "results", "tracked", "bundled"]
    assert {each["jobs"] for each in rounds} == {20}
    assert all(each["rate"] > 0 and sum(each["cpu"].values()) > 0 for each in rounds)
    assert [sorted(each["cpu"]) for each in rounds] == [
        ["broker", "worker"],
        ["broker", "database", "worker"],
        ["broker", "database", "worker"],
        ["broker", "database", "worker"],
    ]


def test_a_body_starts_after_its_post_was_sent(run: tuple[str, dict[str, Any], str]) -> None:
    """The bench measures as many latencies as asked for, in milliseconds."""
    _, found, _ = run
    (latency,) = found["latencies"]
    assert len(latency["answered"]) == len(latency["started"]) == 3
    assert all(0 < value < 30_000 for value in (*latency["answered"], *latency["started"]))


def test_jobs_are_created_many_at_once(run: tuple[str, dict[str, Any], str]) -> None:
    """The bench measures how many jobs a second come into the database, and to the broker, in bulk."""
    _, found, _ = run
    (creates,) = found["creates"]
    assert creates["broker"] == "Valkey"
    assert creates["stored"] > 0 < creates["sent"]


def test_jobs_by_post_run_with_and_without_a_limit(run: tuple[str, dict[str, Any], str]) -> None:
    """The bench measures POSTed jobs without a limit, and under the default one of one and of twenty organizations."""
    _, found, _ = run
    (limits,) = found["limits"]
    assert sorted(limits["rates"]) == ["1 organization", "20 organizations", "no limit"]
    assert all(rate > 0 for rates in limits["rates"].values() for rate in rates)


def test_results_replace_the_old_ones_in_a_document(run: tuple[str, dict[str, Any], str]) -> None:
    """New results replace the old ones in a document, and what stands around them stays."""
    _, found, docs = run
    assert docs.startswith("before\n<!-- results -->\n")
    assert docs.endswith("<!-- end of results -->\nafter\n")
    assert "old" not in docs.splitlines()
    assert f"Measured {found['began']}" in docs


@pytest.fixture
def started(tmp_path: Path) -> Iterator[psutil.Process]:
    """A run in the middle of a round."""
    with (tmp_path / "bench.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "bench", *TINY], stdout=log, stderr=log)
    running = psutil.Process(process.pid)
    try:
        assert wait_until(lambda: any(_is_worker(child) for child in _children(running)), PATIENCE)
        yield running
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_no_process(started: psutil.Process, number: signal.Signals) -> None:
    """Ctrl-C or SIGTERM during a round ends the servers and workers of the bench."""
    family = _children(started)
    started.send_signal(number)
    assert wait_until(lambda: not _alive(started), 60)
    assert wait_until(lambda: not any(_alive(child) for child in family), 5)


def test_ratios_are_taken_within_each_alternation() -> None:
    """The bench takes ratios within each round: a machine that slows down later changes none."""
    rounds = [
        Round(side, 10, rate * speed, {"worker": cpu / speed}, 0.0)
        for speed in (1.0, 0.25, 0.5)
        for side, rate, cpu in (("bare", 1000, 1.0), ("results", 200, 5.0), ("tracked", 500, 2.0))
    ]
    found = targets(Report({}, {}, rounds={"RabbitMQ": rounds}))
    assert [(target.measured, target.reached) for target in found] == [(0.5, False), (2.0, False), (2.5, False)]


def test_a_target_says_whether_it_is_reached() -> None:
    """A target is reached up to and including a maximum, or from a minimum on."""
    assert Target("", measured=10, wanted=10, at_most=True).reached
    assert not Target("", measured=10.1, wanted=10, at_most=True).reached
    assert Target("", measured=0.4, wanted=0.4).reached
    assert not Target("", measured=0.39, wanted=0.4).reached


def test_a_missing_broker_is_named_with_its_reason() -> None:
    """A bench run without one of the brokers names it with the reason."""
    machine = dict.fromkeys(
        ("processor", "memory", "system", "python", "celery", "kombu", "sqlalchemy", "psycopg", "load before"), "x"
    )
    settings = {"jobs": 1, "rounds": 1, "log_level": "INFO", "workers": "prefork with 2", "arguments": ""}
    assert "RabbitMQ is missing: refused" in to_markdown(Report(settings, machine, skipped={"RabbitMQ": "refused"}))


def test_percentiles_of_a_hundred_values() -> None:
    """The p50 of a hundred values is the middle, and the p99 near the end."""
    values = [float(value) for value in range(101)]
    assert (percentile(values, 50), percentile(values, 99)) == (50.0, 99.0)


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "bench.plain" in process.cmdline()
    except psutil.Error:  # gone, or about to
        return False


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
