"""The lists: who sees which jobs, in which order, and that pages put together are the set while others insert."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from tests.properties import ON_ONE_DATABASE
from tests.tracked import ACME, HOUR, SITUATIONS, Tracked, empty, ids
from tracking.db import Database
from tracking.errors import InvalidValue
from tracking.models import Failure, JobRecord, Owner
from tracking.reads import lists
from tracking.reads.answers import Filters, Page
from tracking.reads.lists import MOST_COUNTED
from tracking.schema import jobs as table
from tracking.states import FINISHED, Status

MINUTE = timedelta(minutes=1)
MANY = """
    INSERT INTO jobs (id, organization_id, user_id, job_type, status, queue, max_retries, created_at)
    SELECT gen_random_uuid(), 'acme', 'u1', 'noop', 'queued', 'default', 3, now() - n * interval '1 second'
    FROM generate_series(1, :rows) AS n"""
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def _search(tracked: Tracked, words: str) -> set[UUID]:
    return set(ids(lists.page(tracked.connection, ACME, Filters(search=words), number=1, size=100).jobs))


# pages


def test_a_page_is_newest_first_with_the_total(tracked: Tracked) -> None:
    """A page is newest first, with the total of all matching jobs."""
    made = [tracked.submit() for _ in range(5)][::-1]
    pages = [lists.page(tracked.connection, ACME, number=number, size=2) for number in (1, 2, 3, 4)]
    assert [list(page.jobs) for page in pages] == [made[:2], made[2:4], made[4:], []]
    assert {page.total for page in pages} == {5}


def test_a_page_hands_over_to_the_deep_reading(tracked: Tracked) -> None:
    """The cursor of a numbered page is where the next page begins, and the last page has none."""
    made = [tracked.submit() for _ in range(4)][::-1]
    first = lists.page(tracked.connection, ACME, number=1, size=2)
    rest = lists.after(tracked.connection, ACME, cursor=first.next_cursor, size=2)
    assert (list(rest.jobs), rest.total, rest.next_cursor) == (made[2:], None, None)


def test_numbered_pages_end_where_the_count_does_and_the_cursor_goes_on(tracked: Tracked) -> None:
    """Of 10,020 jobs 10,000 are counted and on numbered pages; page after page by cursor, nothing is left out."""
    tracked.connection.execute(text(MANY), {"rows": MOST_COUNTED + 20})
    straddling, behind = (lists.page(tracked.connection, ACME, number=number, size=96) for number in (105, 200))
    assert (straddling.total, straddling.total_is_capped) == (MOST_COUNTED, True)
    assert (len(straddling.jobs), list(behind.jobs)) == (MOST_COUNTED - 104 * 96, [])
    assert behind.next_cursor == straddling.next_cursor
    rest = lists.after(tracked.connection, ACME, cursor=straddling.next_cursor, size=96)
    assert (len(rest.jobs), rest.next_cursor) == (20, None)


def test_a_page_is_looked_for_once_though_the_table_was_thought_empty(database: Database) -> None:
    """A page of jobs that were inserted in one go while the table was analyzed: their ids are not sought for each."""
    with database.autocommit() as connection:
        with database.begin() as inserting:
            inserting.execute(text(MANY), {"rows": MOST_COUNTED})
            connection.execute(text("ANALYZE jobs"))  # sees the pages, and no row in them
        assert len(lists.page(connection, ACME, number=100, size=100).jobs) == 100


def test_a_full_count_is_not_capped(tracked: Tracked) -> None:
    """Of exactly 10,000 jobs the total is exact, and the last page has no cursor."""
    tracked.connection.execute(text(MANY), {"rows": MOST_COUNTED})
    last = lists.page(tracked.connection, ACME, number=100, size=100)
    assert (last.total, last.total_is_capped, len(last.jobs), last.next_cursor) == (MOST_COUNTED, False, 100, None)


FILTERED: list[tuple[Filters, dict[str, Any], dict[str, Any]]] = [
    (Filters(job_type="sync"), {"job_type": "sync"}, {"job_type": "cleanup"}),
    (Filters(job_type="sync", statuses=(Status.QUEUED, Status.FAILED)), {"job_type": "sync"}, {"job_type": "cleanup"}),
    (Filters(search="type:sync status:queued"), {"job_type": "sync"}, {"job_type": "cleanup"}),
    (Filters(project_id="p1"), {"project_id": "p1"}, {"project_id": None}),
    (Filters(user_id="u1"), {"owner": Owner("acme", "u1")}, {"owner": Owner("acme", "u2")}),
    (Filters(search="SYNC"), {"job_type": "resync_all"}, {"job_type": "cleanup"}),
    (Filters(search="message:quarter"), {"message": "First Quarter"}, {"message": None}),
    (Filters(search="type:sync"), {"job_type": "sync"}, {"job_type": "resync"}),
]


@pytest.mark.parametrize(("filters", "matching", "other"), FILTERED)
def test_a_filter_keeps_what_matches(
    tracked: Tracked, filters: Filters, matching: dict[str, Any], other: dict[str, Any]
) -> None:
    """A filter keeps what matches, on pages by number and by cursor, and in the total."""
    wanted, _unwanted = tracked.submit(**matching), tracked.submit(**other)
    page = lists.page(tracked.connection, ACME, filters, number=1, size=10)
    assert (ids(page.jobs), page.total) == ([wanted.id], 1)
    assert ids(lists.after(tracked.connection, ACME, filters, cursor=None, size=10).jobs) == [wanted.id]


def test_known_jobs_are_listed_by_their_ids(tracked: Tracked) -> None:
    """Of the ids that are asked for, those that are not there or not in sight are left out."""
    wanted, _unwanted = [tracked.submit() for _ in range(2)], tracked.submit()
    hidden = tracked.submit(owner=Owner("globex", "u1"))
    asked = Filters(ids=[*ids(wanted), hidden.id, UUID(int=1)])
    assert set(ids(lists.page(tracked.connection, ACME, asked, number=1, size=10).jobs)) == set(ids(wanted))


@given(wanted=st.sets(st.sampled_from(Status)))
@ON_ONE_DATABASE
def test_a_filter_of_statuses_keeps_any_of_them(tracked: Tracked, wanted: set[Status]) -> None:
    """A filter of several statuses keeps any of them, and an empty one every job."""
    if not tracked.all():
        for situation in SITUATIONS:
            tracked.put_into(situation)
    expected = {job.id for job in tracked.all() if not wanted or job.status in wanted}
    filters = Filters(statuses=tuple(wanted))
    assert set(ids(lists.page(tracked.connection, ACME, filters, number=1, size=100).jobs)) == expected


def test_a_period_includes_its_beginning_and_not_its_end(tracked: Tracked) -> None:
    """A period includes its beginning and not its end."""
    times = [NOON - MINUTE, NOON, NOON + MINUTE]
    before, at, after = (tracked.created_at(tracked.submit(), time) for time in times)
    found = {
        name: ids(lists.page(tracked.connection, ACME, filters, number=1, size=10).jobs)
        for name, filters in {
            "from": Filters(created_from=NOON),
            "to": Filters(created_to=NOON),
            "both": Filters(created_from=NOON, created_to=NOON + MINUTE),
        }.items()
    }
    assert found == {"from": [after.id, at.id], "to": [before.id], "both": [at.id]}


def failed(tracked: Tracked, error_type: str, error: str, /, **changes: Any) -> JobRecord:
    """A job that has failed with this error."""
    job = tracked.start(tracked.submit(**changes))
    return tracked.end(job, "failed", failure=Failure(error_type, error, "Traceback …"))


def test_a_search_looks_into_types_errors_and_the_beginning_of_ids(tracked: Tracked) -> None:
    """A search looks for parts of words in types and errors, in any case, and for the beginning of an id."""
    job = failed(tracked, "OrderError", "no stock left", job_type="book_order")
    tracked.submit()
    for words in ("OK_ORD", "dererr", "STOCK L", str(job.id)[:11].upper(), job.id.hex[:8]):
        assert _search(tracked, words) == {job.id}
    assert _search(tracked, str(job.id)[:7]) == set()


@pytest.mark.parametrize("words", ["%", "_", "\\", "/", "100%", "a_b", "\\%", "/_", "''", '"', ";--", "%%", ": x"])
def test_a_search_takes_every_character_as_it_is(tracked: Tracked, words: str) -> None:
    """No character of a search stands for others."""
    wanted = {
        failed(tracked, "ValueError", f"before {words} after", job_type="sync").id,
        tracked.submit(job_type=f"before {words} after").id,
    }
    failed(tracked, "ValueError", "before 100 or aXb after", job_type="sync")
    assert _search(tracked, words) == wanted


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=6)


@given(words=WORDS)
@ON_ONE_DATABASE
def test_a_search_finds_what_contains_the_words(tracked: Tracked, words: str) -> None:
    """A search finds words of any script, in a type or in an error."""
    job, typed = failed(tracked, "ValueError", f"<{words}>"), tracked.submit(job_type=f"<{words}>")
    assert {job.id, typed.id} <= _search(tracked, f"<{words}>")


@given(
    errors=st.lists(st.text("aB%_\\ ", max_size=5), min_size=1, max_size=4),
    sought=st.text("aB%_\\ ", min_size=1, max_size=3),
)
@ON_ONE_DATABASE
def test_a_search_finds_the_jobs_that_contain_the_words_and_no_others(
    pool: Database, tracked: Tracked, errors: list[str], sought: str
) -> None:
    """What a search finds, by an index or without, is what Python finds in the rows of one's own organization."""
    empty(pool)
    for number, error in enumerate(errors):
        failed(tracked, error[::-1] or "E", error, job_type=f"type {error[:2]}{number}")
        tracked.submit(job_type=f"type {error}")
        failed(tracked, error or "E", error, owner=Owner("globex", "u1"), job_type="theirs")
    rows = [job for job in tracked.all() if job.organization_id == "acme"]
    expected = {job.id for job in rows if _contains(job, sought)}
    for setting in ("on", "off"):
        tracked.connection.execute(text(f"SET enable_seqscan = {setting}"))
        found = _search(tracked, sought)
        tracked.connection.execute(text("RESET enable_seqscan"))
        assert found == expected


