"""Several jobs to a process at once: each is told once, and what has not begun can be taken back at any time."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from billiard.exceptions import WorkerLostError
from hypothesis import given
from hypothesis import strategies as st
from kombu.asynchronous.semaphore import LaxBoundedSemaphore

from tasks.worker.board import HEAD, SIZE, Board
from tasks.worker.budget import Budget
from tests.processes import CLAIMED, COUNT, Pool
from tests.tasks.conftest import own_app
from tracking.errors import ConfigurationError

NEVER = 600.0  # seconds: nothing is taken back of which a test does not say so


class Bundled(Pool):
    """A pool; `returned` are the ids of what was taken back."""

    def __init__(self) -> None:
        super().__init__()
        self.returned: list[str] = []
        self.pool.bundles.patience = NEVER

    def run_together(self, *paths: str, filling: str = "") -> None:
        """Give it a bundle in a slot; the jobs have the numbers of their paths for ids, and end as `trace` says."""
        self.slots.acquire(self._begin, paths, filling)

    def _begin(self, paths: Sequence[str], filling: str) -> None:
        with self.pool.bundles.together(self._take):
            for number, path in enumerate(paths):
                text = f"{number}{filling}"
                self.run_claimed(path, text, job_id=str(number), **CLAIMED)

    def _take(self, jobs: Sequence[Any]) -> None:
        self.returned.extend(job.correlation_id for job in jobs)

    @property
    def texts(self) -> list[str]:
        """What the bodies have returned that have ended, in their order."""
        return [text for _, text in self.told]

    def is_lost(self, place: int) -> bool:
        """Whether the one that ended then was lost with its process."""
        error = getattr(self.told[place], "exception", None)
        return isinstance(getattr(error, "exc", error), WorkerLostError)


@pytest.fixture(scope="module")
def made() -> Iterator[Bundled]:
    with Bundled() as pool:
        yield pool


@pytest.fixture
def pool(made: Bundled) -> Iterator[Bundled]:
    """One for all tests here, of which none leaves anything."""
    made.told.clear()
    made.begun.clear()
    made.returned.clear()
    yield made
    made.until(lambda: len(made.pool._all_inqueues) == COUNT and not made.pool._cache)
    made.until(lambda: made.slots.value == COUNT)
    assert not made.pool._busy_workers
    assert not made.pool.bundles._with


@pytest.fixture
def fifo(tmp_path: Path) -> str:
    """For a body that waits for somebody to read it."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return str(path)


def _begun(pool: Bundled) -> int | None:
    """The place of the job of the one bundle that its process has begun; None: it has begun none."""
    [bundle] = pool.pool.bundles._with.values()
    begun = HEAD.unpack_from(bundle.process.board._page)[0]
    return list(bundle.jobs).index(begun) if begun in bundle.jobs else None


def read(fifo: str) -> None:
    """Let the body end that waits."""
    with Path(fifo).open() as file:
        file.read()


@pytest.mark.parametrize("size", [0, 1000, 20_000], ids=["small", "large", "more than a pipe holds"])
def test_a_bundle_is_told_in_its_order_by_one_process(pool: Bundled, size: int) -> None:
    """Each of its jobs is begun and told once, whatever their sizes."""
    pool.run_together(*[""] * 8, filling="a" * size)
    pool.until(lambda: len(pool.told) == 8)
    assert pool.texts == [f"{number}{'a' * size}" for number in range(8)]
    assert len({pid for pid, _ in pool.told}) == 1
    assert pool.begun == [pid for pid, _ in pool.told]
    assert not pool.returned


def test_a_bundle_has_one_slot_until_its_last_job_has_ended(pool: Bundled, fifo: str) -> None:
    """While one of its jobs runs its process gets nothing else, whether the others have ended or were taken back."""
    pool.run_together("", fifo, "")
    pool.until(lambda: pool.pool._busy_workers)
    pool.until(lambda: _begun(pool) == 1)
    assert (pool.slots.value, len(pool.pool._busy_workers), pool.told) == (COUNT - 1, 1, [])
    pool.pool.bundles.break_up()
    assert (pool.texts, pool.returned) == (["0"], ["2"])
    assert (pool.slots.value, len(pool.pool._busy_workers)) == (COUNT - 1, 1)
    read(fifo)
    pool.until(lambda: pool.texts == ["0", "1"])


def test_nothing_waits_behind_a_slow_body(pool: Bundled, fifo: str) -> None:
    """The ends before it are told while it runs, and what stands behind it is taken back, and does not run there."""
    pool.pool.bundles.patience, pool.pool.bundles._due = 2.0, 0.0
    pool.run_together("", "", fifo, "", "")
    pool.until(lambda: pool.returned)
    pool.pool.bundles.patience = NEVER
    assert (pool.texts, pool.returned) == (["0", "1"], ["3", "4"])
    pool.run_together("", "")  # the other process
    pool.until(lambda: len(pool.told) == 4)
    read(fifo)
    pool.until(lambda: len(pool.told) == 5)
    pool.run_together("", "")
    pool.run_together("", "")
    pool.until(lambda: len(pool.told) == 9)
    assert sorted(pool.texts) == ["0", "0", "0", "0", "1", "1", "1", "1", "2"]


