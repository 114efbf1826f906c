"""Which message a worker runs next: those that are here stand in line by priority, and only the next few are claimed.

A message that waits here unclaimed has a row that is queued: a cancel, a pause and a more urgent one find it so. Only
as much is claimed ahead as begins within a moment, and as much is fetched as a moment longer; with long bodies that is
nothing, and the process of each body claims its job by itself. All of it happens in the event loop of the worker's main
process, unless a method says otherwise.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any
from uuid import UUID

import structlog
from celery.worker import state

from tasks import current
from tasks.attempt.accepting import stop
from tasks.attempt.handing import Grant, outcome_of
from tasks.broker.messages import LOSSES_HEADER
from tasks.persistence import DatabaseAway
from tasks.platform import Platform
from tasks.worker.answering import acknowledge_all
from tasks.worker.batcher import Answer, Batcher
from tasks.worker.bodies import POOLS, Bodies
from tasks.worker.pace import CLAIMED_AHEAD, Pace
from tracking.models import Attempt, Fence

log = structlog.get_logger(__name__)

LOOK = 0.25  # seconds between two looks whether anything moves
IN_STOCK = 8  # jobs of each process that are claimed when the next turn of the batcher need not begin at once
STANDSTILL = 0.5  # seconds without a free slot after which what waits goes back: other workers may be idle

BEFORE_ITS_BODY = "before its body"  # where a cancel has met a job, for its receipt


class LookAhead:
    """The messages of one worker between their arrival and their body, and between its end and their acknowledgement.

    A slot is free when the worker's semaphore says so. `most`: messages for each slot, at most. Of jobs that have taken
    workers down one is here at a time: what dies beside it the third time would be failed as well.
    """

    def __init__(self, worker: Any, batcher: Batcher, most: int) -> None:
        self._worker = worker
        self._platform: Platform = worker.app.platform
        self._batcher = batcher
        self._most = most
        self._pace = Pace()
        self._bodies = Bodies(worker, self._go_on)
        self._arrivals = count()
        self._waiting: list[tuple[int, int, Any]] = []
        self._suspects: deque[Any] = deque()
        self._suspect: Any = None
        self._claiming: dict[Fence, Any] = {}
        self._granted: deque[tuple[Any, Attempt | None]] = deque()
        self._dropped: set[Fence] = set()
        self._ending: dict[Fence, tuple[Any, Callable[[], None]]] = {}
        self._seconds_ahead = 0.0  # of the bodies that are claimed, or about to be
        self._is_closed = False
        self._asked = 0  # how many times we wait for a slot
        self._moved_at = time.monotonic()
        self._news: deque[tuple[Sequence[tuple[Any, Answer]], Sequence[Any]]] = deque()
        batcher.told = self._hear
        batcher.may_wait = lambda: len(self._granted) >= IN_STOCK * self._slots
        worker.lookahead = self

    def take(self, request: Any) -> None:
        """Have a message run when its turn comes."""
        request.lookahead = self
        if request.fence is not None and request.request_dict.get(LOSSES_HEADER):
            request.since = time.monotonic()
            self._suspects.append(request)
            self._advance()
        else:
            self._admit(request)

    def over(self) -> None:
        """A process has said that its body has ended; of a body that had none the pool says so itself."""
        if self._bodies.have_processes:
            self._go_on()

    def ended(self, request: Any, told: bytes, runtime: float, succeed: Callable[[], None]) -> None:
        """A body has handed over its success: have it written, and `succeed` called then. In any thread."""
        attempt = request.attempt
        self._ending[attempt.fence] = request, succeed
        self._pace.took(attempt.job_type, runtime)
        self._batcher.settle(attempt, outcome_of(attempt, told, request.hostname), len(told))

    def took(self, request: Any, runtime: float) -> None:
        """Note what a body took that its own process has claimed."""
        self._pace.took(request.task.name, runtime)

    def drop(self, request: Any) -> bool:
        """Let a job that was cancelled never begin. False: it is not here, or its body has begun."""
        fence = request.fence
        if fence in self._claiming:
            self._dropped.add(fence)
            return True
        for each in self._granted:
            if each[0] is request and each[1] is not None:
                self._granted.remove(each)
                self._stop(request, each[1])
                return True
        return False

    def held(self) -> set[UUID]:
        """The jobs that are claimed here and have no process, or whose success is not written yet. In any thread."""
        granted = [attempt.fence for _, attempt in tuple(self._granted) if attempt is not None]
        return {fence.job_id for fence in (*self._claiming.copy(), *granted, *self._ending.copy())}

    @property
    def window(self) -> int:
        """How many messages the worker should have, those that run included."""
        return self._pace.window(self._slots, self._most)

    def register(self, hub: Any) -> None:
        """Begin to look whether anything moves."""
        hub.call_repeatedly(LOOK, self._look)

    def bound(self, channel: Any) -> None:
        """Let a new channel fetch no more than the window: Celery's own limit on Redis is one message for a process."""
        qos = getattr(channel, "qos", None)
        if qos is not None:  # of kombu's channels; RabbitMQ counts by itself
            vars(qos).pop("can_consume", None)  # Celery's
            channel.room = qos.can_consume_max_estimate

    def take_back(self) -> list[tuple[Any, Attempt]]:
        """Before Celery has the pool forget what no process has confirmed: the broker would send it again.

        It would not run again, as its row says that it runs. So a job that is with a process stays, and one that is on
        its way to none is taken back.
        """
        if not self._bodies.have_processes:
            return []
        pool = self._worker.pool._pool  # noqa: SLF001 - Celery has no other way to ask
        taken_back = []
        for result in tuple(pool._cache.values()):  # noqa: SLF001 - as above
            request = state.requests.get(result.correlation_id)
            if request is None or request.attempt is None:
                continue
            if result in pool.outbound_buffer:
                taken_back.append((request, request.attempt))
            else:
                result._accepted = True  # noqa: SLF001 - what its process is about to confirm
        return taken_back

    def reconnect(self, taken_back: Sequence[tuple[Any, Attempt]]) -> None:
        """The broker's connection is gone, and Celery has forgotten what does not run.

        What is claimed runs all the same. The other messages come again.
        """
        self._waiting.clear()
        self._suspects.clear()
        self._asked = 0
        self._granted.extendleft(reversed(taken_back))
        if self._is_closed:
            self._release_granted()
            return
        semaphore = self._worker.semaphore  # Celery takes all slots for free
        semaphore.value = max(0, semaphore.initial_value - self._bodies.running)
        for request in (*self._claiming.values(), *(request for request, _ in self._granted)):
            state.task_reserved(request)
        self._advance()

    def close(self) -> None:
        """The worker begins to stop: nothing begins any more, and what is claimed another one may run."""
        self._is_closed = True
        self._waiting.clear()
        self._suspects.clear()
        self._batcher.hand_back()
        self._release_granted()

    def apply(self) -> None:
        """Do what the batcher has told."""
        while self._news:
            claims, successes = self._news.popleft()
            self._succeeded([self._ending.pop(fence) for fence in successes if fence in self._ending])
            for request, answer in claims:
                self._answered(request, answer)
        self._go_on()

    def _succeeded(self, ended: Sequence[tuple[Any, Callable[[], None]]]) -> None:
        waiting = [request for request, _ in ended if not request.acknowledged]
        for request, succeed in ended:
            request.acknowledged = True  # together with the others, instead of by itself
            _call(succeed, request.fence)
        acknowledge_all([request.message for request in waiting], self._worker.consumer.connection_errors)

    def _go_on(self) -> None:
        if not self._is_closed:
            self._advance()
            self._set_window()

    def _hear(self, claims: Sequence[tuple[Any, Answer]], successes: Sequence[Any]) -> None:
        """In the batcher's thread."""
        self._news.append((claims, successes))
        self._worker.hub.call_soon(self.apply)

    def _release_granted(self) -> None:
        granted, self._granted = self._granted, deque()
        self._batcher.release([attempt for _, attempt in granted if attempt is not None])

    @property
    def _slots(self) -> int:
        """How many bodies may run at once; the pool says so no more when it has ended."""
        return int(self._worker.semaphore.initial_value)

    def _is_alone(self) -> bool:
        """Whether a message is the only one, and there is a process for it: then it claims its job the sooner."""
        return not (self._waiting or self._claiming or self._granted) and self._worker.semaphore.value > 0

    def _is_suspect_here(self) -> bool:
        """Whether a job that has taken a worker down is claimed or runs."""
        return self._suspect is not None and state.requests.get(self._suspect.id) is self._suspect

    def _admit(self, request: Any) -> None:
        if request.fence is None or self._is_alone():
            self._worker.semaphore.acquire(self._run, request)
            return
        heapq.heappush(self._waiting, (-_priority(request), next(self._arrivals), request))
        self._advance()

    def _advance(self) -> None:
        """Have claimed what is about to begin, and wait for slots."""
        if self._suspects and not self._is_suspect_here():
            self._suspect = self._suspects.popleft()
            self._admit(self._suspect)
        while self._waiting and self._may_claim(self._waiting[0][2]):
            _, _, request = heapq.heappop(self._waiting)
            if request.revoked():  # it has expired
                continue
            self._claiming[request.fence] = request
            request.expected = self._pace.expected(request.task.name) or CLAIMED_AHEAD
            self._seconds_ahead += request.expected
            self._batcher.claim(request, request.fence, request.task.name)
        semaphore = self._worker.semaphore
        while self._asked < len(self._granted) or (self._waiting and not self._asked and semaphore.value <= 0):
            self._asked += 1
            semaphore.acquire(self._begin)

    def _may_claim(self, request: Any) -> bool:
        ahead = len(self._claiming) + len(self._granted)
        if ahead < self._worker.semaphore.value:
            return True
        expected = self._pace.expected(request.task.name)
        if expected is None or request.request_dict.get(LOSSES_HEADER):
            return False
        return bool(self._seconds_ahead + expected <= CLAIMED_AHEAD * self._slots)

    def _begin(self) -> None:
        """There is a slot."""
        self._asked -= 1
        if self._granted:
            request, attempt = self._granted.popleft()
            self._seconds_ahead = max(0.0, self._seconds_ahead - request.expected)
            if attempt is not None:
                request.attempt = attempt
                request.request_dict[current.CLAIMED] = Grant.of(attempt)
            self._run(request)
        else:
            self._worker.semaphore.release()
        if not self._granted and not self._claiming:
            self._seconds_ahead = 0.0
        self._advance()

    def _run(self, request: Any) -> None:
        """Have a body begin that has a slot. Without processes and threads this returns at its end."""
        self._worker._process_task(request)  # noqa: SLF001 - what Celery calls with a slot
        self._moved_at = time.monotonic()

    def _answered(self, request: Any, answer: Answer) -> None:
        """A claim was granted or refused, or could not be made."""
        fence = request.fence
        if self._claiming.pop(fence, None) is None:
            return
        was_cancelled = fence in self._dropped
        self._dropped.discard(fence)
        if isinstance(answer, Attempt) and self._is_closed:
            self._batcher.release([answer])
        elif isinstance(answer, Attempt) and was_cancelled:
            self._stop(request, answer)
        elif isinstance(answer, Attempt) or answer is None:
            self._granted.append((request, answer))
            return
        elif isinstance(answer, DatabaseAway):
            self._give_back(request)
        else:
            ids = {"job_type": request.task.name, "job_id": str(fence.job_id), "dispatch": fence.dispatch}
            log.warning("claim.refused", **ids, reason=str(answer))
            state.task_ready(request)
            request.acknowledge()
        self._seconds_ahead = max(0.0, self._seconds_ahead - request.expected)

    def _stop(self, request: Any, attempt: Attempt) -> None:
        """The body of a cancelled job does not begin."""
        self._platform.recorder.record(lambda: stop(self._platform, attempt, request.hostname, BEFORE_ITS_BODY))
        state.task_ready(request)
        request.acknowledge()

    def _give_back(self, request: Any) -> None:
        """Let the broker give it to somebody else, or again."""
        state.task_ready(request)
        request.reject(requeue=True)

    def _look(self) -> None:
        """Give back what waits for bodies that take longer than those before them."""
        while self._suspects and self._suspects[0].since < time.monotonic() - STANDSTILL:
            self._give_back(self._suspects.popleft())
        if time.monotonic() - self._moved_at < STANDSTILL or not (self._waiting or self._granted):
            return
        self._pace.forget()
        self._set_window()
        self._worker.consumer.qos.update()  # or the broker would send at once what it gets back
        waiting, self._waiting = self._waiting, []
        granted, self._granted = self._granted, deque(each for each in self._granted if each[1] is None)
        log.info("worker.giving_back", worker=self._worker.hostname, waiting=len(waiting), claimed=len(granted))
        for request, attempt in granted:
            if attempt is not None:
                self._batcher.release([attempt])
                state.task_ready(request)
                request.acknowledge()  # the job is sent anew
        for _, _, request in waiting:
            self._give_back(request)
        self._seconds_ahead = 0.0

    def _set_window(self) -> None:
        qos, window = self._worker.consumer.qos, self.window
        if qos is not None and qos.value != window:
            qos.value = window


def lookahead_of(worker: Any) -> LookAhead | None:
    """What a worker has between its messages and its bodies; None: it has no event loop, or a pool of another kind."""
    batcher = getattr(worker, "batcher", None)
    most = worker.app.platform.settings.look_ahead
    if batcher is None or worker.hub is None or not isinstance(worker.pool, POOLS):
        return None
    return LookAhead(worker, batcher, most)


def _call(succeed: Callable[[], None], fence: Fence) -> None:
    try:
        succeed()
    except Exception:  # as Celery's pool has it: this is the event loop of all jobs
        log.exception("success.untold", job_id=str(fence.job_id))


def _priority(request: Any) -> int:
    level = (request.delivery_info or {}).get("priority")
    return level if type(level) is int else 0