def _contains(job: JobRecord, words: str) -> bool:
    return any(words.lower() in said.lower() for said in (job.job_type, job.error_type, job.error_message) if said)


def test_qualifiers_narrow_a_search(tracked: Tracked) -> None:
    """Qualifiers of a search stand for one thing each; words beside them are looked for as always."""
    job = failed(tracked, "OrderError", "no stock left", job_type="book", project_id="p1", message="Order 17")
    failed(tracked, "OrderError", "no such order", job_type="book", project_id="p2", owner=Owner("acme", "u2"))
    tracked.submit(job_type="book", message="Order 17")
    for sought in (
        "error:stock",
        'status:failed error:"no stock"',
        "type:book stock",
        "user:u1 status:failed,cancelled",
        "ordererror project:p1",
        f"id:{str(job.id)[:5]}",
        'message:"order 17" worker:worker-1',
    ):
        assert _search(tracked, sought) == {job.id}, sought
    for sought in ("status:failed stock type:other", "project:P1", "id:nonsense", "worker:worker-2"):
        assert _search(tracked, sought) == set(), sought


def test_what_is_no_qualifier_is_a_word(tracked: Tracked) -> None:
    """Words with a colon that are no qualifier, or have no value, are looked for as they are."""
    job = failed(tracked, "ValueError", "cannot reach http://x:80, error: none")
    for words in ("http://x:80", "error: none", "reach  ", "x:80, error:"):
        assert _search(tracked, words) == ({job.id} if words != "reach  " else set())


