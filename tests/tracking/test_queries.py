"""The reads: who sees what, in which order, and that pages put together are the set while others insert."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, event, func, select, text

from tests.properties import ON_ONE_DATABASE
from tests.tracked import ACME, HOUR, SITUATIONS, Tracked, empty, wish
from tracking import jobs
from tracking.db import Database
from tracking.errors import InvalidValue, JobNotFound
from tracking.models import Filters, JobRecord, Outcome, Owner, Page, Progress, Scope
from tracking.reads import lists
from tracking.schema import jobs as table
from tracking.states import ACTIVE, FINISHED, Event, Status

MINUTE = timedelta(minutes=1)
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
OTHERS = [Scope("globex", None), Scope("globex", "u1"), Scope("acme", "u2")]


def _created_at(tracked: Tracked, job: JobRecord, at: datetime) -> JobRecord:
    tracked.connection.execute(table.update().where(table.c.id == job.id).values(created_at=at))
    return tracked.get(job.id)


def _ids(found: Sequence[JobRecord]) -> list[UUID]:
    return [job.id for job in found]


def _search(tracked: Tracked, words: str) -> set[UUID]:
    return set(_ids(lists.page(tracked.connection, ACME, Filters(search=words), number=1, size=100).jobs))


# one job


def test_a_job_is_found_by_its_id_within_the_scope(tracked: Tracked) -> None:
    """Of the user, and of the whole organization."""
    job = tracked.submit()
    for scope in (Scope("acme", None), Scope("acme", "u1")):
        assert lists.get(tracked.connection, job.id, scope) == job


@pytest.mark.parametrize("scope", OTHERS)
def test_a_job_outside_of_the_scope_does_not_exist(tracked: Tracked, scope: Scope) -> None:
    """Exactly as one that was never made."""
    for unreachable in (tracked.submit().id, uuid4()):
        with pytest.raises(JobNotFound, match=r"^There is no such job\.$"):
            lists.get(tracked.connection, unreachable, scope)


def test_the_platform_finds_a_job_whatever_its_owner(tracked: Tracked) -> None:
    """None when there is none."""
    job = tracked.submit(owner=Owner("globex", "u7"))
    assert lists.find(tracked.connection, job.id) == job
    assert lists.find(tracked.connection, uuid4()) is None


READS: dict[str, Callable[[Tracked, Scope], Sequence[JobRecord]]] = {
    "page": lambda tracked, scope: lists.page(tracked.connection, scope, number=1, size=100).jobs,
    "after": lambda tracked, scope: lists.after(tracked.connection, scope, cursor=None, size=100).jobs,
    "recent": lambda tracked, scope: lists.recent(tracked.connection, scope, limit=100),
    "finished": lambda tracked, scope: lists.finished(tracked.connection, scope, cursor=None, size=100).jobs,
}


@pytest.mark.parametrize("name", READS)
def test_a_list_holds_the_jobs_of_its_scope_only(tracked: Tracked, name: str) -> None:
    """Of one user, or of one organization."""
    owners = [Owner(organization, user) for organization in ("acme", "globex") for user in ("u1", "u2")]
    of = {owner: tracked.run(owner=owner).id for owner in owners}
    for organization in ("acme", "globex"):
        everybody = {job_id for owner, job_id in of.items() if owner.organization_id == organization}
        assert set(_ids(READS[name](tracked, Scope(organization, None)))) == everybody
        assert _ids(READS[name](tracked, Scope(organization, "u2"))) == [of[Owner(organization, "u2")]]


# pages


def test_a_page_is_newest_first_with_the_total(tracked: Tracked) -> None:
    """Of all matching jobs, whatever the page."""
    made = [tracked.submit() for _ in range(5)][::-1]
    pages = [lists.page(tracked.connection, ACME, number=number, size=2) for number in (1, 2, 3, 4)]
    assert [list(page.jobs) for page in pages] == [made[:2], made[2:4], made[4:], []]
    assert {page.total for page in pages} == {5}


def test_a_page_hands_over_to_the_deep_reading(tracked: Tracked) -> None:
    """Its cursor is where the next page begins; the last page has none."""
    made = [tracked.submit() for _ in range(4)][::-1]
    first = lists.page(tracked.connection, ACME, number=1, size=2)
    rest = lists.after(tracked.connection, ACME, cursor=first.next_cursor, size=2)
    assert (list(rest.jobs), rest.total, rest.next_cursor) == (made[2:], None, None)


FILTERED: list[tuple[Filters, dict[str, Any], dict[str, Any]]] = [
    (Filters(job_type="sync"), {"job_type": "sync"}, {"job_type": "cleanup"}),
    (Filters(project_id="p1"), {"project_id": "p1"}, {"project_id": None}),
    (Filters(user_id="u1"), {"owner": Owner("acme", "u1")}, {"owner": Owner("acme", "u2")}),
    (Filters(search="SYNC"), {"job_type": "resync_all"}, {"job_type": "cleanup"}),
    (Filters(search="quarter"), {"message": "First Quarter"}, {"message": None}),
]


@pytest.mark.parametrize(("filters", "matching", "other"), FILTERED)
def test_a_filter_keeps_what_matches(
    tracked: Tracked, filters: Filters, matching: dict[str, Any], other: dict[str, Any]
) -> None:
    """And leaves out the rest, on pages by number and by cursor; the total counts what matches."""
    wanted, _unwanted = tracked.submit(**matching), tracked.submit(**other)
    page = lists.page(tracked.connection, ACME, filters, number=1, size=10)
    assert (_ids(page.jobs), page.total) == ([wanted.id], 1)
    assert _ids(lists.after(tracked.connection, ACME, filters, cursor=None, size=10).jobs) == [wanted.id]


@given(wanted=st.sets(st.sampled_from(Status)))
@ON_ONE_DATABASE
def test_a_filter_of_statuses_keeps_any_of_them(tracked: Tracked, wanted: set[Status]) -> None:
    """None at all keeps every one."""
    if not tracked.all():
        for situation in SITUATIONS:
            tracked.put_into(situation)
    expected = {job.id for job in tracked.all() if not wanted or job.status in wanted}
    filters = Filters(statuses=tuple(wanted))
    assert set(_ids(lists.page(tracked.connection, ACME, filters, number=1, size=100).jobs)) == expected


def test_a_period_includes_its_beginning_and_not_its_end(tracked: Tracked) -> None:
    """So that two neighbouring periods share no job."""
    times = [NOON - MINUTE, NOON, NOON + MINUTE]
    before, at, after = (_created_at(tracked, tracked.submit(), time) for time in times)
    found = {
        name: _ids(lists.page(tracked.connection, ACME, filters, number=1, size=10).jobs)
        for name, filters in {
            "from": Filters(created_from=NOON),
            "to": Filters(created_to=NOON),
            "both": Filters(created_from=NOON, created_to=NOON + MINUTE),
        }.items()
    }
    assert found == {"from": [after.id, at.id], "to": [before.id], "both": [at.id]}


def test_a_search_looks_into_messages_errors_and_ids(tracked: Tracked) -> None:
    """Whatever the case of its letters; a part of the word is enough."""
    job = tracked.fail(tracked.start(tracked.submit(message="First Quarter")))
    tracked.submit()
    for words in ("RST QUA", "wRoNg", str(job.id)[9:23].upper()):
        assert _search(tracked, words) == {job.id}


@pytest.mark.parametrize("words", ["%", "_", "\\", "/", "100%", "a_b", "\\%", "/_", "''", '"', ";--", "%%"])
def test_a_search_takes_every_character_as_it_is(tracked: Tracked, words: str) -> None:
    """No character stands for others."""
    job = tracked.submit(message=f"before {words} after", job_type="sync")
    tracked.submit(message="before 100 or aXb after", job_type="sync")
    assert _search(tracked, words) == {job.id}


@given(words=st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=6))
@ON_ONE_DATABASE
def test_a_search_finds_what_contains_the_words(tracked: Tracked, words: str) -> None:
    """Any words, in any script."""
    job = tracked.submit(message=f"<{words}>")
    assert job.id in _search(tracked, words)


# deep reading


def _read_all(read: Callable[[str | None], Page], between: Callable[[], object]) -> list[JobRecord]:
    """All pages put together; `between` happens after each."""
    found: list[JobRecord] = []
    cursor: str | None = None
    for _ in range(100):
        page = read(cursor)
        found += page.jobs
        cursor = page.next_cursor
        if cursor is None:
            return found
        between()
    raise AssertionError("the pages do not end")


@given(ages=st.lists(st.integers(0, 3), min_size=1, max_size=12), size=st.integers(1, 5))
@ON_ONE_DATABASE
def test_pages_put_together_are_the_set_while_others_insert(
    pool: Database, tracked: Tracked, ages: list[int], size: int
) -> None:
    """Without gap or repeat, newest first, also when many jobs were created at the same instant."""
    empty(pool)
    made = [_created_at(tracked, tracked.submit(), NOON - age * MINUTE) for age in ages]
    found = _read_all(
        lambda cursor: lists.after(tracked.connection, ACME, cursor=cursor, size=size), between=tracked.submit
    )
    assert found == sorted(made, key=lambda job: (job.created_at, job.id), reverse=True)


@given(ages=st.lists(st.integers(0, 3), min_size=1, max_size=12), size=st.integers(1, 5))
@ON_ONE_DATABASE
def test_the_history_is_the_set_while_others_finish(
    pool: Database, tracked: Tracked, ages: list[int], size: int
) -> None:
    """Last finished first, page by page."""
    empty(pool)
    done = [tracked.run() for _ in ages]
    for job, age in zip(done, ages, strict=True):
        values = {"created_at": NOON - HOUR, "started_at": NOON - HOUR, "completed_at": NOON - age * MINUTE}
        tracked.connection.execute(table.update().where(table.c.id == job.id).values(values))
    found = _read_all(
        lambda cursor: lists.finished(tracked.connection, ACME, cursor=cursor, size=size), between=tracked.run
    )
    done = [tracked.get(job.id) for job in done]
    assert found == sorted(done, key=lambda job: (job.completed_at, job.id), reverse=True)


def test_the_history_holds_finished_jobs_only(tracked: Tracked) -> None:
    """In every way that a job can end."""
    made = [tracked.put_into(situation) for situation in SITUATIONS]
    found = lists.finished(tracked.connection, ACME, cursor=None, size=100).jobs
    assert set(_ids(found)) == {job.id for job in made if job.status in FINISHED}


def test_the_history_can_be_narrowed_to_a_period(tracked: Tracked) -> None:
    """By the time of the end."""
    old, new = tracked.finished_ago(tracked.run(), 2 * HOUR), tracked.run()
    hour_ago = datetime.now(UTC) - HOUR
    for filters, expected in ((Filters(completed_from=hour_ago), new), (Filters(completed_to=hour_ago), old)):
        assert _ids(lists.finished(tracked.connection, ACME, filters, cursor=None, size=10).jobs) == [expected.id]


@pytest.mark.parametrize("read", [lists.after, lists.finished])
@given(cursor=st.text(max_size=40) | st.from_regex(lists.CURSOR) | st.from_regex(lists.CURSOR, fullmatch=True))
@example(cursor=f"{'9' * 17}-{UUID(int=0)}")
@example(cursor=f"{'9' * 18}-{UUID(int=0)}")
@example(cursor=f"0-{UUID(int=0)}\n")
@example(cursor=f"\u0661-{UUID(int=0)}")
@settings(ON_ONE_DATABASE, max_examples=100)
def test_a_forged_cursor_is_refused_or_read_from(tracked: Tracked, read: Any, cursor: str) -> None:
    """Never an error of another kind."""
    try:
        page = read(tracked.connection, ACME, cursor=cursor, size=5)
    except InvalidValue:
        return
    assert page == Page([], None, None)


# recent


def test_recent_jobs_are_the_active_ones_and_those_of_the_last_hour(tracked: Tracked) -> None:
    """Active ones however old, finished ones while they are young."""
    waiting = _created_at(tracked, tracked.submit(), NOON - timedelta(days=30))
    young, _old = tracked.finished_ago(tracked.run(), 59 * MINUTE), tracked.finished_ago(tracked.run(), 61 * MINUTE)
    assert _ids(lists.recent(tracked.connection, ACME, limit=10)) == [waiting.id, young.id]


def _recent_order(job: JobRecord) -> tuple[Any, ...]:
    if job.completed_at is None:
        return (0, -job.priority, job.created_at.timestamp(), str(job.id))
    return (1, -job.priority, -job.completed_at.timestamp(), str(job.id))


@given(
    wanted=st.lists(st.tuples(st.sampled_from(SITUATIONS), st.integers(0, 2)), min_size=1, max_size=10),
    limit=st.integers(1, 12),
)
@ON_ONE_DATABASE
def test_recent_jobs_are_in_the_order_of_the_contract(
    pool: Database, tracked: Tracked, wanted: list[tuple[str, int]], limit: int
) -> None:
    """Active first, then more urgent first, then oldest first (active) or newest first (finished), up to the limit."""
    empty(pool)
    for situation, priority in wanted:
        job = tracked.put_into(situation)
        tracked.connection.execute(table.update().where(table.c.id == job.id).values(priority=priority))
    expected = sorted(tracked.all(), key=_recent_order)[:limit]
    assert lists.recent(tracked.connection, ACME, limit=limit) == expected


@pytest.mark.parametrize("status", Status)
def test_recent_jobs_can_be_narrowed_to_a_status(tracked: Tracked, status: Status) -> None:
    """Active or finished."""
    made = [tracked.put_into(situation) for situation in SITUATIONS]
    found = lists.recent(tracked.connection, ACME, limit=100, status=status)
    assert set(_ids(found)) == {job.id for job in made if job.status is status}


def test_recent_jobs_can_be_narrowed_to_a_type_and_a_project(tracked: Tracked) -> None:
    """Both at once."""
    wanted = tracked.submit(job_type="sync", project_id="p1")
    tracked.submit(job_type="sync")
    tracked.submit(project_id="p1")
    assert _ids(lists.recent(tracked.connection, ACME, limit=9, job_type="sync", project_id="p1")) == [wanted.id]


def test_a_job_that_ends_while_recent_reads_is_listed_once(pool: Database, tracked: Tracked) -> None:
    """It was active when the active ones were read, and is finished when the finished ones are."""
    running = tracked.start(tracked.submit())

    def finish(connection: Connection, *_: Any) -> None:
        if connection is tracked.connection:
            with pool.autocommit() as another:
                jobs.settle(another, [Outcome(running.fence, "succeeded", "worker-1")])

    event.listen(pool.engine, "after_cursor_execute", finish)
    try:
        assert _ids(lists.recent(tracked.connection, ACME, limit=10)) == [running.id]
    finally:
        event.remove(pool.engine, "after_cursor_execute", finish)
    assert tracked.get(running.id).status is Status.SUCCEEDED


# stats


@given(
    wanted=st.lists(
        st.tuples(st.sampled_from(SITUATIONS), st.sampled_from(["p1", "p2"]), st.sampled_from([0, 59, 61])), max_size=10
    ),
    project=st.sampled_from([None, "p1"]),
    window=st.sampled_from([MINUTE, HOUR, 2 * HOUR]),
)
@ON_ONE_DATABASE
def test_stats_equal_a_count_of_the_rows(
    pool: Database, tracked: Tracked, wanted: list[tuple[str, str, int]], project: str | None, window: timedelta
) -> None:
    """Active ones all, finished ones of the window, for the organization or one project of it."""
    empty(pool)
    for situation, of_project, age in wanted:
        job = tracked.put_into(situation)
        tracked.connection.execute(table.update().where(table.c.id == job.id).values(project_id=of_project))
        if job.status in FINISHED:
            tracked.finished_ago(job, age * MINUTE)
    tracked.submit(owner=Owner("globex", "u1"), project_id=project)  # the last, as organizations take turns
    now = tracked.connection.execute(select(func.now())).scalar_one()
    counted = Counter(
        str(job.status)
        for job in tracked.all()
        if job.organization_id == "acme"
        and project in (None, job.project_id)
        and (job.completed_at is None or job.completed_at > now - window)
    )
    stats = lists.stats(tracked.connection, ACME, window=window, project_id=project)
    assert counted == Counter(
        queued=stats.total_active - stats.running - stats.retrying,
        running=stats.running,
        retrying=stats.retrying,
        succeeded=stats.completed,
        failed=stats.failed,
        cancelled=stats.cancelled,
    )
    assert stats.total_active == sum(counted[status] for status in ACTIVE)


def test_stats_equal_a_group_by_of_the_database(tracked: Tracked) -> None:
    """Counted by PostgreSQL itself."""
    for number, situation in enumerate(SITUATIONS):
        for _ in range(number + 1):
            tracked.put_into(situation)
    rows = tracked.connection.execute(text("SELECT status, count(*) AS number FROM jobs GROUP BY status"))
    grouped = {row.status: row.number for row in rows}
    stats = lists.stats(tracked.connection, ACME)
    queued = stats.pending + stats.scheduled
    assert (queued, stats.running, stats.retrying) == tuple(grouped[status] for status in ACTIVE)
    assert stats.total == sum(grouped.values())
    assert (stats.completed, stats.failed, stats.cancelled) == tuple(grouped[status] for status in FINISHED)


def test_stats_count_what_is_held(tracked: Tracked) -> None:
    """Scheduled jobs and those that back off."""
    for situation in SITUATIONS:
        tracked.put_into(situation)
    assert lists.stats(tracked.connection, ACME).held == 2


def test_stats_of_nothing_are_zero(tracked: Tracked) -> None:
    """Without an age or a duration."""
    stats = lists.stats(tracked.connection, ACME)
    assert (stats.total_active, stats.completed, stats.failed, stats.cancelled, stats.held) == (0, 0, 0, 0, 0)
    assert (stats.oldest_pending_age, stats.average_duration) == (None, None)


def test_stats_tell_how_long_the_oldest_waits(tracked: Tracked) -> None:
    """By the database's clock."""
    tracked.submit()
    _created_at(tracked, tracked.submit(), datetime.now(UTC) - 5 * HOUR)
    _created_at(tracked, tracked.start(tracked.submit()), datetime.now(UTC) - 9 * HOUR)
    age = lists.stats(tracked.connection, ACME).oldest_pending_age
    assert age is not None
    assert abs(age - 5 * HOUR) < MINUTE


