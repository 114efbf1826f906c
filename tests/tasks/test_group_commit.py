"""Threads that submit at the same time share a commit, and each is answered as if it had been alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from tasks import group_commit
from tasks.group_commit import GroupCommit
from tests.anonymous import anonymous
from tests.properties import ON_ONE_DATABASE
from tests.tracked import Tracked, check_rows, empty, new_job
from tracking import jobs, revocations
from tracking.admission.rule import LINES, UNLIMITED, Limits
from tracking.db import Database, DBAPIError, Outage, outage
from tracking.errors import TrackingError, UnknownDependency
from tracking.jobs.bulk import NewRow
from tracking.models import NewJob, Owner, Scope, Submitted
from tracking.settings import settings as configured
from tracking.states import Hold

PATIENCE = 20.0  # seconds for all threads of a test

Answer = Submitted | str


@pytest.fixture(scope="module")
def threads() -> Iterator[ThreadPoolExecutor]:
    """More threads than the pool has connections."""
    with ThreadPoolExecutor(16) as executor:
        yield executor


def own_scope(job: NewJob) -> Scope:
    """The jobs of a job's owner."""
    return Scope(job.owner.organization_id, job.owner.user_id)


def answer_of(submit: Callable[[NewJob, Scope], Submitted], job: NewJob) -> Answer:
    """What its caller is told."""
    try:
        return submit(job, own_scope(job))
    except (TrackingError, DBAPIError) as refused:
        return type(refused).__name__


def all_at_once(threads: ThreadPoolExecutor, commits: GroupCommit, new: Sequence[NewJob]) -> list[Answer]:
    """The answers, in the order of the jobs, each of which has a thread."""
    line = threading.Barrier(len(new), timeout=PATIENCE)

    def run(job: NewJob) -> Answer:
        line.wait()
        return answer_of(commits.submit, job)

    return [future.result(PATIENCE) for future in [threads.submit(run, job) for job in new]]


@dataclass(frozen=True)
class Ask:
    """One of the jobs to submit: with whose id, key and dependency. Priority 10 is refused by the database."""

    id: int
    user: str
    key: str | None
    request: str
    priority: int
    depends_on: int | None
    actor: str | None


OTHERS = 17
REVOKED = 14  # an id; with a key, or twice, it might be read before it is cancelled
ASKS = st.lists(
    st.builds(
        Ask,
        id=st.integers(0, 13),
        user=st.sampled_from(["u1", "u1", "u2"]),
        key=st.sampled_from([None, None, None, "a", "b"]),
        request=st.sampled_from("xxy"),
        priority=st.sampled_from([0, 0, 0, 0, 5, 10]),
        depends_on=st.sampled_from([None, None, None, 15, 16]),
        actor=st.sampled_from([None, None, None, "admin"]),
    ),
    min_size=2,
    max_size=12,
).map(lambda asks: [*asks, Ask(REVOKED, "u1", None, "x", 0, None, None)])


def made(asks: Sequence[Ask], place: int, ids: Sequence[UUID]) -> NewJob:
    """The job to submit. With a key it has an id of its own, so that one thing at most is in its way."""
    ask = asks[place]
    return new_job(
        id=ids[OTHERS + place] if ask.key else ids[ask.id],
        owner=Owner("acme", ask.user),
        job_type=f"type-{ask.request}" if ask.key is None else "count_words",
        idempotency_key=ask.key,
        request_hash=ask.request if ask.key else None,
        priority=ask.priority,
        depends_on=[] if ask.depends_on is None else [ids[ask.depends_on]],
        actor=ask.actor,
    )


@settings(ON_ONE_DATABASE, max_examples=60)
@given(asks=ASKS)
def test_threads_are_answered_as_if_one_by_one(
    pool: Database, tracked: Tracked, threads: ThreadPoolExecutor, asks: list[Ask]
) -> None:
    """Jobs submitted by threads at once are answered, and their rows are, as if they came in the order of creation."""
    seen = []
    order = list(range(len(asks)))
    for together in (True, False):
        empty(pool)
        ids = [uuid4() for _ in range(OTHERS + len(asks))]  # 15 exists, 16 does not
        tracked.submit(id=ids[15])
        revocations.revoke(tracked.connection, [ids[REVOKED]], actor="flower", reason="revoked")
        new = [made(asks, place, ids) for place in order]
        commits = GroupCommit(pool, UNLIMITED)
        answers = all_at_once(threads, commits, new) if together else [answer_of(commits.submit, job) for job in new]
        numbers = {each: number for number, each in enumerate(ids)}
        rows = {numbers[job.id]: (job, [replace(each, id=0) for each in tracked.history(job)]) for job in tracked.all()}
        found = anonymous([sorted(enumerate(answers), key=lambda each: order[each[0]]), sorted(rows.items())], numbers)
        seen.append([[answer for _, answer in found[0]], found[1]])
        check_rows(tracked)
        order = sorted(order, key=lambda place: _made_at(answers[place]))
    at_once, one_by_one = seen
    assert at_once[0] == one_by_one[0]
    assert at_once[1] == one_by_one[1]


def _made_at(answer: Answer) -> tuple[int, float]:
    """What was refused before anything was there; the jobs that were made, in that order; what came because of them."""
    if isinstance(answer, Submitted) and answer.created:
        return 1, answer.job.created_at.timestamp()
    return (0 if answer == UnknownDependency.__name__ else 2), 0.0


