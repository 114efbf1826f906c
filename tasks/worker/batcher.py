"""Many jobs to a commit: the thread of a worker's main process that claims jobs and writes their plain ends.

A statement and a commit of its own cost a job ten times as much as its share of one for fifty. A turn takes what has
come since the turn before, so that a batch is as large as the load makes it, and one job alone waits for nothing.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from uuid import UUID

import structlog
from uuid_utils.compat import uuid4

from tasks import threads
from tasks.attempt.accepting import accept_alone, follow, look, stop, trip, written
from tasks.persistence import FIRST_PAUSE, DatabaseAway
from tasks.platform import Platform
from tasks.worker import shutdown
from tasks.worker.refilling import Nobody, Refilling
from tracking import jobs, traces
from tracking.admission.line import Ahead
from tracking.crashpoints import CLAIMED, HANDED_OVER, SETTLED, crash_point
from tracking.db import Connection, DBAPIError, PoolTimeoutError, is_too_slow, outage
from tracking.identifiers import trace_ids
from tracking.logs import written_together
from tracking.models import Attempt, Breaker, Claim, Fence, JobRecord, Outcome, Refusal, Settled

log = structlog.get_logger(__name__)

MOST = 200  # jobs of a statement
MOST_BYTES = 8 * 1024 * 1024  # of the results in it
LONGEST_PAUSE = 1.0  # seconds between two tries to reach a database that is away
PAUSE_LOCKED = 0.005  # seconds until the next look at rows that somebody else is changing
MOST_LOOKS = 40  # at such a row; then it is waited for elsewhere, where no other job waits behind it
ENOUGH = 100  # jobs of a turn; larger ones cost each of them no less
LINGER = 0.02  # seconds that a turn may wait for more

Item = TypeVar("Item")
Kind = TypeVar("Kind", bound="Waiting")
Answer = Attempt | Refusal | DatabaseAway | None
Given = tuple[JobRecord, Attempt | None]  # a job that has a slot, and its attempt if it is claimed


@dataclass(slots=True, kw_only=True)
class Waiting:
    """What waits for a turn; `looks`: how often its row was locked by somebody else."""

    looks: int = 0


@dataclass(slots=True)
class Wish(Waiting):
    """A message whose job is to run. `key` is its sender's, `since` when it asked, on the monotonic clock."""

    key: Any
    claim: Claim
    since: float


@dataclass(slots=True)
class End(Waiting):
    """An outcome that the process of a body has handed over; `how` its body ended; `size`: of what it is, in bytes."""

    attempt: Attempt
    outcome: Outcome
    how: str
    size: int


