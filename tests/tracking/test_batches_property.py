"""A batch is the same as its parts: verbs in batches against the same verbs one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from tests.anonymous import anonymous
from tests.properties import ON_ONE_DATABASE
from tests.tracked import HOUR, KINDS, SITUATIONS, Tracked, check_rows, empty, wish
from tracking import jobs
from tracking.admission import pauses
from tracking.db import Database
from tracking.models import Breaker, Claim, Failure, Fence, JobRecord, Outcome, Progress

PLACES = (*SITUATIONS, "paused", "broken", "awaited", "released", "unknown")
CIRCUIT = """INSERT INTO circuits (job_type, organization_id, key, failures, pause, probe_at)
             VALUES ('broken', 'acme', '', 5, '1 hour', clock_timestamp() + interval '1 hour')"""


@dataclass(frozen=True)
class Word:
    """What a worker says of one of the jobs: it wants to run it, or how its attempt ended."""

    job: int
    claims: bool
    kind: Any
    by: str
    plain: bool


WORDS = st.builds(
    Word,
    job=st.integers(0, 4),
    claims=st.booleans(),
    kind=st.sampled_from(["succeeded", "succeeded", *KINDS]),
    by=st.sampled_from(["right", "right", "right", "older", "open", "again"]),
    plain=st.booleans(),
)


@dataclass(frozen=True)
class Batch:
    """Claims, or outcomes, that come together, while others hold the locks of some jobs."""

    words: Sequence[Word]
    locked: frozenset[int]


BATCHES = st.lists(
    st.builds(
        Batch, words=st.lists(WORDS, min_size=1, max_size=8), locked=st.frozensets(st.integers(0, 4), max_size=2)
    ),
    min_size=1,
    max_size=4,
)


class World:
    """Five jobs, and what was said of them: the same each time, whatever their ids are."""

    def __init__(self, pool: Database, tracked: Tracked, places: Sequence[str]) -> None:
        empty(pool)
        self._pool = pool
        self._tracked = tracked
        self._ids = {uuid4(): number for number in range(len(places))}
        self._claims: dict[UUID, Claim] = {}
        self.answers: list[Any] = []
        for job_id, place in zip(self._ids, places, strict=True):
            self._make(job_id, place)
        pauses.pause(tracked.connection, organization_id=None, job_type="paused", actor="admin", reason=None)
        tracked.connection.execute(text(CIRCUIT))

    def _make(self, job_id: UUID, place: str) -> None:
        if place == "unknown":
            return
        if place == "scheduled":
            self._tracked.submit(id=job_id, delay=HOUR)
            return
        job = self._tracked.submit(id=job_id, job_type=place if place in {"paused", "broken"} else "count_words")
        if place == "awaited":
            self._tracked.submit(depends_on=[job_id])
            self._tracked.start(job)
        elif place == "released":
            self._tracked.end(self._tracked.start(job), "released")
        elif place in SITUATIONS:
            self._tracked.bring(job, place)
            if place == "running":
                jobs.report(self._tracked.connection, Progress(job.fence, 1, percent=40))

    def say(self, batch: Batch, *, together: bool) -> None:
        """Say all of it, at once or word by word, and keep the answers: first the claims, then the outcomes."""
        claims = [self._claim(word) for word in batch.words if word.claims]
        outcomes = [self._outcome(word) for word in batch.words if not word.claims]
        connection = self._tracked.connection
        with self._locked(batch.locked):
            for some in [claims] if together else [[claim] for claim in claims]:
                self._answered(jobs.claim(connection, some, waits=False))
            for ended in [outcomes] if together else [[outcome] for outcome in outcomes]:
                self._answered(jobs.settle(connection, ended, max_losses=2, waits=False))

    def _answered(self, answers: Sequence[Any]) -> None:
        self.answers += [self._anonymous(answer) for answer in answers]

    @contextmanager
    def _locked(self, numbers: frozenset[int]) -> Iterator[None]:
        ids = [job_id for job_id, number in self._ids.items() if number in numbers]
        with self._pool.begin() as other:
            other.execute(text("SELECT id FROM jobs WHERE id = ANY(:ids) FOR UPDATE"), {"ids": ids})
            yield

    def _claim(self, word: Word) -> Claim:
        fence, _ = self._current(word)
        if word.by == "again" and fence.job_id in self._claims:
            return self._claims[fence.job_id]
        claim = wish(fence, job_type=None if word.by == "open" else "count_words")
        return self._claims.setdefault(fence.job_id, claim)

    def _outcome(self, word: Word) -> Outcome:
        fence, attempt = self._current(word)
        return Outcome(
            fence,
            word.kind,
            "worker-1",
            None if word.by == "open" else attempt,
            result={"said": [word.job, '"', "\\"]},
            failure=None if word.kind == "succeeded" else Failure("ValueError", "wrong", "Traceback"),
            last_news=None if word.plain else Progress(fence, attempt, 70, "Writing", {"rows": 1}, 2, 3),
            delay=HOUR,
            breaker=Breaker(2, HOUR) if word.kind in ("failed", "retry") and word.by != "open" else None,
        )

    def _current(self, word: Word) -> tuple[Fence, int]:
        """The fence of the job's current dispatch, or of an older one, and its attempt."""
        job_id = next(each for each, number in self._ids.items() if number == word.job)
        row: JobRecord | None = next((job for job in self._tracked.all() if job.id == job_id), None)
        dispatch, attempt = (row.dispatch, row.attempt) if row else (1, 1)
        return Fence(job_id, dispatch - (word.by == "older")), attempt

    def seen(self) -> list[Any]:
        """All that is written of the jobs and their circuits, without ids and times."""
        circuits = self._tracked.connection.execute(text("SELECT job_type, key, failures FROM circuits ORDER BY 1, 2"))
        rows = sorted((job for job in self._tracked.all() if job.id in self._ids), key=lambda job: self._ids[job.id])
        return [circuits.all()] + [
            (self._anonymous(row), [self._anonymous(replace(each, id=0)) for each in self._tracked.history(row)])
            for row in rows
        ]

    def _anonymous(self, value: Any) -> Any:
        return anonymous(value, self._ids)


@pytest.fixture
def world(pool: Database, tracked: Tracked) -> Callable[[Sequence[str]], World]:
    """Makes a world with jobs in these places."""
    return lambda places: World(pool, tracked, places)


# A success that is said twice, and between the two the failure of another job of its type.
TWICE = Batch(
    [
        Word(3, claims=False, kind="succeeded", by="right", plain=False),
        Word(4, claims=False, kind="failed", by="right", plain=True),
        Word(3, claims=False, kind="failed", by="right", plain=False),
    ],
    frozenset(),
)


@settings(ON_ONE_DATABASE, max_examples=60)
@example(places=["queued", "queued", "exhausted", "running", "running"], batches=[TWICE])
@given(places=st.lists(st.sampled_from(PLACES), min_size=5, max_size=5), batches=BATCHES)
def test_a_batch_is_the_same_as_its_parts(
    world: Callable[[Sequence[str]], World], tracked: Tracked, places: list[str], batches: list[Batch]
) -> None:
    """Verbs in batches and one by one leave the same rows and history and give the same answers."""
    seen = []
    for together in (False, True):
        made = world(places)
        for batch in batches:
            made.say(batch, together=together)
        seen.append((made.answers, made.seen()))
        check_rows(tracked)
    one_by_one, at_once = seen
    assert at_once == one_by_one
