"""Jobs that go to a process in bundles: each ends as it would alone, whatever happens to the others."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import psutil
import pytest

from tests.live import LivePlatform, empty_queues, eventually
from tests.platform.test_cancel import cancel_row, receipt
from tests.servers import Servers, new_database
from tracking.errors import IllegalMove

BURST = 100
KILLS = 4

Call = tuple[str, list[str], dict[str, str], dict[str, str]]


def short(*args: str) -> Call:
    """A call of a type whose jobs go together."""
    return "short", list(args), {}, {}


@pytest.fixture(scope="module")
def bundling(servers: Servers, broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePlatform]:
    """A platform whose worker knows how short those bodies are: it gives them to its processes in bundles.

    What is sent is the broker's alone.
    """
    empty_queues(broker_url)
    own = {"CELERIAC_ORGANIZATION_LIMIT": "0"}
    with new_database(servers) as url, LivePlatform(url, broker_url, tmp_path_factory.mktemp("b"), **own) as platform:
        platform.start_worker()
        platform.all_ended(platform.submit_all([short()] * BURST))
        yield platform


def ended(platform: LivePlatform, ids: list[UUID]) -> Counter[tuple[str, int]]:
    """How many have ended with which status and losses.

    Not always in the first attempt: what is claimed is handed back without a loss when no body ends for half a second.
    """
    return Counter((job.status, job.losses) for job in platform.all_ended(ids))


def ended_so_far(platform: LivePlatform, ids: list[UUID]) -> int:
    """How many have succeeded until now."""
    return sum(job.status == "succeeded" and job.id in ids for job in platform.jobs())


def test_a_failure_in_the_midst_of_a_bundle_is_its_own(bundling: LivePlatform) -> None:
    """Every third job fails, and has the history of a failure; those before and behind it succeed."""
    ids = bundling.submit_all([short("fail") if number % 3 == 0 else short("well") for number in range(BURST)])
    jobs, told = bundling.all_ended(ids), bundling.all_events()
    for number, job in enumerate(jobs):
        fails = number % 3 == 0
        assert (job.status, job.losses) == ("failed" if fails else "succeeded", 0)
        assert (job.result, told[job.id][-1]) == ((None, "failed") if fails else ("well", "completed"))
        assert [event for event in told[job.id] if event in {"failed", "completed"}] == told[job.id][-1:]


def test_nothing_waits_behind_a_slow_body_of_a_bundle(bundling: LivePlatform, tmp_path: Path) -> None:
    """Among a hundred and fifty jobs one waits for a file: all the others end, and that one when it has come."""
    gate = tmp_path / "gate"
    before = bundling.submit_all([*[short()] * 50, short("wait", str(gate)), *[short()] * BURST])
    slow = before.pop(50)
    assert ended(bundling, before) == {("succeeded", 0): 50 + BURST}
    assert bundling.job(slow).status == "running"
    gate.touch()
    assert bundling.wait_for(slow).status == "succeeded"


def test_a_process_that_dies_amid_a_bundle_costs_the_job_that_it_ran(bundling: LivePlatform, tmp_path: Path) -> None:
    """Two jobs kill their processes once: each of them has a loss, and no other job has one."""
    deaths = [short("die", str(tmp_path / str(number))) for number in range(2)]
    ids = bundling.submit_all([*[short()] * 60, deaths[0], *[short()] * 60, deaths[1], *[short()] * 60])
    assert ended(bundling, ids) == {("succeeded", 0): 180, ("succeeded", 1): 2}
    told = bundling.all_events()
    assert Counter(event for job_id in ids for event in told[job_id])["completed"] == 182


def test_processes_that_are_killed_cost_one_job_each_at_most(bundling: LivePlatform) -> None:
    """Kills at random moments under load: no job is lost, and no kill costs more than the one that ran."""
    ids = bundling.submit_all([short()] * 3 * BURST)
    for number in range(KILLS):
        eventually(
            lambda: ended_so_far(bundling, ids) > number * BURST / 2,  # noqa: B023
            what="some ends",
        )
        # Both may be dead for a moment: what was killed before is not replaced yet.
        child = random.choice(eventually(psutil.Process(bundling.worker_pid).children, what="a living process"))
        with suppress(psutil.NoSuchProcess):
            child.kill()
    jobs = bundling.all_ended(ids)
    assert {job.status for job in jobs} == {"succeeded"}
    assert sum(job.losses for job in jobs) <= KILLS


def test_cancelled_jobs_of_bundles_end_as_cancelled_ones(bundling: LivePlatform, tmp_path: Path) -> None:
    """Jobs are cancelled while those like them run: each is cancelled or was faster, and the others all succeed."""
    gates = [tmp_path / "gate-1", tmp_path / "gate-2"]
    waits = [short("wait", str(gate)) for gate in gates]
    ids = bundling.submit_all([*[short()] * BURST, *waits, *[short()] * 2 * BURST])
    slow = [ids.pop(BURST), ids.pop(BURST)]
    picked = random.sample(ids[BURST:], 20)
    for job_id in picked:
        with suppress(IllegalMove):  # it was faster
            cancel_row(bundling, job_id)
    for job_id, gate in zip(slow, gates, strict=True):
        eventually(gate.with_name(f"{gate.name}.begun").exists, what="the begin of the body")
        cancel_row(bundling, job_id)
        assert receipt(bundling, job_id) == "interrupted"
    others = [job_id for job_id in ids if job_id not in picked]
    assert ended(bundling, others) == {("succeeded", 0): len(others)}
    jobs = bundling.all_ended(picked)
    assert {job.status for job in jobs} <= {"cancelled", "succeeded"}
    eventually(lambda: not any(bundling.job(job.id).stopping for job in jobs), what="the ends of their bodies")


def test_a_worker_that_stops_amid_bundles_hands_back_what_has_not_begun(bundling: LivePlatform, tmp_path: Path) -> None:
    """A warm stop while one body waits: it ends, nothing that stood behind it is lost, and another worker runs that."""
    gate = tmp_path / "gate"
    ids = bundling.submit_all([*[short()] * BURST, short("wait", str(gate)), *[short()] * 2 * BURST])
    bundling.wait_for(ids[BURST], "running")
    psutil.Process(bundling.worker_pid).terminate()
    bundling.start_worker()
    gate.touch()
    jobs = bundling.all_ended(ids)
    assert {(job.status, job.losses) for job in jobs} == {("succeeded", 0)}
    told = bundling.all_events()
    assert {told[job_id].count("completed") for job_id in ids} == {1}
