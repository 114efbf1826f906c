"""One run on one broker: load and faults, heal, wait, drain, check."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import func, select

from bench.chaos import checks
from bench.chaos.checks import State, Wrong
from bench.chaos.faults import FAULTS, FROZEN, Deaths, Deck, Fault
from bench.chaos.journal import read_journal
from bench.chaos.ledger import Ledger
from bench.chaos.load import load
from bench.chaos.meanwhile import AFTERMATH, Meanwhile, Span, between, during
from bench.chaos.proxy import Mode
from bench.chaos.world import LEASE, World, open_world
from celeriac.embedded.processes import wait_until
from tracking.schema import jobs
from tracking.states import ACTIVE, Event, Status

WARM_UP = 3.0  # seconds of load before the first fault
GAP = (2.0, 5.0)  # seconds between the beginnings of two faults
MOST_AT_ONCE = 2  # faults
LONGEST_FAULT = 120.0
READY = 60.0  # seconds in which everything answers again once it is whole
NOTICED = 26.0  # seconds from the death of a worker until its attempts are over: 20 of lease, and a new leader
ENDS = (Event.COMPLETED, Event.FAILED, Event.CANCELLED)
STUCK = 90.0  # seconds without an end after which what is left will have none; 20 s of lease, and slow machines
DRAIN = 600.0  # seconds for all of it: half an hour of faults leaves thousands that wait

Show = Callable[[str, float], None]  # what happens, and which share of it is over


@dataclass
class Blow:
    """One fault that was struck: when it began and when all was whole again, on the machine's clock."""

    fault: Fault
    began: float
    ended: float = 0.0
    deaths: Deaths | None = None


@dataclass(frozen=True)
class Count:
    """A kind of fault: how often, and the longest time in seconds until the platform had recovered; None: unknown.

    `meanwhile`: what the platform did while it lasted; None: it has no length.
    """

    fault: str
    times: int
    worst: float | None
    meanwhile: Meanwhile | None = None


@dataclass
class Result:
    """What a run on one broker found."""

    broker: str
    attempted: int = 0
    accepted: int = 0
    finished: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    refused: int = 0
    losses: int = 0
    unexpected: list[str] = field(default_factory=list)
    wrong: list[Wrong] = field(default_factory=list)
    faults: list[Count] = field(default_factory=list)
    answers: dict[int, int] = field(default_factory=dict)
    unanswered: int = 0
    slowest: float = 0.0
    quiet: Meanwhile = field(default_factory=lambda: Meanwhile(None, None))
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.unexpected or self.wrong)


def run(
    broker: str,
    *,
    seconds: float,
    seed: int,
    show: Show,
    only: Sequence[str] = (),
    imports: str = "",
    keep: Callable[[World], None] = lambda _: None,
) -> Result:
    """Break things for so many seconds, then see that every promise held.

    `only` are the names of faults to strike in this order instead of a shuffled deck; then no crash point is armed.
    `imports` are further modules for workers and API; `keep` is called before the files of the run go.
    Raises AssertionError or StartError when the run itself cannot go on.
    """
    ledger = Ledger()
    show("starting", 0)
    with open_world(broker, ledger, imports=imports, crashes=not only) as world:
        rng = random.Random(f"{seed} {broker}")
        began, since = time.monotonic(), time.time()
        with load(world, rng.getrandbits(32)) as finish:
            world.producer.start()
            blows = _strike(world, rng, seconds, only, show)
            healed = _heal(world, show)
            until = time.time()
            world.producer.retire()
            finish()
        drained = _drain(world, show)
        show("checking", 0)
        state = checks.read_state(world)
        result = _result(world, state, blows, (since + WARM_UP, until))
        result.seconds = {"load and faults": healed - began, "heal, wait and drain": drained - healed}
        keep(world)
    return result


