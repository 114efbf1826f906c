"""Bulk operations with a real worker, whose leader works them off beside its other duties."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from tests.live import LivePlatform, eventually
from tracking.models import Scope
from tracking.operated import Action, State
from tracking.operations import reads
from tracking.operations.begin import begin
from tracking.operations.values import NewOperation, Operation
from tracking.reads.answers import Filters

MINE = Scope("default", None)


def begun(platform: LivePlatform, action: Action, ids: list[UUID], **options: Any) -> UUID:
    """An operation on these jobs."""
    new = NewOperation(uuid4(), action, MINE, "u1", {"ids": len(ids)}, **options)
    with platform.database.begin() as connection:
        begin(connection, new, Filters(ids=ids), at_once=9, judge=lambda _: {}, origin=None)
    return new.id


def found(platform: LivePlatform, operation_id: UUID) -> Operation:
    """The operation as it is now."""
    with platform.database.autocommit() as connection:
        return reads.get(connection, operation_id, MINE)


def test_what_is_cancelled_stops_and_what_is_retried_runs(running: LivePlatform) -> None:
    """A bulk cancel stops a running body and those that wait; a canary retry runs two of them first, then all."""
    nap = running.submit("nap", payload={"seconds": 30})
    eventually(lambda: running.job(nap).message == "nap 1", what="its first step")
    later = [running.submit("noop", countdown=3600) for _ in range(6)]
    cancel = begun(running, Action.CANCEL, [nap, *later])
    eventually(lambda: found(running, cancel).state is State.COMPLETED, within=20, what="the end of the cancel")
    eventually(lambda: not running.job(nap).stopping, within=20, what="the stop of the body")
    assert running.history(nap)[-1].detail["how"] == "interrupted"
    retry = begun(running, Action.RETRY, later, canary=2)
    eventually(lambda: found(running, retry).state is State.COMPLETED, within=30, what="the end of the retry")
    for job_id in later:
        running.wait_for(job_id, "succeeded")
    first = [running.history(job_id)[-1].id for job_id in sorted(later)[:2]]
    others = [entry for job_id in sorted(later)[2:] for entry in running.history(job_id) if entry.event == "retried"]
    assert max(first) < min(entry.id for entry in others)


def test_a_canary_that_fails_stops_the_rest(running: LivePlatform, tmp_path: Path) -> None:
    """Of eight failed jobs five are retried first; when one of these fails again, the other three are not touched."""
    faults = [tmp_path / f"fault {number}" for number in range(8)]
    for fault in faults:
        fault.touch()
    jobs = [running.submit("stumble", payload={"fault": str(fault)}) for fault in faults]
    for job_id in jobs:
        running.wait_for(job_id, "failed")
    tried, others = sorted(jobs)[:5], sorted(jobs)[5:]
    bad = tried[2]
    for job_id, fault in zip(jobs, faults, strict=True):
        if job_id != bad:
            fault.unlink()
    before = [(running.job(job_id), running.history(job_id)) for job_id in others]
    retry = begun(running, Action.RETRY, jobs, canary=5)
    eventually(lambda: found(running, retry).state is State.STOPPED, within=30, what="the stop of the retry")
    stopped = found(running, retry)
    assert stopped.reason == f"the job {bad} is failed: broken"
    assert (stopped.matched, stopped.done, stopped.succeeded) == (8, 5, 5)
    assert {job_id: running.job(job_id).status for job_id in tried} == {
        job_id: "failed" if job_id == bad else "succeeded" for job_id in tried
    }
    assert [(running.job(job_id), running.history(job_id)) for job_id in others] == before