class Batcher:
    """Claims and settles for a worker, over one connection of its own.

    `told` hears, in this thread, of each claim what became of it, and of each end that it is written: an Attempt, a
    Refusal; DatabaseAway, after CELERIAC_CLAIM_PATIENCE; or None, that the process of the body should ask by itself.
    And of the jobs that have got the slots of those that ended, and need no message if this worker runs them. `ahead`
    says how many may begin here at once, and `begins` which do, in this thread, too: they are claimed already.
    `may_wait` says whether every process has something to do meanwhile.
    """

    def __init__(self, platform: Platform, lease: UUID, hostname: str) -> None:
        self._platform = platform
        self._lease, self._hostname = lease, hostname
        self._database = platform.single()
        self._settling = Refilling(self._database, platform.admission, self._settled, self)
        self._claims = Refilling(self._database, platform.admission, _claimed, Nobody())
        self.told: Callable[[Sequence[tuple[Any, Answer]], Sequence[Any], Sequence[Given]], None] = lambda *_: None
        self.ahead: Callable[[], Ahead] = Ahead
        self.begins: Callable[[Sequence[JobRecord]], Sequence[JobRecord]] = lambda _: ()
        self.may_wait: Callable[[], bool] = lambda: False
        self._wishes: deque[Wish] = deque()
        self._ends: deque[End] = deque()
        self._looks: deque[Callable[[], None]] = deque()
        self._unbegun: deque[Outcome] = deque()
        self._there_is_more = threading.Event()
        self._hands_back = False
        self._closing = threading.Event()
        self._pause = 0.0
        self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)

    def start(self) -> None:
        with threads.apart():
            self._thread.start()

    def claim(self, key: Any, fence: Fence, job_type: str) -> None:
        """Have a job claimed soon."""
        self._wishes.append(Wish(key, self._claim_of(fence, job_type), time.monotonic()))
        self._wake()

    def settle(self, attempt: Attempt, outcome: Outcome, how: str, size: int) -> None:
        """Have an end written soon, after those before it; `told` hears of it by its fence. `size`: in bytes."""
        self._ends.append(End(attempt, outcome, how, size))
        self._wake()

    def look(self, job_id: UUID, breaker: Breaker) -> None:
        """See to the circuit of a job whose failure its own process has written, when the ends before it are, too."""
        self._looks.append(lambda: look(self._platform, job_id, breaker))
        self._wake()

    def release(self, attempts: Sequence[Attempt]) -> None:
        """Have jobs that were claimed, and have not begun, handed back for another worker to run. In any thread."""
        why = shutdown.SHUTDOWN if self._hands_back else shutdown.GIVEN_BACK
        self._unbegun.extend(shutdown.released(attempt.fence, self._hostname, why) for attempt in attempts)
        self._platform.recorder.record(self._release)

    def hand_back(self) -> None:
        """From now on nothing begins here: what is claimed all the same is released."""
        self._hands_back = True

    @property
    def held(self) -> Sequence[Fence]:
        """What it has claimed, or may have, and told nobody of yet. In any thread."""
        return self._settling.held

    def close(self, timeout: float) -> None:
        """Write what is left, for `timeout` seconds at most, and end."""
        self.hand_back()
        self._closing.set()
        self._wake()
        self._thread.join(timeout)
        if self._thread.is_alive():
            log.error("batcher.unwritten", worker=self._hostname, ends=len(self._ends))
        else:
            self._database.close()

    def _wake(self) -> None:
        if not self._there_is_more.is_set():
            self._there_is_more.set()

    def _run(self) -> None:
        while True:
            self._there_is_more.wait()
            self._linger()
            self._there_is_more.clear()
            looks = _taken(self._looks, lambda _: 0)  # first: what came before them is among the ends
            ends = _taken(self._ends, lambda end: end.size)
            if self._wishes or ends or looks or self._settling.is_in_doubt:
                self._turn(ends, looks)
            elif self._closing.is_set():
                return
            if self._wishes or self._ends or self._looks or self._settling.is_in_doubt or self._closing.is_set():
                self._there_is_more.set()

    def _linger(self) -> None:
        """Let a turn become larger while every process has its next job."""
        deadline = time.monotonic() + LINGER
        while (
            self.may_wait()
            and len(self._wishes) + len(self._ends) < ENOUGH
            and time.monotonic() < deadline
            and not self._hands_back
        ):
            time.sleep(LINGER / 8)

    def _turn(self, ends: list[End], looks: list[Callable[[], None]]) -> None:
        """What cannot be done now is among what waits again, whichever part of it has failed."""
        self._looks.extendleft(reversed(looks))
        try:
            self._settle(ends)
            for _ in looks:
                self._platform.recorder.record(self._looks.popleft())
            self._claim(_taken(self._wishes, lambda _: 0))
        except Exception as error:  # noqa: BLE001 - the thread of all jobs of this worker must go on, whatever it is
            self._log_failure(error)
            self._pause = min(LONGEST_PAUSE, 2 * self._pause or FIRST_PAUSE)
            self._give_up()
            time.sleep(self._pause)
        else:
            self._pause = 0.0

    def _log_failure(self, error: Exception) -> None:
        left = {"wishes": len(self._wishes), "ends": len(self._ends)}
        if outage(error) is not None:
            log.warning("database.away", worker=self._hostname, error=type(error).__name__, **left)
        else:
            log.error("batch.failed", worker=self._hostname, exc_info=error, **left)

    def _settle(self, ends: list[End]) -> None:
        """Write them. Raises DBAPIError in an outage."""
        if not ends:
            self._ask_again()
            return
        crash_point(HANDED_OVER)
        began = time.time_ns()
        asked = [end.outcome for end in ends]
        answers = self._answers(self._ends, ends, lambda: self._each(asked, self._settling.ask))
        crash_point(SETTLED)
        _tell_traces("settle", began, (end.attempt for end, _ in answers))
        done = []
        with written_together():
            for end, answer in answers:
                if isinstance(answer, Settled) or answer is None:
                    # The slot that it has freed has been given away.
                    self._ended(end, answer and replace(answer, has_line=False))
                    done.append(end.attempt.fence)
                else:
                    self._platform.recorder.record(lambda end=end: self._write_alone(end))  # type: ignore[misc]
        self._see_to_circuits([(end.outcome, answer) for end, answer in answers if isinstance(answer, Settled)])
        self.told((), done, self._passed(self._settling))

    def _ask_again(self) -> None:
        """No end comes with which it would be found out whether the last ones have let others begin here."""
        if self._settling.is_in_doubt:
            self._settling.ask_again()
            self.told((), (), self._passed(self._settling))

    def _see_to_circuits(self, settled: Sequence[tuple[Outcome, Settled]]) -> None:
        """Once for each in which some of them have failed."""
        failed: dict[Any, tuple[Outcome, Settled]] = {}
        for outcome, answer in settled:
            if answer.failed_in is not None:
                circuit = answer.organization_id, answer.failed_in
                known = failed.get(circuit)
                if known is None or not known[1].has_opened:
                    failed[circuit] = outcome, answer
        for one in failed.values():
            self._platform.recorder.record(lambda one=one: trip(self._platform, *one))  # type: ignore[misc]

    def _settled(self, connection: Connection, outcomes: Sequence[Outcome]) -> list[Settled | Refusal | None]:
        return jobs.settle(connection, outcomes, max_losses=self._platform.settings.max_losses, waits=False)

    def claims(self, records: Sequence[JobRecord]) -> list[tuple[JobRecord, Claim]]:
        """Those of these jobs that begin here at once, and their claims."""
        return [(each, self._claim_of(each.fence, each.job_type)) for each in self.begins(records)]

    def _claim_of(self, fence: Fence, job_type: str) -> Claim:
        return Claim(fence, uuid4(), self._hostname, self._lease, job_type)

    def _passed(self, refilling: Refilling[Any]) -> Sequence[Given]:
        """Those that a worker may run without a message; the others are sent, and the lines that are left looked at."""
        passed = refilling.take()
        for organization in passed.left:
            self._platform.dispatcher.refill(organization)
        self._platform.dispatcher.send_all(passed.others)
        return passed.here

    def _ended(self, end: End, settled: Settled | None) -> None:
        attempt, outcome = end.attempt, end.outcome
        ids = {"job_type": attempt.job_type, "job_id": str(attempt.job_id), "dispatch": attempt.fence.dispatch}
        if settled is not None:
            ids |= trace_ids(attempt.delivery)
            if outcome.failure is not None:
                ids["error"] = outcome.failure.type
            log.info("job.ended", **ids, attempt=attempt.attempt, status=str(settled.status))
            follow(self._platform, settled)
            return
        # It was cancelled meanwhile, or the answer that it is written was lost.
        log.warning("outcome.refused", **ids, attempt=attempt.attempt, outcome=outcome.kind, how=end.how)
        self._platform.recorder.record(lambda: stop(self._platform, attempt, outcome.actor, end.how))

    def _release(self) -> None:
        """Write those that have come meanwhile, in one commit: a worker that stops does not wait long for it.

        By the recorder. Raises DBAPIError in an outage; then they wait for the next try.
        """
        while outcomes := _taken(self._unbegun, lambda _: 0):
            try:
                answers = self._each(outcomes, self._given_back)
            except Exception:
                self._unbegun.extendleft(reversed(outcomes))
                raise
            for outcome, answer in zip(outcomes, answers, strict=True):
                if isinstance(answer, Exception):
                    log.error("release.refused", job_id=str(outcome.fence.job_id), error=type(answer).__name__)

    def _given_back(self, outcomes: Sequence[Outcome]) -> list[Settled | None]:
        with self._platform.database.autocommit() as connection:
            return jobs.settle(connection, outcomes, max_losses=self._platform.settings.max_losses)

    def _write_alone(self, end: End) -> None:
        """An outcome that the database refuses, or whose row somebody keeps: as its own process would write it."""
        outcome = end.outcome
        accepted = written(self._platform, outcome, lambda: accept_alone(self._platform, outcome))
        settled = accepted[0] if accepted else None
        self._ended(end, settled)
        if settled is not None:
            trip(self._platform, outcome, settled)
        self.told((), [end.attempt.fence], ())

    def _claim(self, wishes: list[Wish]) -> None:
        if not wishes:
            return
        began = time.time_ns()
        asked = [wish.claim for wish in wishes]
        answers = self._answers(self._wishes, wishes, lambda: self._each(asked, self._claims.ask))
        crash_point(CLAIMED)
        _tell_traces("claim", began, (answer for _, answer in answers if isinstance(answer, Attempt)))
        told: list[tuple[Any, Answer]] = []
        for wish, answer in answers:
            if isinstance(answer, Attempt) and self._hands_back:
                self.release([answer])
            elif isinstance(answer, Attempt):
                told.append((wish.key, answer))
            else:  # who cannot be told here, its process will: it can wait for a row, and keep what is unknown
                asks_itself = not isinstance(answer, Refusal) or answer in (Refusal.LOCKED, Refusal.UNKNOWN)
                told.append((wish.key, None if asks_itself else answer))
        self.told(told, (), self._passed(self._claims))

    def _answers(self, waiting: deque[Kind], items: list[Kind], ask: Callable[[], list[Any]]) -> list[tuple[Kind, Any]]:
        """Each with its answer. Those of locked rows wait again, and all of them in an outage, which is raised."""
        try:
            answers = ask()
        except Exception:
            waiting.extendleft(reversed(items))
            raise
        answered = []
        for item, answer in zip(items, answers, strict=True):
            if answer is Refusal.LOCKED and item.looks < MOST_LOOKS:
                item.looks += 1
                waiting.append(item)
            else:
                answered.append((item, answer))
        if not answered:
            time.sleep(PAUSE_LOCKED)
        return answered

    def _each(self, items: Sequence[Item], ask: Callable[[Sequence[Item]], list[Any]]) -> list[Any]:
        """An answer for each; of one that the database refuses for good, its error. Raises DBAPIError in an outage."""
        try:
            return ask(items)
        except (DBAPIError, PoolTimeoutError) as error:
            if outage(error) is not None and (len(items) == 1 or not is_too_slow(error)):
                raise
            if len(items) == 1:
                return [error]
        middle = len(items) // 2
        return [*self._each(items[:middle], ask), *self._each(items[middle:], ask)]

    def _give_up(self) -> None:
        """Let the broker have the messages of those that have waited for too long."""
        deadline = time.monotonic() - self._platform.settings.claim_patience
        late = []
        while self._wishes and (self._wishes[0].since < deadline or self._hands_back):
            late.append((self._wishes.popleft().key, DatabaseAway("its claim could not be made in time")))
        if late:
            self.told(late, (), ())


def _claimed(connection: Connection, claims: Sequence[Claim]) -> list[Attempt | Refusal]:
    return jobs.claim(connection, claims, waits=False)


def _tell_traces(verb: str, began: int, attempts: Iterable[Attempt]) -> None:
    spans = traces.spans()
    if spans is not None:
        spans.together(verb, began, [(each.job_id, each.job_type, each.delivery) for each in attempts])


def _taken(waiting: deque[Item], size_of: Callable[[Item], int]) -> list[Item]:
    """The next ones, as many as one statement may have. Others append meanwhile, and nothing is lost between two."""
    taken: list[Item] = []
    size = 0
    while waiting and len(taken) < MOST and size < MOST_BYTES:
        item = waiting.popleft()
        size += size_of(item)
        taken.append(item)
    return taken
