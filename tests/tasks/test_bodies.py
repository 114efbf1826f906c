"""How many bodies a pool without processes runs, and that each of them frees its slot, however it ends."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from billiard.exceptions import WorkerLostError
from celery.concurrency import solo, thread
from celery.worker import state
from kombu.asynchronous import Hub
from kombu.asynchronous.semaphore import LaxBoundedSemaphore
from kombu.asynchronous.timer import Timer

from tasks.worker.board import Board
from tasks.worker.bodies import Bodies
from tasks.worker.processes import Processes

SLOTS = 2
BODIES = 10


class World:
    """A worker's pool, slots and event loop; `ended` counts what that was told of."""

    def __init__(self, pool: Any, slots: int) -> None:
        self.pool = pool
        self.semaphore = LaxBoundedSemaphore(slots)
        self.ended = 0
        self.hub, self._broker = Hub(timer=Timer()), socket.socketpair()
        self.hub.add_reader(self._broker[0], lambda: None)  # which says nothing; a loop without any only sleeps
        self.bodies = Bodies(SimpleNamespace(pool=pool, hub=self.hub, semaphore=self.semaphore), self._count)

    def run(self, body: Callable[[], Any]) -> None:
        """Give the pool a body, with a slot."""
        self.semaphore.acquire(lambda: self.pool.apply_async(body, callback=lambda _: None))

    def turn(self, ended: int) -> None:
        """Turn the event loop until it has been told of so many ends; each turn may wait for a second."""
        for _ in range(10 * ended):
            if self.ended < ended:
                self.hub.run_once()
        assert self.ended == ended

    def close(self) -> None:
        self.pool.stop()
        self.hub.close()
        for end in self._broker:
            end.close()

    def _count(self) -> None:
        self.ended += 1


@pytest.fixture
def threads() -> Iterator[World]:
    world = World(thread.TaskPool(SLOTS), SLOTS)
    yield world
    world.close()


@pytest.fixture
def alone() -> Iterator[World]:
    """A pool that runs its bodies in the event loop itself."""
    world = World(solo.TaskPool(1), 1)
    yield world
    world.close()


def leave() -> None:
    """A body that wants to end its process."""
    raise SystemExit


def fail() -> None:
    """A body whose error nobody has caught on its way."""
    raise ValueError


def test_a_thread_has_its_slot_until_its_body_has_ended(threads: World) -> None:
    """While bodies run in threads their slots are taken; the event loop frees each of them after its end."""
    gate = threading.Event()
    for _ in range(SLOTS):
        threads.run(gate.wait)
    assert (threads.bodies.running, threads.semaphore.value, threads.ended) == (SLOTS, 0, 0)
    gate.set()
    threads.turn(SLOTS)
    assert (threads.bodies.running, threads.semaphore.value) == (0, SLOTS)


@pytest.mark.parametrize("body", [leave, fail])
def test_a_thread_whose_body_ends_in_an_unusual_way_frees_its_slot(threads: World, body: Callable[[], None]) -> None:
    """An exit or an error that comes through to the pool costs the worker no slot."""
    threads.run(body)
    threads.turn(1)
    assert (threads.bodies.running, threads.semaphore.value) == (0, SLOTS)


def test_a_body_in_the_event_loop_frees_its_slot_in_the_loops_next_turn(alone: World) -> None:
    """The next body begins only when the loop has seen to everything else."""
    began: list[int] = []
    for number in range(3):
        alone.run(lambda number=number: began.append(number))  # type: ignore[misc]
    assert began == [0]
    alone.turn(1)
    assert began == [0, 1]
    alone.turn(3)
    assert began == [0, 1, 2]
    assert (alone.bodies.running, alone.semaphore.value) == (0, 1)


def test_bodies_in_the_event_loop_follow_each_other_at_once(alone: World) -> None:
    """No body waits for something else to come to the event loop, for which that would wait up to a second."""
    for _ in range(BODIES):
        alone.run(lambda: None)
    began = time.monotonic()
    alone.turn(BODIES)
    assert time.monotonic() - began < BODIES / 2


def test_an_error_in_the_event_loop_frees_the_slot(alone: World) -> None:
    """Whoever gave the pool the body hears of its error, and the slot is free afterwards."""
    with pytest.raises(ValueError):  # noqa: PT011 - which one is of no interest
        alone.run(fail)
    alone.turn(1)
    assert (alone.bodies.running, alone.semaphore.value) == (0, 1)


class Given(SimpleNamespace):
    """A job that a process was given: it has not said that it has begun, and answers with `_set`."""

    def __init__(self, attempt: Any) -> None:
        super().__init__(correlation_id=uuid4().hex, _accepted=False, _job=1, ended=[])
        state.requests[self.correlation_id] = SimpleNamespace(id=self.correlation_id, attempt=attempt)

    def _set(self, _: Any, value: Any) -> None:
        self.ended.append(value)


@pytest.mark.parametrize("attempt", [object(), None])
@pytest.mark.parametrize("has_left", [False, True])
def test_a_claim_is_good_for_one_process(attempt: Any, *, has_left: bool) -> None:
    """A process that dies with a job may have begun it: if that was claimed for it, no other process gets it.

    One that has said that it ends with nothing half-done has not.
    """
    put_back: list[Any] = []
    pool: Any = Processes.__new__(Processes)
    vars(pool).update(_put_back=put_back.append, _active_writers=set(), _queues={})
    board = Board()
    if has_left:
        board.leave()
    job, process = Given(attempt), SimpleNamespace(exitcode=0, dead=True, board=board)
    is_lost = attempt is not None and not has_left
    try:
        pool.on_partial_read(job, process)
    finally:
        del state.requests[job.correlation_id]
    assert (bool(job.ended), put_back) == (is_lost, [] if is_lost else [job])
    if is_lost:
        [(succeeded, error)] = job.ended
        assert not succeeded
        assert error.type is WorkerLostError