def test_a_status_that_does_not_exist_is_refused(tracked: Tracked) -> None:
    """A search for a status that there is none of raises InvalidValue."""
    with pytest.raises(InvalidValue, match="a status is one of"):
        _search(tracked, "status:done")


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
    """Pages by cursor have no gap and no repeat while jobs are inserted."""
    empty(pool)
    made = [tracked.created_at(tracked.submit(), NOON - age * MINUTE) for age in ages]
    found = _read_all(
        lambda cursor: lists.after(tracked.connection, ACME, cursor=cursor, size=size), between=tracked.submit
    )
    assert found == sorted(made, key=lambda job: (job.created_at, job.id), reverse=True)


@given(ages=st.lists(st.integers(0, 3), min_size=1, max_size=12), size=st.integers(1, 5))
@ON_ONE_DATABASE
def test_the_history_is_the_set_while_others_finish(
    pool: Database, tracked: Tracked, ages: list[int], size: int
) -> None:
    """Pages of the history have no gap and no repeat while jobs finish."""
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
    """The history has the finished jobs only, however they ended."""
    made = [tracked.put_into(situation) for situation in SITUATIONS]
    found = lists.finished(tracked.connection, ACME, cursor=None, size=100).jobs
    assert set(ids(found)) == {job.id for job in made if job.status in FINISHED}


def test_the_history_can_be_narrowed_to_a_period(tracked: Tracked) -> None:
    """The history can be narrowed to a period of the end."""
    old, new = tracked.finished_ago(tracked.run(), 2 * HOUR), tracked.run()
    hour_ago = datetime.now(UTC) - HOUR
    for filters, expected in ((Filters(completed_from=hour_ago), new), (Filters(completed_to=hour_ago), old)):
        assert ids(lists.finished(tracked.connection, ACME, filters, cursor=None, size=10).jobs) == [expected.id]


@pytest.mark.parametrize("read", [lists.after, lists.finished])
@given(cursor=st.text(max_size=40) | st.from_regex(lists.CURSOR) | st.from_regex(lists.CURSOR, fullmatch=True))
@example(cursor=f"{'9' * 17}-{UUID(int=0)}")
@example(cursor=f"{'9' * 18}-{UUID(int=0)}")
@example(cursor=f"0-{UUID(int=0)}\n")
@example(cursor=f"\u0661-{UUID(int=0)}")
@settings(ON_ONE_DATABASE, max_examples=100)
def test_a_forged_cursor_is_refused_or_read_from(tracked: Tracked, read: Any, cursor: str) -> None:
    """A forged cursor is refused or read from, without another error."""
    try:
        page = read(tracked.connection, ACME, cursor=cursor, size=5)
    except InvalidValue:
        return
    assert page == Page([], None, None)
