"""Checks of the workers: who consumes what, and whether a canary comes through each queue, and a cancel to a body."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from importlib.metadata import version
from typing import Any
from uuid import UUID

from tasks import submission, verbs
from tasks.catalog import handler
from tasks.doctor.broker import is_rabbitmq
from tasks.doctor.findings import Check, Finding, failed, fine, warning
from tasks.platform import Platform
from tracking import jobs
from tracking.errors import IllegalMove, TrackingError
from tracking.models import JobRecord, Owner, Scope
from tracking.reads import explain, fleet, lists
from tracking.reads.fleet import QueueState
from tracking.states import FINISHED, Event, Status
from tracking.webhooks import delivering

CANARY = "canary"  # the type of the jobs
OWNER = Owner(delivering("doctor"), "doctor")  # of no organization that anybody can be in
ANSWERS = 2.0  # seconds for workers to answer
PATIENCE = 10.0  # seconds for a canary to come through
LOOK = 0.05  # seconds
RUNS = 20.0  # seconds that a canary would run that is cancelled
SAYS_SO = 2.0  # seconds for its body to say that it has begun; that of an earlier release says nothing
MOST_QUEUES = 20  # that a canary is sent through


def checks(platform: Platform) -> list[Check]:
    """Those of the workers."""
    needs = ("database", "migrations", "broker")
    return [
        Check("workers", lambda: _workers(platform), ("database", "migrations")),
        Check("versions", lambda: _versions(platform), ("broker",)),
        Check("queues", lambda: _queues(platform), needs, within=PATIENCE + 5),
        Check("revocation", lambda: _revocation(platform), needs, within=2 * PATIENCE + 5),
    ]


def _workers(platform: Platform) -> Finding:
    with platform.database.autocommit() as connection:
        found = fleet.all_workers(connection, platform.limits.lease_timeout)
    alive = [each for each in found if each.is_alive]
    if not alive:
        return failed("workers", "no worker is alive: jobs wait", "start one: `celeriac worker`")
    slots = sum(each.concurrency for each in alive)
    said = f"{len(alive)} alive with {slots} slots, {sum(each.running for each in alive)} jobs running"
    dead = [each for each in found if not each.is_alive]
    if dead:
        names = ", ".join(f"{each.name} for {each.silent_for.total_seconds():.0f} s" for each in dead[:3])
        return warning("workers", f"{said}; silent: {names}", "look at their logs; their jobs are given to others")
    return fine("workers", said)


def _versions(platform: Platform) -> Sequence[Finding]:
    """What each worker says of itself, by remote control; and from that, how far ahead it fetches."""
    replies = platform.app.control.broadcast("condition", reply=True, timeout=ANSWERS) or []
    said: dict[str, dict[str, Any]] = {name: answer for reply in replies for name, answer in reply.items()}
    own = version("celeriac")
    if not said:
        mend = "start a worker; or let worker_enable_remote_control be on, by which Flower and cancels reach them"
        return [warning("versions", "no worker has answered", mend)]
    known = {name: str(answer.get("version", "older than this check")) for name, answer in said.items()}
    different = {name: found for name, found in known.items() if found != own}
    if different:
        names = ", ".join(f"{name}: {found}" for name, found in sorted(different.items())[:5])
        versions = warning("versions", f"this is {own}, and others run: {names}", "start them again with one version")
    else:
        versions = fine("versions", f"all that answer ({len(said)}) run {own}, as this program does")
    return [versions, _prefetch(platform, said)]


def _prefetch(platform: Platform, said: dict[str, dict[str, Any]]) -> Finding:
    """What a worker has fetched waits in it, in the order in which it came: an urgent message stands behind it."""
    conf = platform.app.conf
    if not is_rabbitmq(platform):
        if conf.worker_disable_prefetch:
            return fine("prefetch", "a worker fetches a message when it has room for it")
        return failed("prefetch", "worker_disable_prefetch is off", "leave it as celeryconfig.py has it")
    fetched = {name: answer.get("prefetch") for name, answer in said.items() if answer.get("prefetch") is not None}
    words = ", ".join(f"{name}: {count}" for name, count in sorted(fetched.items())[:5]) or "unknown"
    if conf.worker_prefetch_multiplier > 1:
        mend = "leave worker_prefetch_multiplier at 1: an urgent job waits for what was fetched before it"
        return warning(
            "prefetch", f"the multiplier is {conf.worker_prefetch_multiplier}; messages ahead: {words}", mend
        )
    return fine("prefetch", f"messages that a worker may have: {words}")


def _queues(platform: Platform) -> Sequence[Finding]:
    """A canary through each queue that a worker consumes; and those with jobs that none consumes."""
    with platform.database.autocommit() as connection:
        known = list(fleet.all_queues(connection, platform.limits.lease_timeout))
    served = {each.name for each in known if each.workers}
    used = {str(queue) for queue in platform.app.amqp.queues}
    missing = [QueueState(name, 0, 0, 0, 0, 0, None) for name in sorted(used - {each.name for each in known})]
    found = [_unserved(each) for each in [*known, *missing] if each.name not in served]
    through = [each for each in known if each.workers][:MOST_QUEUES]
    if not through:
        return found
    with ThreadPoolExecutor(len(through)) as threads:
        return [*found, *threads.map(lambda queue: _sing(platform, queue), through)]


def _unserved(queue: QueueState) -> Finding:
    name = f"queue {queue.name}"
    waits = f", and {queue.waiting} jobs wait in it" if queue.waiting else ""
    return failed(name, f"no living worker consumes it{waits}", f"start one: `celeriac worker --queues {queue.name}`")


def _sing(platform: Platform, queue: QueueState) -> Finding:
    name = f"queue {queue.name}"
    job = _canary(platform, queue.name, 0)
    try:
        ended = _ended(platform, job.id, PATIENCE)
        if ended.status is Status.SUCCEEDED and ended.started_at is not None and ended.completed_at is not None:
            waited, ran = ended.started_at - ended.created_at, ended.completed_at - ended.started_at
            load = f"workers: {queue.workers}, jobs that wait: {queue.waiting}"
            return fine(name, f"a canary started after {_ms(waited)} and ran {_ms(ran)} ({load})")
        if ended.status in FINISHED:
            mend = "look at the worker's log: it may run an older version"
            return failed(name, f"a canary is {ended.status}: {ended.error_message}", mend)
        said = f"a canary did not come through within {PATIENCE:g} s: {_why(platform, ended)}"
        if queue.running < queue.slots and not queue.waiting:  # somebody was free to take it
            mend = "look at the worker's log, and whether it has the broker of this BROKER_URL"
            return failed(name, said, mend)
        return warning(name, said, _MORE)
    finally:
        _remove(platform, job.id)


_MORE = "start more workers, or look why those that are there are busy: `celeriac workers`"


def _revocation(platform: Platform) -> Finding:
    """A cancel ends a body that runs: the row, remote control, a signal."""
    with platform.database.autocommit() as connection:
        served = [each for each in fleet.all_queues(connection, platform.limits.lease_timeout) if each.workers]
    if not served:
        return failed("revocation", "no living worker consumes a queue", "start one: `celeriac worker`")
    job = _canary(platform, served[0].name, RUNS)
    try:
        running = _until(platform, job.id, lambda found: found.status is not Status.QUEUED, PATIENCE)
        if running.status is not Status.RUNNING:
            return warning("revocation", f"no canary ran that could be cancelled: {_why(platform, running)}", _MORE)
        _until(platform, job.id, lambda found: found.message is not None or found.status in FINISHED, SAYS_SO)
        began = time.monotonic()
        verbs.cancel(platform, job.id, _scope(), actor=OWNER.user_id)
        stopped = _until(platform, job.id, lambda found: not found.stopping, PATIENCE)
        took = timedelta(seconds=time.monotonic() - began)
        if stopped.stopping:
            mend = "look at the worker's log; CELERIAC_CANCEL_GRACE says after how long a body is killed"
            return failed("revocation", f"a cancelled body still runs after {_ms(took)}", mend)
        with platform.database.autocommit() as connection:
            told = lists.timeline(connection, job.id)
        how = next((each.detail.get("how") for each in told if each.event is Event.STOPPED), None)
        return fine("revocation", f"a body that was cancelled was over after {_ms(took)} ({how or 'before it began'})")
    finally:
        _remove(platform, job.id)


def _canary(platform: Platform, queue: str, seconds: float) -> JobRecord:
    new = replace(handler(platform.app, CANARY).accept({"seconds": seconds}, OWNER, priority=9), queue=queue)
    return submission.submit(platform, new, _scope()).job


def _scope() -> Scope:
    return Scope(OWNER.organization_id, None)


def _ended(platform: Platform, job_id: UUID, within: float) -> JobRecord:
    return _until(platform, job_id, lambda found: found.status in FINISHED, within)


def _until(platform: Platform, job_id: UUID, is_so: Any, within: float) -> JobRecord:
    """The job when it is so, or as it is when the time is over. Raises JobNotFound when somebody has removed it."""
    deadline = time.monotonic() + within
    while True:
        with platform.database.autocommit() as connection:
            found = lists.get(connection, job_id, _scope())
        if is_so(found) or time.monotonic() > deadline:
            return found
        time.sleep(LOOK)


def _why(platform: Platform, job: JobRecord) -> str:
    with platform.database.autocommit() as connection:
        return explain.explain(connection, job.id, _scope(), platform.limits).reasons[0].sentence


def _remove(platform: Platform, job_id: UUID) -> None:
    """Nothing of a canary is left; one that still stops goes with its retention."""
    with suppress(IllegalMove):
        verbs.cancel(platform, job_id, _scope(), actor=OWNER.user_id)
    with suppress(TrackingError), platform.database.begin() as connection:
        jobs.delete_each(connection, [job_id], _scope())


def _ms(span: timedelta) -> str:
    return f"{span.total_seconds() * 1000:.0f} ms"
