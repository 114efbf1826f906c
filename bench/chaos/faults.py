"""Every way in which a run breaks something, and the seeded deck that says what is broken next."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from bench.chaos import messages
from bench.chaos.members import Member
from bench.chaos.proxy import Mode, Proxy
from bench.chaos.witness import Line, open_bodies, read_lines
from bench.chaos.world import LEASE, World
from celeriac.embedded.processes import wait_until
from tracking.schema import jobs
from tracking.states import Status

OUTAGE = (2.0, 6.0)  # seconds that something is away
BEYOND_LEASE = 8.0  # seconds longer than its lease that a frozen worker is silent: others must have noticed by then
BUSY = 5.0  # seconds to wait for a job to be running, before something is broken without one


@dataclass(frozen=True)
class Deaths:
    """The attempts that died, or were taken for dead, at one moment of the machine's clock: job and number of each."""

    at: float
    attempts: tuple[tuple[UUID, int], ...]


Strike = Callable[[World, Random], Deaths | None]


@dataclass(frozen=True)
class Fault:
    """One way to break something, which is whole again when `strike` returns. No two of one `target` happen at once."""

    name: str
    target: str
    strike: Strike


class Deck:
    """Faults in a random order, each once before any comes again."""

    def __init__(self, faults: Sequence[Fault], rng: Random) -> None:
        self._faults = tuple(faults)
        self._random = rng
        self._left: list[Fault] = []

    def draw(self, busy: set[str]) -> Fault | None:
        """The next one whose target is not busy; None when all that are left are."""
        if not self._left:
            self._left = self._random.sample(self._faults, len(self._faults))
        found = next((fault for fault in self._left if fault.target not in busy), None)
        if found is not None:
            self._left.remove(found)
        return found


def _kill_child(world: World, rng: Random) -> Deaths:
    """Of a process that runs a job, when there is one."""
    ours = {child for worker in world.workers for child in worker.children}
    wait_until(lambda: any(body.pid in ours for body in _bodies(world)), BUSY)
    bodies = [body for body in _bodies(world) if body.pid in ours]
    victim = rng.choice(bodies) if bodies else None
    if not ours:  # another fault has just killed the workers, or a crash point the last of them
        return Deaths(time.time(), ())
    pid = victim.pid if victim else rng.choice(sorted(ours))
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return Deaths(time.time(), ((victim.job, victim.attempt),) if victim else ())


def _kill_worker(world: World, rng: Random) -> Deaths:
    worker = rng.choice(world.workers)
    wait_until(lambda: bool(_attempts(world, worker)), BUSY)
    worker.kill()
    return Deaths(time.time(), _attempts(world, worker))


def _stop_worker(world: World, rng: Random) -> None:
    worker = rng.choice(world.workers)
    code = worker.kill(signal.SIGTERM, patience=60)
    if code:
        world.ledger.surprise(f"{worker.name} left with {code} after SIGTERM")


def _freeze_worker(world: World, rng: Random) -> Deaths:
    return _freeze(world, rng.choice(world.workers))


def _freeze_leader(world: World, _rng: Random) -> Deaths:
    """The worker that looks after the rows: another one has to take its place first."""
    return _freeze(world, max(world.workers, key=_last_led))


def _freeze(world: World, worker: Member) -> Deaths:
    wait_until(lambda: bool(_attempts(world, worker)), BUSY)
    with worker.frozen():
        deaths = Deaths(time.time(), _attempts(world, worker))
        time.sleep(LEASE + BEYOND_LEASE)
    return deaths


def _last_led(worker: Member) -> str:
    """When this worker became the leader last, in the form in which times sort."""
    led = [line[:27] for line in worker.log.read_text(errors="replace").splitlines() if "upkeep.leading" in line]
    return max(led, default="")


def _bodies(world: World) -> list[Line]:
    """The bodies that run, without those of cancelled jobs: nobody has to run these again."""
    return [body for body in open_bodies(read_lines(world.witness)).values() if body.job in _running(world)]


def _attempts(world: World, worker: Member) -> tuple[tuple[UUID, int], ...]:
    """The attempts that run in a worker, by their rows."""
    return tuple((row.id, row.attempt) for row in _running(world).values() if row.worker.startswith(worker.node))


