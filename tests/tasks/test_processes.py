"""What goes through the pipes of the pool's processes: everything, in its order, whatever its size."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from billiard.exceptions import WorkerLostError
from hypothesis import given
from hypothesis import strategies as st

from tasks.worker.bundles import HEAD
from tasks.worker.processes import AT_ONCE, Pipe, Results
from tests.processes import CLAIMED, COUNT, Pool


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    """One for all tests here."""
    with Pool() as pool:
        yield pool


@pytest.mark.parametrize("size", [0, 100, 4000, 4096, 5000, AT_ONCE, 3 * AT_ONCE + 1])
def test_every_body_is_given_and_told_whatever_its_size(pool: Pool, size: int) -> None:
    """Arguments and results of any size come through, each once; both processes have some of them."""
    pool.told.clear()
    pool.begun.clear()
    for number in range(40):
        pool.run(str(number % 10) * (size // 4), 4)
    pool.until(lambda: len(pool.told) == 40)
    assert sorted(text for _, text in pool.told) == sorted(str(number % 10) * (size // 4) * 4 for number in range(40))
    assert len({pid for pid, _ in pool.told}) == COUNT
    assert sorted(pool.begun) == sorted(pid for pid, _ in pool.told)
    assert not pool.pool._cache


def test_a_process_has_one_body_at_a_time(pool: Pool, tmp_path: Path) -> None:
    """Bodies wait in the main process, not in the pipe of a process that has one."""
    pool.told.clear()
    pool.begun.clear()
    path = tmp_path / "fifo"
    os.mkfifo(path)
    for _ in range(5):
        pool.run_claimed(str(path), "")
    pool.until(lambda: len(pool.begun) == COUNT)
    assert (len(pool.pool._busy_workers), len(pool.pool.outbound_buffer)) == (COUNT, 5 - COUNT)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # so that none of them waits any more
    pool.until(lambda: len(pool.told) == 5)
    os.close(reading)
    assert len(pool.begun) == 5


@pytest.mark.parametrize("filling", ["", "a" * 5000], ids=["small", "large"])
@pytest.mark.parametrize("request_says", [CLAIMED, {}], ids=["claimed", "unclaimed"])
def test_a_body_has_begun_once_while_it_runs(
    pool: Pool, tmp_path: Path, filling: str, request_says: dict[str, Any]
) -> None:
    """The main process hears of each body, before its end and once, in which process it runs."""
    pool.told.clear()
    pool.begun.clear()
    path = tmp_path / "fifo"
    os.mkfifo(path)
    pool.run_claimed(str(path), filling, **request_says)
    pool.until(lambda: pool.begun)
    assert not pool.told
    with path.open() as fifo:
        assert fifo.read() == "id"
    pool.until(lambda: pool.told)
    assert pool.told == [(pool.begun[0], filling)]
    assert len(pool.begun) == 1


@pytest.mark.parametrize("filling", ["", "a" * 5000], ids=["small", "large"])
@pytest.mark.parametrize(
    ("first", "limit"),
    [("", {"maxtasksperchild": 1}), ("", {"max_memory_per_child": 1}), ("leave", {})],
    ids=["number", "memory", "its own"],
)
def test_a_claimed_body_that_is_given_to_a_process_at_its_end_goes_to_another_one(
    filling: str, first: str, limit: dict[str, int]
) -> None:
    """Processes that end after a body, by their number, their memory or that body itself, take no other one along."""
    with Pool(**limit) as pool:
        for number in range(COUNT):
            pool.run_claimed(first, filling, job_id=str(number), **CLAIMED)
        pool.run_claimed("", filling, job_id="next", **CLAIMED)
        pool.until(lambda: len(pool.told) == COUNT + 1)
        assert pool.told[-1][1] == filling
        assert not pool.pool._cache


@pytest.mark.parametrize("filling", ["", "a" * 5000], ids=["small", "large"])
def test_a_claimed_body_is_lost_with_its_process(pool: Pool, filling: str) -> None:
    """A process that dies takes its body with it: that does not run again, and the others go on."""
    pool.told.clear()
    pool.begun.clear()
    pool.run_claimed("die", filling, **CLAIMED)
    pool.until(lambda: pool.told)
    [lost] = pool.told
    assert isinstance(getattr(lost.exception, "exc", lost.exception), WorkerLostError)
    pool.until(lambda: len(pool.pool._all_inqueues) == COUNT)
    pool.run("a", 1)
    pool.until(lambda: len(pool.told) == 2)
    assert pool.told[1][1] == "a"


class Told(Results):
    """Who reads a pipe; what comes is kept, and the message "raise" raises."""

    def __init__(self, reading: int) -> None:
        self.fileno_to_outq = {reading: None}
        self.heard: list[Any] = []
        self.on_state_change = self._hear
        self.loop = SimpleNamespace(readers={}, add_reader=self._add, remove_reader=self._remove)
        self.loop.add_reader(reading, self._make_process_result(self.loop), reading)
        self.handle_event, _ = self.loop.readers[reading]  # type: ignore[method-assign]  # as Celery does

    def readable(self, fd: int) -> None:
        """As kombu's event loop has it."""
        callback, args = self.loop.readers[fd]
        if callable(callback):
            callback(*args)
        else:
            next(callback, None)

    def _hear(self, message: Any) -> None:
        self.heard.append(message)
        if message == "raise":
            raise SystemExit("as a body may make the worker end")

    def _add(self, fd: int, callback: Any, *args: Any) -> None:
        self.loop.readers[fd] = callback, args

    def _remove(self, fd: int) -> None:
        self.loop.readers.pop(fd, None)


