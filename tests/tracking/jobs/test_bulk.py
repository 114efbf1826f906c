"""Many jobs submitted at once: as if one after the other, each judged by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from tests.anonymous import anonymous
from tests.counting import statements_of
from tests.properties import JSON, ON_ONE_DATABASE, TEXTS
from tests.tracked import HOUR, Tracked, check_rows, empty, new_job, submit_all
from tracking import jobs, revocations
from tracking.admission import line, pauses
from tracking.admission.rule import UNLIMITED, Limits
from tracking.db import Database, DBAPIError
from tracking.errors import IdempotencyConflict, InvalidValue, TrackingError, UnknownDependency
from tracking.jobs import bulk
from tracking.models import NewJob, Owner, Scope, Submitted
from tracking.states import Hold, Status

CIRCUIT = """INSERT INTO circuits (job_type, organization_id, key, failures, pause, probe_at)
             VALUES ('broken', 'acme', '', 5, '1 hour', clock_timestamp() + interval '1 hour')"""


def submitted(answers: Sequence[Submitted | TrackingError]) -> list[Submitted]:
    """The answers, none of which is a refusal."""
    found = [answer for answer in answers if isinstance(answer, Submitted)]
    assert len(found) == len(answers), answers
    return found


@dataclass(frozen=True)
class Ask:
    """One of the jobs to submit: with whose id, key, and dependencies."""

    id: int
    user: str
    job_type: str
    key: str | None
    request: str
    depends_on: tuple[int, ...]
    held: bool
    actor: str | None
    payload: Any


ASKS = st.lists(
    st.builds(
        Ask,
        id=st.integers(0, 9),
        user=st.sampled_from(["u1", "u1", "u2"]),
        job_type=st.sampled_from(["count_words", "count_words", "paused", "broken"]),
        key=st.sampled_from([None, None, "a", "b"]),
        request=st.sampled_from("xy"),
        depends_on=st.lists(st.integers(0, 9), max_size=2, unique=True).map(tuple),
        held=st.booleans(),
        actor=st.sampled_from([None, None, "admin"]),
        payload=st.dictionaries(TEXTS, JSON, max_size=2),
    ),
    min_size=1,
    max_size=8,
)


def made(asks: Sequence[Ask], ids: Sequence[UUID]) -> list[NewJob]:
    """The jobs to submit, with these ids."""
    return [
        new_job(
            id=ids[ask.id],
            owner=Owner("acme", ask.user),
            job_type=ask.job_type,
            idempotency_key=ask.key,
            request_hash=ask.request if ask.key else None,
            depends_on=[ids[each] for each in ask.depends_on],
            delay=HOUR if ask.held else None,
            actor=ask.actor,
            payload=ask.payload,
        )
        for ask in asks
    ]


@settings(ON_ONE_DATABASE, max_examples=60)
@given(before=st.lists(st.integers(0, 9), max_size=3, unique=True), asks=ASKS)
def test_a_bulk_submit_is_the_same_as_its_parts(
    pool: Database, tracked: Tracked, before: list[int], asks: list[Ask]
) -> None:
    """Jobs submitted at once and one by one leave the same rows and history and get the same answers."""
    seen = []
    for together in (False, True):
        empty(pool)
        pauses.pause(tracked.connection, organization_id=None, job_type="paused", actor="admin", reason=None)
        tracked.connection.execute(text(CIRCUIT))
        ids = [uuid4() for _ in range(10)]
        numbers = {each: number for number, each in enumerate(ids)}
        for number in before:
            tracked.submit(id=ids[number])
        new = made(asks, ids)
        parts = [new] if together else [[job] for job in new]
        answers = [each for part in parts for each in (_all if together else _one)(tracked, part)]
        rows = {numbers[job.id]: (job, [replace(each, id=0) for each in tracked.history(job)]) for job in tracked.all()}
        seen.append(anonymous([answers, sorted(rows.items())], numbers))
        check_rows(tracked)
    one_by_one, at_once = seen
    assert at_once == one_by_one


def whose_own(job: NewJob) -> Scope:
    """The jobs of a job's owner."""
    return Scope(job.owner.organization_id, job.owner.user_id)


