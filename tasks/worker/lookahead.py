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
from tasks.attempt.claiming import tell_refused
from tasks.attempt.handing import Grant, Offer, ended
from tasks.attempt.outcomes import breaker_of
from tasks.broker.messages import LOSSES_HEADER
from tasks.broker.turns import next_turn
from tasks.persistence import DatabaseAway
from tasks.platform import Platform
from tasks.worker.answering import tell_all
from tasks.worker.batcher import Answer, Batcher, Given
from tasks.worker.bodies import POOLS, Bodies
from tasks.worker.budget import Budget
from tasks.worker.direct import Direct, attempt_of, is_direct, is_late
from tasks.worker.pace import CLAIMED_AHEAD
from tracking.admission.line import NOBODY, Ahead
from tracking.models import Attempt, Fence, JobRecord

log = structlog.get_logger(__name__)

LOOK = 0.25  # seconds between two looks whether anything moves
IN_STOCK = 0.004  # seconds of each process that are claimed when the next turn of the batcher need not begin at once
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
        self._budget = Budget(worker)
        self.bodies = Bodies(worker, self._go_on)
        self._arrivals = count()
        self._waiting: list[tuple[int, int, Any]] = []
        self._suspects: deque[Any] = deque()
        self._suspect: Any = None
        self._claiming: dict[Fence, Any] = {}
        self._granted: deque[tuple[Any, Attempt | None]] = deque()
        self._dropped: set[Fence] = set()
        self._ending: dict[Fence, tuple[Any, Callable[[], None]]] = {}
        self._is_closed = False
        self._asked = 0  # how many times we wait for a slot
        self._moved_at = time.monotonic()
        self._news: deque[tuple[Sequence[tuple[Any, Answer]], Sequence[Any], Sequence[Given]]] = deque()
        self.direct = Direct(worker)
        batcher.told = self._hear
        batcher.ahead, batcher.begins = self._ahead, self._begins
        batcher.may_wait = self._has_stock
        worker.lookahead = self

    def take(self, request: Any) -> None:
        """Have a message run when its turn comes."""
        request.lookahead = self
        if self._is_closed:  # it was on its way: RabbitMQ delivers until it has confirmed that nothing is wanted
            if is_direct(request):
                self._give_back(request)
        elif (attempt := attempt_of(request)) is not None:
            self._budget.take(request)
            self._granted.append((request, attempt))
            self._advance()
        elif request.fence is not None and request.request_dict.get(LOSSES_HEADER):
            request.since = time.monotonic()
            self._suspects.append(request)
            self._advance()
        else:
            self._admit(request)

    def over(self) -> None:
        """A process has said that its body has ended; of a body that had none the pool says so itself."""
        if self.bodies.have_processes:
            self._go_on()

    def ended(self, request: Any, told: bytes, runtime: float, tell: Callable[[], None]) -> None:
        """A body has handed over its end: have it written, and `tell` called then. In any thread."""
        attempt, outcome, how = ended(request.attempt, told, request.hostname)
        self._ending[attempt.fence] = request, tell
        if outcome.kind == "succeeded":
            self._budget.pace.took(attempt.job_type, runtime)
        self._batcher.settle(attempt, outcome, how, len(told))

    def took(self, request: Any, runtime: float) -> None:
        """The process of a body has written that it has succeeded, after so many seconds."""
        self._budget.pace.took(request.task.name, runtime)

    def failed(self, request: Any) -> None:
        """It has written that it has failed."""
        if (breaker := breaker_of(request.task)) is not None and request.fence is not None:
            self._batcher.look(request.fence.job_id, breaker)

    def drop(self, request: Any) -> bool:
        """Let a job that was cancelled never begin. False: it is not here, or its body has begun."""
        self.bodies.break_up(request.id)
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
        """The jobs that are claimed here and have no process, or whose end is not written yet. In any thread.

        Also those that the event loop has not heard of yet: it stands still while a broker does not answer.
        """
        granted = [attempt for _, attempt in tuple(self._granted)]
        given = [attempt for _, _, given in tuple(self._news) for _, attempt in given]
        claimed = [attempt.fence for attempt in (*granted, *given) if attempt is not None]
        return {fence.job_id for fence in (*self._claiming.copy(), *claimed, *self._ending.copy(), *self._batcher.held)}

    @property
    def window(self) -> int:
        """How many messages the worker should have, those that run included."""
        qos = self._worker.consumer.qos
        return self._budget.pace.window(self._budget.most_slots, self._most, qos.value if qos is not None else 0)

    def register(self, hub: Any) -> None:
        """Begin to look whether anything moves."""
        hub.call_repeatedly(LOOK, self._look)

    def bound(self, channel: Any) -> None:
        """Let a new channel fetch no more than the window: Celery's own limit on Redis is one message for a process."""
        qos = getattr(channel, "qos", None)
        if qos is not None:  # of kombu's channels; RabbitMQ counts by itself
            vars(qos).pop("can_consume", None)  # Celery's
            channel.room = qos.can_consume_max_estimate

    def reconnect(self, taken_back: Sequence[tuple[Any, Attempt]], staying: Sequence[Any]) -> None:
        """The broker's connection is gone, and Celery has forgotten what does not run.

        What is claimed runs all the same, like what never was a message. The other messages come again.
        """
        self._waiting = [each for each in self._waiting if is_direct(each[2])]
        heapq.heapify(self._waiting)
        self._suspects.clear()
        self._asked = 0
        self._granted.extendleft(reversed(taken_back))
        if self._is_closed:
            self._release_granted()
            return
        semaphore = self._worker.semaphore  # Celery takes all slots for free
        semaphore.value = max(0, semaphore.initial_value - self.bodies.running)
        here = [*self._claiming.values(), *(each[0] for each in self._granted), *(each[2] for each in self._waiting)]
        kept = [*staying, *here]  # Celery knows what runs; of the others it has forgotten all
        for request in kept:
            state.task_reserved(request)
        self._advance()

    def close(self) -> None:
        """The worker begins to stop: nothing begins any more, and what is claimed another one may run."""
        self._is_closed = True
        self.bodies.break_up()
        for _, _, request in self._waiting:
            if is_direct(request):
                self._give_back(request)
        self._waiting.clear()
        self._suspects.clear()
        self._batcher.hand_back()
        self._release_granted()
        self.apply()  # the event loop turns no more, and bodies may take long to end

    def apply(self) -> None:
        """Do what the batcher has told."""
        while self._news:
            claims, written, given = self._news.popleft()
            ended = [self._ending.pop(fence) for fence in written if fence in self._ending]
            tell_all(ended, self._worker.consumer.connection_errors)
            for request, answer in claims:
                self._answered(request, answer)
            for record, attempt in given:
                taken = self.direct.take(record, attempt, has_room=self._has_room(attempt))
                if attempt is not None and not taken:
                    self._batcher.release([attempt])
        self._go_on()

    def _go_on(self) -> None:
        if not self._is_closed:
            self._advance()
            self._set_window()

    def _hear(self, claims: Sequence[tuple[Any, Answer]], written: Sequence[Any], given: Sequence[Given]) -> None:
        """What the batcher tells, in its thread; the event loop reads it soon."""
        self._news.append((claims, written, given))
        self._worker.hub.call_soon(self.apply)

    def _release_granted(self) -> None:
        granted, self._granted = self._granted, deque()
        self._batcher.release([attempt for _, attempt in granted if attempt is not None])

    def _has_room(self, attempt: Attempt | None) -> bool:
        """Whether the broker, too, would send it one more message, or it has claimed the job already."""
        if self._is_closed or attempt is not None:
            return not self._is_closed
        here = self.bodies.running + len(self._granted) + len(self._claiming) + len(self._waiting)
        return here < self.window

    def _ahead(self) -> Ahead:
        """How many jobs may begin now, or a moment later, because nothing else is here. In the batcher's thread."""
        if self._is_closed or self._waiting or self._suspects:
            return NOBODY
        return Ahead(self.direct.queues, self._free() + self._budget.jobs)

    def _begins(self, records: Sequence[JobRecord]) -> Sequence[JobRecord]:
        """Which of those that have just got slots do; what comes meanwhile comes after them. As above."""
        if self._is_closed or self._waiting or self._suspects:
            return ()
        here = (each for each in records if self.direct.is_for(each) and "expires" not in each.delivery)
        return self._budget.first(here, self._free())

    def _has_stock(self) -> bool:
        """Whether every process has something to do until a turn that has not begun is over. As above."""
        pace = self._budget.pace
        is_short = pace.more(CLAIMED_AHEAD) > 1
        return is_short and len(self._granted) >= max(1, pace.more(IN_STOCK)) * self._budget.slots

    def _free(self) -> int:
        return max(0, int(self._worker.semaphore.value) - len(self._granted) - len(self._claiming))

    def _is_alone(self) -> bool:
        """Whether a message is the only one, and there is a process for it: then it claims its job the sooner."""
        return not (self._waiting or self._claiming or self._granted) and self._worker.semaphore.value > 0

    def _is_suspect_here(self) -> bool:
        """Whether a job that has taken a worker down is claimed or runs."""
        return self._suspect is not None and state.requests.get(self._suspect.id) is self._suspect

    def _admit(self, request: Any) -> None:
        if request.fence is None or (self._is_alone() and not is_direct(request)):
            self._worker.semaphore.acquire(self._run, request)
            return
        heapq.heappush(self._waiting, (-request.priority, next(self._arrivals), request))
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
            self._budget.take(request)
            self._batcher.claim(request, request.fence, request.task.name)
        semaphore = self._worker.semaphore
        slots = max(1, self._budget.slots)  # each that comes asks for the next one
        while self._asked < min(slots, len(self._granted)) or (
            self._waiting and not self._asked and semaphore.value <= 0
        ):
            self._asked += 1
            semaphore.acquire(self._begin)

    def _may_claim(self, request: Any) -> bool:
        ahead = len(self._claiming) + len(self._granted)
        if ahead < self._worker.semaphore.value:
            return True
        return not request.request_dict.get(LOSSES_HEADER) and self._budget.allows(request.task.name)

    def _begin(self) -> None:
        """A slot is free: the first that is granted takes it."""
        self._asked -= 1
        if self._granted:
            ones = self._budget.next(self._granted) if self.bodies.may_be_bundled else [self._granted.popleft()]
            with self.bodies.together([each[0] for each in ones], self._returned):
                for request, attempt in ones:
                    self._budget.give_back(request)
                    if attempt is not None:
                        request.attempt = attempt
                        request.request_dict[current.CLAIMED] = Grant.of(attempt)
                    self._run(request)
        else:
            self._worker.semaphore.release()
        if not self._granted and not self._claiming:
            self._budget.reset()
        self._advance()

    def _returned(self, requests: Sequence[Any]) -> None:
        """They stood behind another one in a process, and have not begun."""
        for request in reversed(requests):
            self._budget.take(request)
            self._granted.appendleft((request, request.attempt))
        if self._is_closed:
            self._release_granted()
        next_turn(self._worker.hub, self._go_on)

    def _run(self, request: Any) -> None:
        """Have a body begin that has a slot. Without processes and threads this returns at its end."""
        request.request_dict.setdefault(current.CLAIMED, Offer())
        request.unfold()
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
            tell_refused(answer, job_type=request.task.name, job_id=str(fence.job_id), dispatch=fence.dispatch)
            state.task_ready(request)
            request.acknowledge()
        self._budget.give_back(request)

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
        self._send_late()
        if time.monotonic() - self._moved_at < STANDSTILL or not (self._waiting or self._granted):
            return
        self._budget.pace.forget()
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
        self._budget.reset()

    def _send_late(self) -> None:
        late = [each for each in self._waiting if is_late(each[2])]
        for each in late:
            self._waiting.remove(each)
            self._give_back(each[2])
        heapq.heapify(self._waiting)

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