@pytest.mark.parametrize(
    ("hold", "due", "counted"),
    [
        (None, None, "pending"),
        ("organization_limit", None, "pending"),
        ("schedule", -MINUTE, "pending"),
        ("schedule", 365 * 24 * HOUR, "scheduled"),
        ("dependency", HOUR, "scheduled"),
        ("paused", HOUR, "scheduled"),
        ("dependency", None, None),
        ("paused", None, None),
        ("circuit", None, None),
    ],
)
def test_stats_tell_what_could_run_now_from_what_is_due_later_and_what_is_held_up(
    tracked: Tracked, hold: str | None, due: timedelta | None, counted: str | None
) -> None:
    """A job for next year, or behind another one, alarms nobody; all count as active."""
    job = tracked.submit()
    values = {"hold": hold, "due_at": None if due is None else datetime.now(UTC) + due, "dispatched_at": None}
    tracked.connection.execute(table.update().where(table.c.id == job.id).values(values))
    stats = lists.stats(tracked.connection, ACME)
    assert (stats.pending, stats.scheduled) == (int(counted == "pending"), int(counted == "scheduled"))
    assert (stats.oldest_pending_age is not None) is (counted == "pending")
    assert (stats.total_active, stats.total) == (1, 1)


def test_a_job_waits_since_it_was_due(tracked: Tracked) -> None:
    """Not since it was created, a month before."""
    job = tracked.submit()
    _created_at(tracked, job, datetime.now(UTC) - 30 * 24 * HOUR)
    due = datetime.now(UTC) - MINUTE
    tracked.connection.execute(table.update().where(table.c.id == job.id).values(scheduled_at=due))
    age = lists.stats(tracked.connection, ACME).oldest_pending_age
    assert age is not None
    assert age < HOUR


