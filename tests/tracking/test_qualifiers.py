"""Qualifiers for which no index is: what they find, and that one look goes through so many jobs and says so."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, text

from tests.tracked import ACME, Tracked, ids
from tests.tracking.test_lists import MANY, failed
from tests.weeks import vacuum
from tracking.db import Database
from tracking.errors import InvalidValue
from tracking.models import EVERYWHERE
from tracking.operations.begin import SAMPLE, preview
from tracking.reads import failures, lists
from tracking.reads.answers import Filters, Page
from tracking.reads.matching import LOOKED_AT, LOOKED_AT_OF_EACH
from tracking.reads.search import QUALIFIERS, unknown

RARE = "UPDATE jobs SET queue = 'rare' WHERE id IN (SELECT id FROM jobs ORDER BY created_at OFFSET :at LIMIT 3)"
PAYLOAD: dict[str, Any] = {
    "accountId": 42,
    "code": "042",
    "customer": {"id": "c-7", "vip": True, "since": None},
    "tags": ["red", "late"],
    "lines": [{"sku": "A", "price": 12.50}, {"sku": "B c"}],
    "a b": "x",
}


def _found(tracked: Tracked, sought: str) -> set[UUID]:
    filters = Filters(search=sought)
    page = lists.page(tracked.connection, ACME, filters, number=1, size=100)
    assert ids(lists.after(tracked.connection, ACME, filters, cursor=None, size=100).jobs) == ids(page.jobs)
    assert page.total == len(page.jobs)
    assert page.looked_until is None
    return set(ids(page.jobs))


@pytest.mark.parametrize(
    "sought",
    [
        *("payload.accountId:42", "payload.accountId:42.0", "payload.code:042", 'payload.code:"042"'),
        *("payload.customer.id:c-7", "payload.customer.vip:true", "payload.customer.since:null"),
        *("payload.tags:late", "payload.tags.0:red", 'payload.lines.1.sku:"B c"', "payload.lines.0.price:12.5"),
        "payload.accountId:42 payload.tags:red type:sync status:queued",
    ],
)
def test_a_value_at_a_place_in_the_payload_is_found(tracked: Tracked, sought: str) -> None:
    """A value is found at its place in the payload, in objects and in lists, a number as a number and as text."""
    job = tracked.submit(job_type="sync", payload=PAYLOAD)
    tracked.submit(job_type="sync", payload={"accountId": 421, "code": "42", "tags": ["redder"], "customer": {"id": 7}})
    assert _found(tracked, sought) == {job.id}


@pytest.mark.parametrize(
    "sought",
    ["payload.accountId:4", "payload.code:42", "payload.customer:c-7", "payload.tags:re", "payload.nothing:null"],
)
def test_another_value_or_place_is_not_found(tracked: Tracked, sought: str) -> None:
    """Neither a part of a value is found, nor what stands at another place."""
    tracked.submit(payload=PAYLOAD)
    assert _found(tracked, sought) == set()


def test_queues_workers_and_priorities_are_found(tracked: Tracked) -> None:
    """A queue, a worker and a priority, one, several or beyond a bound, narrow a search."""
    low, high = tracked.submit(queue="slow", priority=2), tracked.submit(queue="default", priority=8)
    ran = tracked.run(priority=5)
    assert _found(tracked, "queue:slow") == {low.id}
    assert _found(tracked, "worker:worker-1") == {ran.id}
    for sought, wanted in {
        "priority:8": {high.id},
        "priority:2,8": {low.id, high.id},
        "priority:>=5": {high.id, ran.id},
        "priority:>5": {high.id},
        "priority:<=5": {low.id, ran.id},
        "priority:<5 queue:slow": {low.id},
    }.items():
        assert _found(tracked, sought) == wanted, sought


def test_a_group_of_errors_is_found_by_its_fingerprint(tracked: Tracked) -> None:
    """Behind error: stands a group of errors or words of one; in quotes these are words whatever they look like."""
    one, other = failed(tracked, "OrderError", "no stock of 7"), failed(tracked, "OrderError", "no stock of 8")
    failed(tracked, "OrderError", "no such order")
    group = failures.fingerprint_of(tracked.connection, one.id)
    assert _found(tracked, f"error:{group}") == {one.id, other.id}
    assert _found(tracked, f'error:"{group}"') == set()
    assert _found(tracked, 'error:"stock of 8"') == {other.id}


def test_words_in_quotes_are_no_qualifier(tracked: Tracked) -> None:
    """What stands in quotes alone, or beside qualifiers, is words without the quotes."""
    job = failed(tracked, "ValueError", "queue:slow is full", job_type="book")
    assert _found(tracked, '"queue:slow is"') == {job.id}
    assert _found(tracked, 'type:book "queue:slow is"') == {job.id}


@pytest.mark.parametrize(
    ("sought", "why"),
    [
        ("priority:high", "a priority is 0 to 9"),
        ("priority:10", "a priority is 0 to 9"),
        ("payload.a..b:1", "is no place in a payload"),
        ("payload..:1", "is no place in a payload"),
    ],
)
def test_a_value_that_cannot_be_is_refused(tracked: Tracked, sought: str, why: str) -> None:
    """A qualifier with a value that makes no sense raises InvalidValue, which says what does."""
    with pytest.raises(InvalidValue, match=why):
        _found(tracked, sought)


def test_what_only_looks_like_a_qualifier_is_told() -> None:
    """The names of qualifiers that there are none of are told; addresses and words in quotes are words."""
    assert unknown('stauts:failed type:sync payload:7 at http://x:80 Error:no x: "foo:bar baz"') == [
        "stauts",
        "payload",
    ]
    assert unknown(" ".join(f"{name}:1" for name in QUALIFIERS)) == []


def test_one_look_goes_through_so_many_jobs_and_the_cursor_goes_on(database: Database) -> None:
    """What no index has is looked for in the newest 10,000 jobs; page after page by cursor, nothing is left out."""
    with database.autocommit() as connection:
        connection.execute(text(MANY), {"rows": 2 * LOOKED_AT + 50})
        vacuum(connection, "jobs")
        for at in (0, LOOKED_AT + 20, 2 * LOOKED_AT + 40):
            connection.execute(text(RARE), {"at": at})
        filters = Filters(search="queue:rare")
        first = lists.page(connection, ACME, filters, number=1, size=2)
        assert (first.total, first.total_is_capped, len(first.jobs)) == (3, True, 2)
        pages, read = [first], list(first.jobs)
        while pages[-1].next_cursor is not None:
            pages.append(lists.after(connection, ACME, filters, cursor=pages[-1].next_cursor, size=2))
            read += pages[-1].jobs
        looked_at = _rows_looked_at(connection, first)
    assert len(set(ids(read))) == len(read) == 9
    assert read == sorted(read, key=lambda job: (job.created_at, job.id), reverse=True)
    assert [len(page.jobs) for page in pages] == [2, 1, 2, 1, 2, 1]
    assert looked_at == LOOKED_AT


def test_a_preview_shows_what_it_counts(database: Database) -> None:
    """The sample of a bulk operation has the newest of all jobs that it would touch, however far behind they are."""
    with database.autocommit() as connection:
        connection.execute(text(MANY), {"rows": LOOKED_AT + 50})
        vacuum(connection, "jobs")
        connection.execute(text(RARE), {"at": 5})
        filters = Filters(search="queue:rare")
        count, sample = preview(connection, ACME, filters)
        assert (count, len(sample)) == (3, 3)
        assert list(sample) == sorted(sample, key=lambda job: (job.created_at, job.id), reverse=True)
        assert {job.queue for job in sample} == {"rare"}
        count, sample = preview(connection, ACME, Filters())
        newest = lists.after(connection, ACME, Filters(), cursor=None, size=SAMPLE).jobs
        assert (count, list(sample)) == (LOOKED_AT + 50, list(newest))


def test_everywhere_the_newest_of_each_organization_are_looked_at(tracked: Tracked) -> None:
    """Of all organizations the newest 500 jobs of each are looked at, and the cursor goes on behind the first end."""
    tracked.connection.execute(text(MANY), {"rows": LOOKED_AT_OF_EACH + 10})
    tracked.connection.execute(text(MANY.replace("'acme'", "'globex'").replace("1 second", "1 hour")), {"rows": 5})
    filters = Filters(search="queue:default")
    read, cursor = list[UUID](), None
    while True:
        page = lists.after(tracked.connection, EVERYWHERE, filters, cursor=cursor, size=400)
        read, cursor = read + ids(page.jobs), page.next_cursor
        if cursor is None:
            break
    assert len(set(read)) == len(read) == LOOKED_AT_OF_EACH + 15


def _rows_looked_at(connection: Connection, page: Page) -> int:
    assert page.looked_until is not None
    at, job_id = page.looked_until
    newer = "SELECT count(*) FROM jobs WHERE (created_at, id) >= (:at, :id)"
    number: int = connection.execute(text(newer), {"at": at, "id": job_id}).scalar_one()
    return number