def _packed(message: Any) -> bytes:
    body = pickle.dumps(message)
    return HEAD.pack(len(body)) + body


@given(st.lists(st.text(max_size=40), min_size=1, max_size=20), st.lists(st.integers(1, 200)))
def test_messages_are_whole_however_they_come(messages: list[str], pieces: list[int]) -> None:
    """A stream that is cut anywhere gives the messages that were sent, in their order."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    told, stream = Told(reading), b"".join(_packed((each, 1)) for each in messages)
    try:
        for size in [*pieces, len(stream)]:
            if stream[:size]:
                os.write(writing, stream[:size])
                told.readable(reading)
                told.readable(reading)  # nothing more has come
            stream = stream[size:]
    finally:
        os.close(reading)
        os.close(writing)
    assert told.heard == [(each, 1) for each in messages]


@given(st.lists(st.text(max_size=40), min_size=1, max_size=20))
def test_a_process_reads_one_job_after_the_other(messages: list[str]) -> None:
    """What is in a pipe together is read one by one, and its end is told."""
    reading, writing = os.pipe()
    packed = [_packed(each) for each in messages]
    os.write(writing, b"".join(packed))
    os.close(writing)
    pipe = Pipe(reading)
    try:
        assert [pipe.receive() for _ in messages] == [
            (len(each) - HEAD.size, message) for each, message in zip(packed, messages, strict=True)
        ]
        with pytest.raises(EOFError):
            pipe.receive()
    finally:
        os.close(reading)


def test_no_message_is_lost_with_one_that_ends_the_worker() -> None:
    """What came together with it is dealt with, and its error raised then."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    told = Told(reading)
    os.write(writing, _packed("before") + _packed("raise") + _packed("after"))
    with pytest.raises(SystemExit, match="as a body may"):
        told.readable(reading)
    assert told.heard == ["before", "raise", "after"]
    os.close(writing)
    told.readable(reading)
    assert not told.loop.readers, "the end of the pipe"
    os.close(reading)


def test_a_process_that_was_given_a_body_counts_as_busy(pool: Pool, tmp_path: Path) -> None:
    """An autoscaler ends no process that was given a body, though it has not said yet that it has begun."""
    pool.told.clear()
    pool.begun.clear()
    path = tmp_path / "fifo"
    os.mkfifo(path)
    pool.run_claimed(str(path), "")
    pool.pool.on_poll_start()  # which writes it; nothing is read before the event loop turns
    assert pool.pool._busy_workers
    assert len(list(pool.pool._iterinactive())) == COUNT - 1
    pool.until(lambda: len(pool.begun) == 1)
    assert path.read_text() == "id"
    pool.until(lambda: len(pool.told) == 1)
    assert len(list(pool.pool._iterinactive())) == COUNT


@pytest.mark.parametrize("request_says", [CLAIMED, {}], ids=["claimed", "unclaimed"])
def test_a_process_that_is_told_to_end_gets_no_body_any_more(request_says: dict[str, Any]) -> None:
    """Bodies that come in the moment in which the pool is made smaller run, each once, in the processes that stay."""
    with Pool() as pool:
        ends, stays = pool.pool._pool
        pool.pool.shrink(1)
        for _ in range(6):
            pool.run_claimed("", "", **request_says)
        pool.until(lambda: len(pool.told) == 6)
        assert {told if isinstance(told, BaseException) else told[0] for told in pool.told} == {stays.pid}
        pool.until(lambda: ends._popen.poll() is not None)


def test_processes_that_start_are_not_ended_for_want_of_work() -> None:
    """A process that has not said that it is up counts as busy, and one that was told to end is told so once."""
    with Pool() as pool:
        pool.pool.grow(1)
        pool.pool.maintain_pool()
        assert len(list(pool.pool._iterinactive())) == COUNT
        pool.pool.shrink(1)
        assert len(list(pool.pool._iterinactive())) == COUNT - 1
        pool.until(lambda: len(pool.pool._all_inqueues) == COUNT)