def _all(tracked: Tracked, new: Sequence[NewJob]) -> list[Any]:
    answers = jobs.submit_all(tracked.connection, new, UNLIMITED, scope=whose_own)
    return [answer if isinstance(answer, Submitted) else type(answer).__name__ for answer in answers]


def _one(tracked: Tracked, new: Sequence[NewJob]) -> list[Any]:
    try:
        return [jobs.submit(tracked.connection, new[0], UNLIMITED)]
    except TrackingError as refused:
        return [type(refused).__name__]


def test_the_answers_are_the_rows(tracked: Tracked) -> None:
    """A job that was submitted with others is answered with what its row says, whatever was said of it."""
    due = datetime(2999, 1, 1, tzinfo=UTC)
    wanted = [
        new_job(),
        new_job(payload={"a": [1, "\\", '"']}, metadata={"b": None}, delivery={"args": ["{}"]}, message='say "NULL"'),
        new_job(project_id="p", priority=9, max_retries=0, queue="other", circuit_key="host", scheduled_at=due),
        new_job(parent_id=uuid4(), root_id=uuid4(), group_id="g", group_index=3, delay=timedelta(seconds=1.5)),
        new_job(idempotency_key="k", request_hash="h", owner=Owner("globex", "u,7")),
    ]
    answers = submitted(submit_all(tracked.connection, wanted, UNLIMITED))
    assert [answer.job for answer in answers] == [tracked.get(job.id) for job in wanted]
    assert all(answer.created for answer in answers)


def test_thousands_are_answered_in_their_order(tracked: Tracked) -> None:
    """More jobs than a statement takes are accepted in the order of the call."""
    wanted = [new_job() for _ in range(2 * bulk.BATCH + 1)]
    answers = submitted(submit_all(tracked.connection, wanted, UNLIMITED))
    assert [answer.job.id for answer in answers] == [job.id for job in wanted]
    times = [answer.job.created_at for answer in answers]
    assert times == sorted(times)


def test_one_of_thousands_that_is_wrong_fails_alone(tracked: Tracked) -> None:
    """Whichever statement has it, a refused job is answered in its place, with or without dependencies."""
    taken, before = tracked.submit(owner=Owner("globex", "u1")), tracked.submit()
    for depends_on in ([], [before.id]):
        wanted = [new_job(depends_on=depends_on) for _ in range(2 * bulk.BATCH + 1)]
        wrong = {0: IdempotencyConflict, bulk.BATCH + 1: UnknownDependency, 2 * bulk.BATCH: IdempotencyConflict}
        for place, refused in wrong.items():
            its = {"id": taken.id} if refused is IdempotencyConflict else {"depends_on": [uuid4()]}
            wanted[place] = replace(wanted[place], **its)
        answers = submit_all(tracked.connection, wanted, UNLIMITED)
        assert {place: type(answer) for place, answer in enumerate(answers) if type(answer) is not Submitted} == wrong
        made = [answer.job.id for answer in answers if isinstance(answer, Submitted)]
        assert made == [job.id for place, job in enumerate(wanted) if place not in wrong]
        assert set(made) <= {job.id for job in tracked.all()}


def test_one_that_is_wrong_fails_alone(tracked: Tracked) -> None:
    """A refused job of a bulk submit is answered with the reason, and the others are accepted."""
    taken, own = tracked.submit(owner=Owner("globex", "u1")), uuid4()
    wanted = [
        new_job(),
        new_job(id=taken.id),
        new_job(depends_on=[uuid4()]),
        new_job(id=own, depends_on=[own]),
        new_job(depends_on=[taken.id]),
        new_job(),
    ]
    answers = submit_all(tracked.connection, wanted, UNLIMITED)
    kinds = [Submitted, IdempotencyConflict, UnknownDependency, InvalidValue, UnknownDependency, Submitted]
    assert [type(answer) for answer in answers] == kinds
    assert {job.id for job in tracked.all()} == {taken.id, wanted[0].id, wanted[5].id}


