"""Slots, lines, dependencies, circuits and pauses with a real worker on each broker."""

from __future__ import annotations

import os
import signal
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text

from tests.holding import fill, most_executing
from tests.live import LivePlatform, eventually
from tests.tracked import Tracked, check_rows
from tracking.admission import pauses, queue_pauses
from tracking.schema import jobs

SLOW_SWEEP = {"CELERIAC_SWEEP_INTERVAL": "30"}
VERBS = "from uuid import UUID; from tasks import app, verbs; from tracking.models import Scope\n"
CANCEL = VERBS + "verbs.cancel(app.platform, UUID(stdin), Scope('default', None), actor='u1')"
RESUME = "from tasks import app; app.platform.dispatcher.resume(); app.platform.dispatcher.flush(10)"

# From an end to the next start of the same organization, in milliseconds.
REFILLS = """
    SELECT 1000 * extract(epoch FROM started.at - ended.at)
    FROM history AS started, LATERAL (
        SELECT max(at) AS at FROM history
        WHERE event = 'completed' AND organization_id = started.organization_id AND at < started.at) AS ended
    WHERE started.event = 'started' AND ended.at IS NOT NULL"""


def limit(platform: LivePlatform, number: int) -> None:
    """So many jobs of an organization may execute at once, as every process from now on will know."""
    platform.environment["CELERIAC_ORGANIZATION_LIMIT"] = str(number)


@pytest.fixture
def limited(platform: LivePlatform) -> Iterator[LivePlatform]:
    """The platform with two slots for each organization. Afterwards the rows must tell no lie."""
    limit(platform, 2)
    yield platform
    with platform.database.engine.connect() as connection:  # the worker goes on meanwhile
        check_rows(Tracked(connection.execution_options(isolation_level="REPEATABLE READ")))


def count(platform: LivePlatform, condition: str) -> int:
    """How many jobs are so."""
    with platform.database.autocommit() as connection:
        return int(connection.execute(select(func.count()).select_from(jobs).where(text(condition))).scalar_one())


def call(name: str, payload: dict[str, Any] | None = None, **options: Any) -> Any:
    return (name, [], {"payload": payload} if payload is not None else {}, options)


def test_a_freed_slot_is_taken_at_once(platform: LivePlatform) -> None:
    """A freed slot is filled by the process whose job ended, not at the leader's next look."""
    limit(platform, 1)
    platform.start_worker(concurrency=2, **SLOW_SWEEP)
    ids = platform.submit_all([call("noop") for _ in range(40)])
    for job_id in ids:
        platform.wait_for(job_id, "succeeded")
    with platform.database.autocommit() as connection:
        gaps = [float(gap) for gap in connection.execute(text(REFILLS)).scalars()]
        assert most_executing(connection) == {"default": 1}
    figures = f"p50 {statistics.median(gaps):.1f} ms, max {max(gaps):.1f} ms, of {len(gaps)}"
    print(f"slot refilled: {figures}")  # noqa: T201 - worth a look (pytest -rP)
    assert len(gaps) == 39
    assert statistics.median(gaps) < 500


def test_the_only_job_of_an_organization_is_the_next_to_start(limited: LivePlatform) -> None:
    """The single job of an organization is the next to start, however long another one's line is."""
    limit(limited, 100)
    with limited.database.autocommit() as connection:
        fill(Tracked(connection), 1000, hold="organization_limit", job_type="nap", payload='{"seconds": 0.3}')
    limited.start_worker(concurrency=2)
    eventually(lambda: count(limited, "status = 'running'") == 2, what="the start of the line")
    single = limited.submit("noop", organization="globex")
    limited.wait_for(single, "succeeded")
    with limited.database.autocommit() as connection:
        between = connection.execute(text(OVERTAKEN), {"id": single}).scalar_one()
    assert between <= 3, "what was on its way to a worker, and no more"


