"""Lists of a type and searches, of which each part is answered by another index: together they are one list."""

from __future__ import annotations

from uuid import UUID

import pytest
from sqlalchemy import text

from tests.tracked import ACME, SITUATIONS, Tracked, ids
from tests.tracking.test_lists import MANY, failed
from tracking.reads import lists
from tracking.reads.answers import Filters
from tracking.reads.lists import MOST_FOUND
from tracking.schema import jobs as table


def test_a_search_counts_a_thousand_jobs(tracked: Tracked) -> None:
    """Of 1,020 jobs that a search finds 1,000 are counted and on numbered pages; the cursor goes on to the others."""
    tracked.connection.execute(text(MANY), {"rows": MOST_FOUND + 20})
    found = Filters(search="noop")
    last = lists.page(tracked.connection, ACME, found, number=10, size=100)
    assert (last.total, last.total_is_capped, len(last.jobs)) == (MOST_FOUND, True, 100)
    rest = lists.after(tracked.connection, ACME, found, cursor=last.next_cursor, size=100)
    assert (len(rest.jobs), rest.next_cursor) == (20, None)


def test_a_job_that_a_search_finds_in_two_places_is_listed_and_counted_once(tracked: Tracked) -> None:
    """A job whose type and error both contain the words is on one page, once, and counts as one."""
    both = failed(tracked, "SyncError", "sync failed", job_type="sync")
    others = [tracked.submit(job_type="sync_all"), failed(tracked, "E", "no sync", job_type="other")]
    expected = [job.id for job in (*others[::-1], both)]
    pages = [lists.page(tracked.connection, ACME, Filters(search="sync"), number=each, size=1) for each in (1, 2, 3, 4)]
    assert [job.id for page in pages for job in page.jobs] == expected
    assert {page.total for page in pages} == {3}


@pytest.mark.parametrize("filters", [Filters(job_type="sync"), Filters(search="type:sync"), Filters(search="syn")])
def test_a_list_of_a_type_has_what_is_over_among_what_is_not(tracked: Tracked, filters: Filters) -> None:
    """A list of one type is in one order, newest first, whether its jobs are over or not."""
    made = [tracked.put_into(situation).id for situation in SITUATIONS]
    tracked.connection.execute(table.update().values(job_type="sync"))
    tracked.run(job_type="other")
    expected, read, cursor = made[::-1], list[UUID](), None
    while len(read) < len(expected):
        page = lists.after(tracked.connection, ACME, filters, cursor=cursor, size=3)
        read, cursor = read + ids(page.jobs), page.next_cursor
    assert (read, cursor) == (expected, None)