def test_a_value_that_the_database_refuses_fails_all(tracked: Tracked) -> None:
    """A row that PostgreSQL does not take leaves the whole statement unwritten."""
    with pytest.raises(DBAPIError):
        submit_all(tracked.connection, [new_job(), new_job(priority=10)], UNLIMITED)
    assert tracked.all() == []


def test_the_same_bulk_submit_again_writes_nothing(tracked: Tracked) -> None:
    """A repeated bulk submit is answered with the jobs of the first one."""
    wanted = [new_job(idempotency_key=f"key-{number}", request_hash="h") for number in range(20)]
    first = submitted(submit_all(tracked.connection, wanted, UNLIMITED))
    again = submitted(submit_all(tracked.connection, [replace(job, id=uuid4()) for job in wanted], UNLIMITED))
    assert [(answer.job, answer.created) for answer in again] == [(answer.job, False) for answer in first]


def test_a_repeated_bulk_submit_takes_as_many_statements_as_the_first(pool: Database, tracked: Tracked) -> None:
    """Whoever repeats a request for a thousand jobs, by their keys or by their ids, asks the database twice."""
    keyed = [new_job(idempotency_key=f"k{number}", request_hash="same") for number in range(500)]
    new = [*keyed, *(new_job() for _ in range(500))]
    submit_all(tracked.connection, new, UNLIMITED)
    again = [replace(job, id=uuid4()) for job in keyed] + new[500:]
    with pool.begin() as connection, statements_of(connection) as sent:
        answers = submitted(submit_all(connection, again, UNLIMITED))
    assert len(sent) == 2
    assert [(answer.created, answer.job.id) for answer in answers] == [(False, job.id) for job in new]


def test_a_job_may_depend_on_one_that_is_submitted_with_it(tracked: Tracked) -> None:
    """A chain of dependencies in one bulk submit is accepted in its order."""
    first, second, third = (new_job() for _ in range(3))
    chained = [first, replace(second, depends_on=[first.id]), replace(third, depends_on=[second.id, first.id])]
    answers = submitted(submit_all(tracked.connection, chained, UNLIMITED))
    assert [answer.job.hold for answer in answers] == [None, Hold.DEPENDENCY, Hold.DEPENDENCY]
    backwards = [replace(job, id=uuid4()) for job in chained]
    early = replace(backwards[0], depends_on=[backwards[1].id])
    assert isinstance(submit_all(tracked.connection, [early, backwards[1]], UNLIMITED)[0], UnknownDependency)


def test_what_needs_a_slot_goes_into_the_line(pool: Database, tracked: Tracked) -> None:
    """Jobs of an organization with a limit are in its line after a bulk submit, the first look lets so many through."""
    limits = Limits(2)
    wanted = [new_job(priority=number % 3) for number in range(7)]
    with pool.begin() as connection:
        answers = submitted(submit_all(connection, wanted, limits))
    assert {answer.job.hold for answer in answers} == {Hold.ORGANIZATION_LIMIT}
    with pool.begin() as connection:
        assert [job.priority for job in line.admit(connection, "acme", limits, 100)] == [2, 2]
    check_rows(tracked)


def test_the_scope_of_a_caller_holds_for_every_job(tracked: Tracked) -> None:
    """What a job of a bulk submit may depend on is what its caller sees, or its owner's own jobs."""
    colleagues = tracked.submit(owner=Owner("acme", "u2"))
    wanted = [new_job(depends_on=[colleagues.id])]
    assert isinstance(submit_all(tracked.connection, wanted, UNLIMITED)[0], UnknownDependency)
    assert submitted(submit_all(tracked.connection, wanted, UNLIMITED, user=None))


def test_one_that_was_revoked_before_is_cancelled(tracked: Tracked) -> None:
    """A job that somebody has revoked by its id before the bulk submit does not start."""
    revoked, other = new_job(), new_job()
    revocations.revoke(tracked.connection, [revoked.id], actor="flower", reason="revoked")
    answers = submitted(submit_all(tracked.connection, [revoked, other], UNLIMITED))
    assert [answer.job.status for answer in answers] == [Status.CANCELLED, Status.QUEUED]