def test_floods_at_all_priorities_let_another_organization_have_its_turn(limited: LivePlatform, tmp_path: Path) -> None:
    """A single job starts after at most as many others as there are slots and organizations."""
    limit(limited, 5)
    limited.start_worker(concurrency=2)
    gate = tmp_path / "gate"  # all jobs of the floods are there before the first of them starts
    gates = [limited.submit("until", str(gate), organization="gate") for _ in range(2)]
    for job_id in gates:
        limited.wait_for(job_id, "running")
    floods = [f"flood-{number}" for number in range(3)]
    priorities = [9, 0, 5, 9, 9, 1, 9, 7, 9, 9, 3, 9]
    flood = [call("nap", {"seconds": 0.15}, organization=of, priority=each) for each in priorities for of in floods]
    ids = limited.submit_all(flood)
    gate.touch()
    eventually(lambda: count(limited, "status = 'running' AND job_type = 'nap'") == 2, what="the start of the floods")
    single = limited.submit("noop", organization="single")
    for job_id in (single, *ids):
        limited.wait_for(job_id, "succeeded", within=40)
    with limited.database.autocommit() as connection:
        between = connection.execute(text(OVERTAKEN), {"id": single}).scalar_one()
        late = [connection.execute(text(LATE), {"of": of}).all() for of in floods]
    assert between <= 2 + len(floods)
    assert late == [[], [], []]  # of each one job waits at the broker, and gives way to a more urgent one


# Jobs that have waited for the end of a less urgent one of their organization. Two that find a slot each begin at the
# same time: whose claim is written first says nothing.
LATE = """
    SELECT late.priority, earlier.priority FROM jobs AS late JOIN jobs AS earlier USING (organization_id)
    WHERE organization_id = :of AND late.priority > earlier.priority AND late.started_at > earlier.completed_at"""

OVERTAKEN = """
    SELECT count(*) FROM history AS other, jobs AS single
    WHERE single.id = :id AND other.event = 'started' AND other.job_id <> single.id
      AND other.at BETWEEN single.created_at AND single.started_at"""


def test_no_more_bodies_run_at_once_than_the_limit_says(limited: LivePlatform) -> None:
    """By the intervals of the history no organization runs more bodies than its limit."""
    limited.start_worker(concurrency=4)
    short = {"seconds": 0.05}
    ids = limited.submit_all([call("nap", short, organization=of) for _ in range(12) for of in ("acme", "globex")])
    for job_id in ids:
        limited.wait_for(job_id, "succeeded", within=40)
    with limited.database.autocommit() as connection:
        assert most_executing(connection) == {"acme": 2, "globex": 2}


def test_a_job_starts_after_those_that_it_depends_on(limited: LivePlatform) -> None:
    """Dependent jobs start in turn without the leader, and not after a failure."""
    limited.start_worker(concurrency=2, **SLOW_SWEEP)
    first = limited.submit("nap", payload={"seconds": 0.5})
    second = limited.submit("noop", depends_on=[str(first)])
    third = limited.submit("noop", depends_on=[str(second)])
    assert limited.job(third).hold == "dependency"
    done = [limited.wait_for(job_id, "succeeded") for job_id in (first, second, third)]
    times = [at for job in done for at in (job.started_at, job.completed_at)]
    assert times == sorted(times)  # type: ignore[type-var]
    failing = limited.submit("fail")
    child = limited.submit("noop", depends_on=[str(failing)])
    job = limited.wait_for(child, "cancelled")
    assert (job.attempt, job.error_message) == (0, f"its dependency {failing} is failed")


def test_a_circuit_opens_holds_and_closes(limited: LivePlatform, tmp_path: Path) -> None:
    """Two failures open a circuit, the other jobs wait, and a probe lets them through."""
    fault = tmp_path / "fault"
    fault.touch()
    limited.start_worker(concurrency=1)
    payload = {"fault": str(fault)}
    ids = limited.submit_all([call("fragile", payload) for _ in range(8)])
    eventually(lambda: count(limited, "status = 'failed'") >= 2, what="the failures")
    eventually(lambda: count(limited, "hold = 'circuit'") >= 5, what="the open circuit")
    assert count(limited, "status = 'failed'") <= 3, "one may have been on its way"
    fault.unlink()
    held = [job_id for job_id in ids if limited.job(job_id).hold == "circuit"]
    assert {limited.wait_for(job_id, within=30).status for job_id in held[1:]} == {"succeeded"}
    assert limited.wait_for(held[0]).status in ("succeeded", "failed"), "it may have tried before the fault was mended"