def test_stats_average_the_durations_of_successes(tracked: Tracked) -> None:
    """Failures are often quick, and would flatter it."""
    for kind, minutes in (("succeeded", 10), ("succeeded", 20), ("failed", 0)):
        job = tracked.run(kind)  # type: ignore[arg-type]
        began = table.c.completed_at - minutes * MINUTE
        values = {"created_at": began, "started_at": began}
        tracked.connection.execute(table.update().where(table.c.id == job.id).values(values))
    assert lists.stats(tracked.connection, ACME).average_duration == 15 * MINUTE


@pytest.mark.parametrize("scope", OTHERS)
def test_stats_count_the_scope_only(tracked: Tracked, scope: Scope) -> None:
    """Nothing of it for others."""
    tracked.run()
    tracked.submit()
    stats = lists.stats(tracked.connection, scope)
    assert (stats.total_active, stats.completed, stats.oldest_pending_age) == (0, 0, None)


# timeline and attempts


def test_a_timeline_is_the_history_oldest_first(tracked: Tracked) -> None:
    """Of one job only."""
    tracked.run()
    job = tracked.run("failed")
    entries = lists.timeline(tracked.connection, job.id)
    assert [entry.event for entry in entries] == [Event.CREATED, Event.STARTED, Event.FAILED]
    assert {entry.job_id for entry in entries} == {job.id}