@contextmanager
def kept_waiting(pool: Database, threads: ThreadPoolExecutor, commits: GroupCommit) -> Iterator[Future[Submitted]]:
    """The first submit, which leads, and waits in the database for the lock of an organization until the block ends."""
    first = new_job(owner=Owner("slow", "u1"))
    with pool.begin() as connection:
        connection.execute(text(f"SELECT pg_advisory_xact_lock({LINES}, hashtext('slow'))"))
        waiting = threads.submit(commits.submit, first, own_scope(first))
        yield waiting
    assert waiting.result(PATIENCE).created


def beside_a_line(pool: Database, tracked: Tracked) -> GroupCommit:
    """For an organization of which one job is sent and one is in line."""
    limits = Limits(1)
    for _ in range(2):
        jobs.submit(tracked.connection, new_job(), limits)
    return GroupCommit(pool, limits)


def test_those_that_come_meanwhile_share_a_commit(
    pool: Database, tracked: Tracked, threads: ThreadPoolExecutor
) -> None:
    """Jobs that are submitted while another submit waits are accepted in one transaction, without waiting for it."""
    commits = beside_a_line(pool, tracked)
    new = [new_job() for _ in range(12)]
    with kept_waiting(pool, threads, commits) as first:
        answers = all_at_once(threads, commits, new)
        assert not first.done()
    assert {answer.job.id for answer in answers if isinstance(answer, Submitted)} == {job.id for job in new}
    written = text("SELECT count(DISTINCT xmin::text) FROM jobs WHERE id = ANY(:ids)")
    transactions = tracked.connection.execute(written, {"ids": [job.id for job in new]}).scalar_one()
    assert transactions < len(new) / 2
    check_rows(tracked)


def test_what_the_database_refuses_fails_alone(pool: Database, tracked: Tracked, threads: ThreadPoolExecutor) -> None:
    """A row that the database refuses fails its own submit, and those that were to share its commit are accepted."""
    commits = beside_a_line(pool, tracked)
    new = [new_job(priority=10 if number == 3 else 0) for number in range(9)]
    with kept_waiting(pool, threads, commits):
        answers = all_at_once(threads, commits, new)
    assert answers[3] == "IntegrityError"
    assert len([answer for answer in answers if isinstance(answer, Submitted)]) == 8
    check_rows(tracked)


def test_one_that_waits_for_its_key_keeps_nobody_waiting(
    pool: Database, tracked: Tracked, threads: ThreadPoolExecutor
) -> None:
    """A submit whose key another transaction is writing waits for that one, and those beside it do not."""
    keyed = new_job(idempotency_key="k", request_hash="h")
    commits = beside_a_line(pool, tracked)
    with kept_waiting(pool, threads, commits), pool.begin() as connection:
        jobs.submit(connection, keyed, UNLIMITED)
        again = threads.submit(commits.submit, replace(keyed, id=uuid4()), own_scope(keyed))
        answers = all_at_once(threads, commits, [new_job() for _ in range(9)])
        assert all(isinstance(answer, Submitted) and answer.created for answer in answers)
        assert not again.done()
    assert (again.result(PATIENCE).job.id, again.result().created) == (keyed.id, False)


def test_no_more_are_sent_than_the_limit_lets_through(
    pool: Database, tracked: Tracked, threads: ThreadPoolExecutor
) -> None:
    """Of the jobs that threads submit at once, as many pass by the line as have room."""
    limits = Limits(3)
    commits = GroupCommit(pool, limits)
    answers = all_at_once(threads, commits, [new_job(owner=Owner(f"o{n % 2}", "u1")) for n in range(16)])
    assert all(isinstance(answer, Submitted) for answer in answers)
    sent = [job.organization_id for job in tracked.all() if job.hold is None]
    assert sorted(sent) == ["o0"] * 3 + ["o1"] * 3
    assert {job.hold for job in tracked.all()} == {None, Hold.ORGANIZATION_LIMIT}


def test_an_outage_is_everybodys(threads: ThreadPoolExecutor, pool: Database) -> None:
    """Without a database every thread is told so, soon."""
    away = Database(str(pool.engine.url.set(host="127.0.0.1", port=1, query={})), configured())
    commits = GroupCommit(away, UNLIMITED)
    began = time.monotonic()
    found = [threads.submit(commits.submit, job, own_scope(job)) for job in (new_job() for _ in range(12))]
    errors = [future.exception(PATIENCE) for future in found]
    assert {error and outage(error) for error in errors} == {Outage.AWAY}
    assert time.monotonic() - began < 5
    away.close()


@pytest.mark.parametrize(("name", "most"), [("MOST", 2), ("MOST_CHARACTERS", 1)])
def test_what_shares_a_commit_is_bounded(
    pool: Database, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, name: str, most: int
) -> None:
    """No more jobs, and no more of their text, share a commit than the module says; the others come next."""
    monkeypatch.setattr(group_commit, name, most)
    empty(pool)
    commits = GroupCommit(pool, UNLIMITED)
    new = [new_job() for _ in range(12)]
    assert all(isinstance(answer, Submitted) for answer in all_at_once(threads, commits, new))
    with pool.autocommit() as connection:
        shared = connection.execute(text("SELECT count(*) FROM jobs GROUP BY xmin::text")).scalars()
        assert max(shared) <= 2


def test_a_row_knows_its_size() -> None:
    """The size of a row counts its payload, which may be most of it."""
    small, large = (NewRow.of(new_job(payload={"text": "x" * length})).size for length in (1, 10_001))
    assert large - small == 10_000