def _running(world: World) -> dict[UUID, Any]:
    """The rows that say so; none while the database is what is broken."""
    running = select(jobs.c.id, jobs.c.attempt, jobs.c.worker).where(jobs.c.status == Status.RUNNING)
    try:
        with world.database.autocommit() as connection:
            return {row.id: row for row in connection.execute(running)}
    except SQLAlchemyError:
        return {}


def _kill_api(world: World, _rng: Random) -> None:
    world.api.kill()


def _kill_producer(world: World, _rng: Random) -> None:
    world.producer.kill()


def _restart(
    member: Member, number: signal.Signals, rng: Random, *, between: Callable[[], None] = lambda: None
) -> None:
    with member.away(number):
        between()
        time.sleep(rng.uniform(*OUTAGE) / 2)


def _restart_broker(world: World, rng: Random) -> None:
    _restart(world.broker_server, signal.SIGKILL, rng)


def _empty_broker(world: World, rng: Random) -> None:
    """Started again without anything that it had."""

    def forget() -> None:
        for kept in ("appendonlydir", "mnesia"):
            shutil.rmtree(world.broker_home / kept, ignore_errors=True)

    _restart(world.broker_server, signal.SIGKILL, rng, between=forget)


def _purge(world: World, _rng: Random) -> None:
    messages.purge(world.broker_url)


def _for_a_while(proxy: Proxy, mode: Mode, rng: Random) -> None:
    proxy.switch(mode)
    try:
        time.sleep(rng.uniform(*OUTAGE))
    finally:
        proxy.switch(Mode.OPEN)


def _repeat_message(world: World, _rng: Random) -> None:
    until = time.monotonic() + BUSY
    while (message := messages.capture(world.broker_url)) is None and time.monotonic() < until:
        time.sleep(0.02)
    if message is not None:
        messages.repeat(world.broker_url, message, 10)


def _send_malformed(world: World, _rng: Random) -> None:
    messages.send_malformed(world.broker_url)


def _drop_replies(world: World, _rng: Random) -> None:
    dropped = world.database_proxy.dropped
    world.database_proxy.drop_replies(5)
    wait_until(lambda: world.database_proxy.dropped >= dropped + 5, BUSY)


FROZEN = ("worker frozen beyond its lease", "leading worker frozen beyond its lease")
FAULTS = (
    Fault("job's process killed", "worker", _kill_child),
    Fault("worker killed", "worker", _kill_worker),
    Fault("worker asked to stop", "worker", _stop_worker),
    Fault(FROZEN[0], "worker", _freeze_worker),
    Fault(FROZEN[1], "worker", _freeze_leader),
    Fault("API killed", "api", _kill_api),
    Fault("producer killed", "producer", _kill_producer),
    Fault("broker restarted", "broker", _restart_broker),
    Fault("broker restarted, empty", "broker", _empty_broker),
    Fault("queue purged", "broker", _purge),
    Fault("broker down", "broker", lambda world, rng: _for_a_while(world.broker_proxy, Mode.REFUSE, rng)),
    Fault("broker silent", "broker", lambda world, rng: _for_a_while(world.broker_proxy, Mode.BLACK_HOLE, rng)),
    Fault("broker connections reset", "broker", lambda world, _: world.broker_proxy.reset()),
    Fault("broker connections cut", "broker", lambda world, _: world.broker_proxy.cut()),
    Fault("message repeated 10 times", "broker", _repeat_message),
    Fault("malformed messages", "broker", _send_malformed),
    Fault("database restarted", "database", lambda world, rng: _restart(world.postgres, signal.SIGINT, rng)),
    Fault("database crashed", "database", lambda world, rng: _restart(world.postgres, signal.SIGQUIT, rng)),
    Fault("database down", "database", lambda world, rng: _for_a_while(world.database_proxy, Mode.REFUSE, rng)),
    Fault("database silent", "database", lambda world, rng: _for_a_while(world.database_proxy, Mode.BLACK_HOLE, rng)),
    Fault("database connections reset", "database", lambda world, _: world.database_proxy.reset()),
    Fault("database connections cut", "database", lambda world, _: world.database_proxy.cut()),
    Fault("COMMIT done, its reply lost", "database", _drop_replies),
)