def test_attempts_are_put_together_from_the_history(tracked: Tracked) -> None:
    """Each with its worker, its times, and how it ended."""
    job = tracked.back_off(tracked.start(tracked.submit(), worker="worker-7"))
    job = tracked.end(tracked.start(tracked.release(job), worker="worker-8"), "lost")
    job = tracked.cancel(tracked.start(job, worker="worker-9"))
    first, second, third = lists.attempts(tracked.history(job))
    assert [(attempt.attempt, attempt.worker) for attempt in (first, second, third)] == [
        (1, "worker-7"),
        (2, "worker-8"),
        (3, "worker-9"),
    ]
    assert [attempt.outcome for attempt in (first, second, third)] == [Event.FAILED, Event.RELEASED, Event.CANCELLED]
    assert (first.error_type, first.error_message) == ("ConnectionError", "away")
    assert all(attempt.completed_at and attempt.completed_at >= attempt.started_at for attempt in (first, second))


def test_an_attempt_that_runs_has_no_outcome_yet(tracked: Tracked) -> None:
    """Whatever it has reported, whoever was refused meanwhile."""
    job = tracked.start(tracked.submit())
    jobs.report(tracked.connection, Progress(job.fence, 1, percent=50))
    jobs.claim(tracked.connection, [wish(job.fence)])
    [attempt] = lists.attempts(tracked.history(job))
    assert (attempt.attempt, attempt.outcome, attempt.completed_at) == (1, None, None)


def test_a_long_timeline_shows_its_end(tracked: Tracked) -> None:
    """The last thousand reports, in their order."""
    job = _talkative_job(tracked)
    reports = [entry for entry in lists.timeline(tracked.connection, job.id) if entry.event is Event.PROGRESS]
    assert len(reports) == lists.TIMELINE_LIMIT
    assert [entry.detail["current"] for entry in reports] == list(range(1, lists.TIMELINE_LIMIT + 1))


def test_a_job_that_reports_a_lot_keeps_its_attempts(tracked: Tracked) -> None:
    """Five minutes of four reports a second do not push the start of the attempt out of sight."""
    job = _talkative_job(tracked)
    assert [attempt.attempt for attempt in lists.attempts(tracked.history(job))] == [1]


def _talkative_job(tracked: Tracked) -> JobRecord:
    job = tracked.start(tracked.submit())
    for number in range(lists.TIMELINE_LIMIT + 1):
        jobs.report(tracked.connection, Progress(job.fence, 1, current_step=number))
    return job