def test_a_job_of_a_bundle_that_has_not_begun_can_be_taken_back(pool: Bundled, fifo: str) -> None:
    """The third of a bundle is asked for while the first runs: all behind the first come back, which runs on."""
    pool.run_together(fifo, "", "", "")
    pool.until(lambda: pool.pool._busy_workers)
    pool.until(lambda: _begun(pool) == 0)
    pool.pool.bundles.break_up("2")
    assert (pool.returned, len(pool.begun)) == (["1", "2", "3"], 1)
    read(fifo)
    pool.until(lambda: pool.texts == ["0"])


def test_another_bundle_is_left_alone(pool: Bundled, fifo: str) -> None:
    """Only the one that has the job that is asked for is taken back."""
    pool.run_together(fifo, "")
    pool.pool.bundles.break_up("7")
    assert pool.pool.bundles.waiting
    pool.pool.bundles.break_up("1")
    assert (pool.returned, pool.slots.value) == (["0", "1"], COUNT)


def test_a_process_that_dies_takes_one_job_of_its_bundle_with_it(pool: Bundled) -> None:
    """Those before it are told, it is lost, and those behind it come back; a new process gets the next bundle."""
    pool.run_together("", "", "die", "", "")
    pool.until(lambda: len(pool.told) == 3)
    assert pool.is_lost(2)
    assert [text for _, text in pool.told[:2]] == ["0", "1"]
    assert pool.returned == ["3", "4"]
    pool.until(lambda: len(pool.pool._all_inqueues) == COUNT)
    pool.told.clear()
    for _ in range(COUNT):
        pool.run_together("", "")
    pool.until(lambda: len(pool.told) == 2 * COUNT)
    assert sorted(pool.texts) == sorted(["0", "1"] * COUNT)


def test_a_process_counts_as_busy_while_it_has_a_bundle(pool: Bundled, fifo: str) -> None:
    """An autoscaler ends no process that has one, though nobody has said that its jobs have begun."""
    pool.run_together(fifo, "")
    pool.until(lambda: pool.pool._busy_workers and _begun(pool) == 0)
    assert len(list(pool.pool._iterinactive())) == COUNT - 1
    read(fifo)
    pool.until(lambda: pool.texts == ["0", "1"])


@given(st.lists(st.binary(max_size=100), min_size=1, max_size=8), st.data())
def test_the_board_says_what_has_begun_and_ended_whenever_it_is_read(answers: list[bytes], data: st.DataObject) -> None:
    """Whenever jobs are taken back, what began and what was told are as they were then, and no other one begins."""
    board, done = Board(), data.draw(st.integers(0, len(answers)))
    for number, answer in enumerate(answers[:done]):
        assert board.begin(number)
        assert board.keep(number, answer)
    assert board.take_back(len(answers) - 1) == (done - 1, b"".join(answers[:done]))
    assert not any(board.begin(number) for number in range(done, len(answers)))
    assert board.keep(max(0, done - 1), b"its end is told at once") is False
    assert board.begin(len(answers)), "the next bundle"
    assert board.answers() == b""


def test_the_board_keeps_no_more_than_it_has_room_for() -> None:
    """What does not fit is told at once, and what was told is kept no more."""
    board: Any = Board()
    assert board.begin(1)
    assert board.keep(1, b"a" * (SIZE // 2))
    assert not board.keep(1, b"a" * (SIZE // 2))
    board.forget()
    assert board.keep(1, b"a" * (SIZE // 2))


def next_of(kinds: str, *, seconds: float | None, slots: int) -> str:
    """What goes to a process of these: "b" may be in a bundle, "-" may not, "u" is not claimed."""
    budget = Budget(SimpleNamespace(semaphore=LaxBoundedSemaphore(slots)))
    if seconds is not None:
        budget.pace.took("short", seconds)
    granted = deque[Any](
        (SimpleNamespace(may_be_bundled=kind != "-", kind=kind), kind != "u" or None) for kind in kinds
    )
    taken = [request.kind for request, _ in budget.next(granted)]
    assert len(taken) + len(granted) == len(kinds)
    return "".join(taken)


@pytest.mark.parametrize(
    ("kinds", "seconds", "slots", "together"),
    [
        ("b" * 40, 0.0005, 2, 8),
        ("b" * 6, 0.0005, 2, 3),  # as many for the other process
        ("b" * 40, 0.002, 2, 5),
        ("b" * 40, 0.02, 2, 1),
        ("b" * 40, None, 2, 1),
        ("bb-" + "b" * 40, 0.0005, 1, 2),
        ("bu" + "b" * 40, 0.0005, 1, 1),
        ("-" + "b" * 40, 0.0005, 1, 1),
        ("b", 0.0005, 4, 1),
    ],
)
def test_so_many_go_together(kinds: str, seconds: float | None, slots: int, together: int) -> None:
    """At most eight, a few milliseconds of bodies, the share of a process, and only what may go with others."""
    assert next_of(kinds, seconds=seconds, slots=slots) == kinds[:together]


@pytest.mark.parametrize("limit", ["time_limit", "soft_time_limit"])
def test_a_type_with_a_time_limit_has_no_bundles(limit: str) -> None:
    """Nobody watches the time of a job in a bundle: such a task is refused, in one line that says why."""
    options: dict[str, Any] = {limit: 5}
    refused = pytest.raises(ConfigurationError, match="'short' cannot be served: jobs that go to a process in a bundle")
    with own_app("bundling") as app, refused:

        @app.task(name="short", bundle=True, **options)
        def short() -> None:
            """Nothing."""

        app.finalize()