def test_a_pause_holds_what_waits_and_its_end_lets_it_go(limited: LivePlatform, tmp_path: Path) -> None:
    """A pause refuses sent jobs at their claim, and the resume sends them again."""
    limited.start_worker(concurrency=1)
    gate = tmp_path / "gate"
    running = limited.submit("until", str(gate))
    limited.wait_for(running, "running")
    sent = limited.submit("noop")
    with limited.database.autocommit() as connection:
        assert pauses.pause(connection, organization_id="default", job_type=None, actor="admin", reason=None)
    new = limited.submit("noop")
    assert limited.job(new).hold == "paused"
    gate.touch()
    assert limited.wait_for(running).status == "succeeded"
    eventually(lambda: limited.job(sent).hold == "paused", what="the refusal")
    with limited.database.autocommit() as connection:
        assert pauses.resume(connection, organization_id="default", job_type=None, actor="admin")
    limited.run(RESUME)
    assert {limited.wait_for(job_id).status for job_id in (sent, new)} == {"succeeded"}


def test_a_paused_queue_holds_what_a_worker_has_of_it_already(limited: LivePlatform, tmp_path: Path) -> None:
    """What a worker holds of a queue when this is paused does not start, nor what comes; the resume runs all of it."""
    limit(limited, 0)
    limited.start_worker(concurrency=1)
    gate = tmp_path / "gate"
    running = limited.submit("until", str(gate))
    limited.wait_for(running, "running")
    sent = [limited.submit("noop") for _ in range(6)]
    eventually(lambda: count(limited, "dispatched_at IS NOT NULL") == 7, what="the messages")
    queue = limited.job(running).queue
    with limited.database.autocommit() as connection:
        assert queue_pauses.pause(connection, queue=queue, actor="admin", reason=None)
    new = limited.submit("noop")
    gate.touch()
    assert limited.wait_for(running).status == "succeeded"
    eventually(lambda: count(limited, "hold = 'paused'") == 7, what="the refusals")
    with limited.database.autocommit() as connection:
        assert queue_pauses.resume(connection, queue=queue, actor="admin")
    limited.run(RESUME)
    assert {limited.wait_for(job_id).status for job_id in (*sent, new)} == {"succeeded"}


def test_a_slot_is_not_lost_with_the_process_that_used_it(limited: LivePlatform, tmp_path: Path) -> None:
    """A job whose process is killed keeps its slot and runs again, and the line moves on after it."""
    limit(limited, 1)
    limited.start_worker(concurrency=2)
    killed = limited.submit("die", payload={"witness": str(tmp_path / "starts")})
    waiting = limited.submit_all([call("noop") for _ in range(3)])
    assert limited.wait_for(killed).attempt == 2
    assert {limited.wait_for(job_id).status for job_id in waiting} == {"succeeded"}
    with limited.database.autocommit() as connection:
        assert most_executing(connection) == {"default": 1}


def test_a_killed_worker_takes_no_slot_with_it(limited: LivePlatform) -> None:
    """After kill -9 of a worker its jobs run again, and every organization gets its turn."""
    limit(limited, 1)
    patience = {"CELERIAC_LEASE_TIMEOUT": "2", "CELERIAC_HEARTBEAT": "0.5"}
    limited.environment |= patience
    first = limited.start_worker(concurrency=1)
    running = limited.submit("nap", payload={"seconds": 3})
    limited.wait_for(running, "running")
    waiting = limited.submit("noop")
    os.killpg(first.pid, signal.SIGKILL)
    limited.start_worker(concurrency=1)
    assert limited.wait_for(running, within=40).attempt == 2
    assert limited.wait_for(waiting).status == "succeeded"


def test_the_cancel_of_a_running_job_lets_the_next_one_start(limited: LivePlatform) -> None:
    """After the cancel of a running job the next one starts when its body is over."""
    limit(limited, 1)
    limited.start_worker(concurrency=2)
    running = limited.submit("nap", payload={"seconds": 30})
    limited.wait_for(running, "running")
    waiting = limited.submit("noop")
    limited.run(CANCEL, str(running))
    limited.wait_for(waiting, "succeeded")
    with limited.database.autocommit() as connection:
        assert most_executing(connection) == {"default": 1}
