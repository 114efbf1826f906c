"""Many jobs to a commit: the thread of a worker's main process that claims jobs and writes their plain successes.

A statement and a commit of its own cost a job ten times as much as its share of one for fifty. A turn takes what has
come since the turn before, so that a batch is as large as the load makes it, and one job alone waits for nothing.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

import structlog
from uuid_utils.compat import uuid4

from tasks import threads
from tasks.attempt.accepting import accept_alone, follow, stop, written
from tasks.attempt.outcomes import FINISHED_FIRST
from tasks.persistence import FIRST_PAUSE, DatabaseAway
from tasks.platform import Platform
from tasks.worker import shutdown
from tracking import jobs
from tracking.crashpoints import CLAIMED, HANDED_OVER, SETTLED, crash_point
from tracking.db import Connection, Database, DBAPIError, PoolTimeoutError, is_too_slow, outage
from tracking.models import Attempt, Claim, Fence, Outcome, Refusal, Settled

log = structlog.get_logger(__name__)

MOST = 200  # jobs of a statement
MOST_BYTES = 8 * 1024 * 1024  # of the results in it
LONGEST_PAUSE = 1.0  # seconds between two tries to reach a database that is away
PAUSE_LOCKED = 0.005  # seconds until the next look at rows that somebody else is changing
MOST_LOOKS = 40  # at such a row; then it is waited for elsewhere, where no other job waits behind it
ENOUGH = 100  # jobs of a turn; larger ones cost each of them no less
LINGER = 0.02  # seconds that a turn may wait for more

# A plan that was made while a table was small would read all of it when it is not small any more.
OPTIONS = "-c enable_seqscan=off -c jit=off"

Item = TypeVar("Item")
Kind = TypeVar("Kind", bound="Waiting")
Answer = Attempt | Refusal | DatabaseAway | None


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
class Success(Waiting):
    """An outcome that the process of a body has handed over; `size`: of its result, in bytes."""

    attempt: Attempt
    outcome: Outcome
    size: int


class Batcher:
    """Claims and settles for a worker, over one connection of its own.

    `told` hears, in this thread, of each claim what became of it, and of each success that it is written: an Attempt, a
    Refusal; DatabaseAway, after CELERIAC_CLAIM_PATIENCE; or None, that the process of the body should ask by itself.
    `may_wait` says whether every process has something to do meanwhile.
    """

    def __init__(self, platform: Platform, lease: UUID, hostname: str) -> None:
        self._platform = platform
        self._lease, self._hostname = lease, hostname
        self._database = Database(platform.settings.database, platform.settings, pool_size=1, options=OPTIONS)
        self.told: Callable[[Sequence[tuple[Any, Answer]], Sequence[Any]], None] = lambda _claims, _successes: None
        self.may_wait: Callable[[], bool] = lambda: False
        self._wishes: deque[Wish] = deque()
        self._successes: deque[Success] = deque()
        self._there_is_more = threading.Event()
        self._hands_back = False
        self._closing = threading.Event()
        self._pause = 0.0
        self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)

    def start(self) -> None:
        """Begin."""
        with threads.apart():
            self._thread.start()

    def claim(self, key: Any, fence: Fence, job_type: str) -> None:
        """Have a job claimed soon."""
        claim = Claim(fence, uuid4(), self._hostname, self._lease, job_type)
        self._wishes.append(Wish(key, claim, time.monotonic()))
        self._wake()

    def settle(self, attempt: Attempt, outcome: Outcome, size: int) -> None:
        """Have a success written soon, of which `told` hears by its fence; `size`: of its result, in bytes."""
        self._successes.append(Success(attempt, outcome, size))
        self._wake()

    def release(self, attempts: Sequence[Attempt]) -> None:
        """Have jobs that were claimed, and have not begun, handed back for another worker to run."""
        for attempt in attempts:
            outcome = shutdown.released(attempt.fence, self._hostname)
            self._platform.recorder.record(lambda outcome=outcome: accept_alone(self._platform, outcome))  # type: ignore[misc]

    def hand_back(self) -> None:
        """From now on nothing begins here: what is claimed all the same is released."""
        self._hands_back = True

    def close(self, timeout: float) -> None:
        """Write what is left, for `timeout` seconds at most, and end."""
        self.hand_back()
        self._closing.set()
        self._wake()
        self._thread.join(timeout)
        if self._thread.is_alive():
            log.error("batcher.unwritten", worker=self._hostname, successes=len(self._successes))
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
            wishes, successes = _taken(self._wishes, lambda _: 0), _taken(self._successes, lambda success: success.size)
            if wishes or successes:
                self._turn(wishes, successes)
            elif self._closing.is_set():
                return
            if self._wishes or self._successes or self._closing.is_set():
                self._there_is_more.set()

    def _linger(self) -> None:
        """Let a turn become larger while every process has its next job."""
        deadline = time.monotonic() + LINGER
        while (
            self.may_wait()
            and len(self._wishes) + len(self._successes) < ENOUGH
            and time.monotonic() < deadline
            and not self._hands_back
        ):
            time.sleep(LINGER / 8)

    def _turn(self, wishes: list[Wish], successes: list[Success]) -> None:
        try:
            self._settle(successes)
            self._claim(wishes)
        except Exception as error:  # noqa: BLE001 - the thread of all jobs of this worker must go on, whatever it is
            self._log_failure(error)
            self._pause = min(LONGEST_PAUSE, 2 * self._pause or FIRST_PAUSE)
            self._give_up()
            time.sleep(self._pause)
        else:
            self._pause = 0.0

    def _log_failure(self, error: Exception) -> None:
        left = {"wishes": len(self._wishes), "successes": len(self._successes)}
        if outage(error) is not None:
            log.warning("database.away", worker=self._hostname, error=type(error).__name__, **left)
        else:
            log.error("batch.failed", worker=self._hostname, exc_info=error, **left)

    def _settle(self, successes: list[Success]) -> None:
        """Write them. Raises DBAPIError in an outage."""
        if not successes:
            return
        crash_point(HANDED_OVER)
        asked = [success.outcome for success in successes]
        answers = self._answers(self._successes, successes, lambda: self._each(asked, self._settled))
        crash_point(SETTLED)
        done = []
        for success, answer in answers:
            if isinstance(answer, Settled) or answer is None:
                self._ended(success, answer)
                done.append(success.attempt.fence)
            else:
                self._platform.recorder.record(lambda success=success: self._write_alone(success))  # type: ignore[misc]
        self.told((), done)

    def _settled(self, connection: Connection, outcomes: Sequence[Outcome]) -> list[Settled | Refusal | None]:
        return jobs.settle(connection, outcomes, max_losses=self._platform.settings.max_losses, waits=False)

    def _ended(self, success: Success, settled: Settled | None) -> None:
        attempt, outcome = success.attempt, success.outcome
        ids = {"job_type": attempt.job_type, "job_id": str(attempt.job_id), "dispatch": attempt.fence.dispatch}
        if settled is not None:
            log.info("job.ended", **ids, attempt=attempt.attempt, status=str(settled.status))
            follow(self._platform, settled)
            return
        # It was cancelled meanwhile, or the answer that it is written was lost.
        log.warning("outcome.refused", **ids, attempt=attempt.attempt, outcome=outcome.kind, how=FINISHED_FIRST)
        self._platform.recorder.record(lambda: stop(self._platform, attempt, outcome.actor, FINISHED_FIRST))

    def _write_alone(self, success: Success) -> None:
        """An outcome that the database refuses, or whose row somebody keeps: as its own process would write it."""
        outcome = success.outcome
        accepted = written(self._platform, outcome, lambda: accept_alone(self._platform, outcome))
        self._ended(success, accepted[0] if accepted else None)
        self.told((), [success.attempt.fence])

    def _claim(self, wishes: list[Wish]) -> None:
        """Claim them; as above."""
        if not wishes:
            return
        asked = [wish.claim for wish in wishes]
        answers = self._answers(self._wishes, wishes, lambda: self._each(asked, _claimed))
        crash_point(CLAIMED)
        told: list[tuple[Any, Answer]] = []
        for wish, answer in answers:
            if isinstance(answer, Attempt) and self._hands_back:
                self.release([answer])
            elif isinstance(answer, Attempt):
                told.append((wish.key, answer))
            else:  # who cannot be told here, its process will: it can wait for a row, and keep what is unknown
                asks_itself = not isinstance(answer, Refusal) or answer in (Refusal.LOCKED, Refusal.UNKNOWN)
                told.append((wish.key, None if asks_itself else answer))
        for organization in {a.owner.organization_id for _, a in told if isinstance(a, Attempt) and a.leaves_place}:
            self._platform.dispatcher.refill(organization)
        self.told(told, ())

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

    def _each(self, items: Sequence[Item], ask: Callable[[Connection, Sequence[Item]], list[Any]]) -> list[Any]:
        """An answer for each; of one that the database refuses for good, its error. Raises DBAPIError in an outage."""
        try:
            with self._database.autocommit() as connection:
                return ask(connection, items)
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
            self.told(late, ())


def _claimed(connection: Connection, claims: Sequence[Claim]) -> list[Attempt | Refusal]:
    return jobs.claim(connection, claims, waits=False)


def _taken(waiting: deque[Item], size_of: Callable[[Item], int]) -> list[Item]:
    """The next ones, as many as one statement may have. Others append meanwhile, and nothing is lost between two."""
    taken: list[Item] = []
    size = 0
    while waiting and len(taken) < MOST and size < MOST_BYTES:
        item = waiting.popleft()
        size += size_of(item)
        taken.append(item)
    return taken