def _strike(world: World, rng: random.Random, seconds: float, only: Sequence[str], show: Show) -> list[Blow]:
    """Strike one fault after another, each in its own thread; returns when all of them are over."""
    striker = Striker(world, rng)
    until = time.monotonic() + seconds
    wanted = [next(fault for fault in FAULTS if fault.name == name) for name in only]
    deck = Deck(FAULTS, rng)
    time.sleep(WARM_UP)
    while time.monotonic() < until:
        show(striker.words, 1 - (until - time.monotonic()) / seconds)
        if only:
            fault = wanted.pop(0) if wanted else None
        else:
            fault = deck.draw(striker.busy) if len(striker.busy) < MOST_AT_ONCE else None
        if fault is not None:
            striker.strike(fault)
        if only:
            striker.finish()
        time.sleep(min(rng.uniform(*GAP), max(0.0, until - time.monotonic())))
    show("waiting for the last fault to end", 1)
    striker.finish()
    return striker.blows


class Striker:
    """Runs faults in threads, at most one for each target."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.blows: list[Blow] = []
        self._world = world
        self._random = rng
        self._threads: dict[str, threading.Thread] = {}

    @property
    def busy(self) -> set[str]:
        """The targets of which something is broken now."""
        return {target for target, thread in self._threads.items() if thread.is_alive()}

    @property
    def words(self) -> str:
        """What is broken now."""
        return ", ".join(blow.fault.name for blow in self.blows if not blow.ended) or "load"

    def strike(self, fault: Fault) -> None:
        """Begin a fault whose target is not busy."""
        blow = Blow(fault, time.time())
        self.blows.append(blow)
        work = threading.Thread(target=self._run, args=(blow, random.Random(self._random.random())), daemon=True)
        self._threads[fault.target] = work
        work.start()

    def finish(self) -> None:
        """Wait until all is over."""
        for target, thread in self._threads.items():
            thread.join(LONGEST_FAULT)
            assert not thread.is_alive(), f"the fault of the {target} does not end"

    def _run(self, blow: Blow, rng: random.Random) -> None:
        try:
            blow.deaths = blow.fault.strike(self._world, rng)
        except Exception as error:  # noqa: BLE001 - a fault that cannot be struck must not pass for one that was
            self._world.ledger.surprise(f"the fault '{blow.fault.name}' failed: {type(error).__name__}: {error}")
        blow.ended = time.time()


def _heal(world: World, show: Show) -> float:
    """Everything runs and nothing is in the way; returns when, on the steady clock."""
    show("healing", 0)
    world.database_proxy.drop_replies(0)
    for proxy in (world.database_proxy, world.broker_proxy):
        proxy.switch(Mode.OPEN)
    assert wait_until(world.is_ready, READY), f"not everything answers {READY:.0f} s after the last fault"
    world.database.close()  # our own connections may be from before a restart
    return time.monotonic()


def _drain(world: World, show: Show) -> float:
    """Wait until every row is finished, or none has been for STUCK seconds; returns when, on the steady clock."""
    begun = ended = time.monotonic()
    most = left = least = _unfinished(world)
    while left and time.monotonic() < min(ended + STUCK, begun + DRAIN):
        show(f"draining, {left} left", 1 - left / most)
        time.sleep(0.5)
        left = _unfinished(world)
        most = max(most, left)
        if left < least:
            least, ended = left, time.monotonic()
    return time.monotonic()


def _unfinished(world: World) -> int:
    with world.database.autocommit() as connection:
        unfinished = jobs.c.status.in_(ACTIVE) | jobs.c.stopping
        return connection.execute(select(func.count()).where(unfinished)).scalar_one()


def _result(world: World, state: State, blows: list[Blow], loaded: Span) -> Result:
    ledger = world.ledger
    ends = [entry.at.timestamp() for entry in state.entries if entry.event in ENDS]
    quiet = during(between(loaded, map(_span, blows)), ends, ledger.times)
    events = Counter(entry.event for entry in state.entries)
    journal = read_journal(world.journal)
    return Result(
        broker=world.broker,
        attempted=len(ledger.asks) + len(journal),
        accepted=len(checks.accepted(world)),
        finished=dict(Counter(row.status for row in state.rows)),
        lost=checks.lost(world, state),
        refused=events[Event.DUPLICATE_REFUSED],
        losses=events[Event.RELEASED],
        unexpected=list(ledger.unexpected),
        wrong=[*checks.check(world, state), *late(blows, state)],
        quiet=quiet,
        faults=[*_counts(blows, state, ends, ledger.times), *_crashes(world)],
        answers=dict(sorted(ledger.answers.items())),
        unanswered=ledger.unanswered,
        slowest=max((seconds for _, seconds in ledger.times), default=0.0),
    )


def _counts(blows: list[Blow], state: State, ends: list[float], answers: list[tuple[float, float]]) -> list[Count]:
    kinds = [[blow for blow in blows if blow.fault == fault] for fault in FAULTS]
    return [
        Count(kind[0].fault.name, len(kind), _worst(kind, blows, state), during(map(_span, kind), ends, answers))
        for kind in kinds
        if kind
    ]


def _span(blow: Blow) -> Span:
    return blow.began, blow.ended + AFTERMATH


def _worst(kind: list[Blow], blows: list[Blow], state: State) -> float | None:
    times = (recovery(blow, state) for blow in kind if blow.deaths is None or not _disturbed(blow, blows))
    return max((time for time in times if time is not None), default=None)


def recovery(blow: Blow, state: State) -> float | None:
    """Seconds until the platform had recovered: the jobs of the dead ran again, or else some job ended well or ill.

    None when no job had to, or nothing came any more.
    """
    if blow.deaths is not None:
        times = (_again(job, attempt, blow.deaths.at, state) for job, attempt in blow.deaths.attempts)
        return max((time for time in times if time is not None), default=None)
    outcomes = (entry.at.timestamp() for entry in state.entries if entry.event in (Event.COMPLETED, Event.FAILED))
    return min((at - blow.ended for at in outcomes if at > blow.ended), default=None)


def _again(job: UUID, attempt: int, death: float, state: State) -> float | None:
    starts = (line.at for line in state.starts if line.job == job and line.attempt > attempt)
    return min((at - death for at in starts), default=None)


def late(blows: Sequence[Blow], state: State) -> Iterator[Wrong]:
    """The attempts of frozen workers that nobody took for dead in time, while no other fault was in the way."""
    for blow in blows:
        if blow.fault.name in FROZEN and blow.deaths is not None and not _disturbed(blow, blows):
            for job, attempt in blow.deaths.attempts:
                after = _ended(job, attempt, state) - blow.deaths.at
                if after > NOTICED:
                    yield Wrong("noticed", f"job {job} was a frozen worker's for {after:.0f} s (attempt {attempt})")


def _disturbed(blow: Blow, blows: Sequence[Blow]) -> bool:
    """Whether another fault delayed what follows from a death."""
    over = max(blow.ended, blow.began + NOTICED)
    others = (other for other in blows if other is not blow and other.fault.target in ("database", "worker"))
    return any(other.began < over and other.ended > blow.began - LEASE for other in others)


def _ended(job: UUID, attempt: int, state: State) -> float:
    """When an attempt ended by the rows, in whatever way."""
    ends = (
        entry.at.timestamp()
        for entry in state.entries
        if entry.job_id == job
        and entry.attempt == attempt
        and entry.from_status == Status.RUNNING
        and entry.to_status != Status.RUNNING
    )
    return min(ends, default=float("inf"))


def _crashes(world: World) -> list[Count]:
    points = Counter(
        point for member in (*world.workers, world.api, world.producer) for point in member.crashes().values()
    )
    return [Count(f"crash at {point}", times, None) for point, times in sorted(points.items())]
