"""The half of sync that pulls: a source on the web into a collection, page by page, going on where it was left."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from typing import Any

import httpx2

from tasks import BaseModel, Job
from tasks.handlers.identity import Identity
from tasks.outages import told_as_connection_errors
from tasks.progress import JobCancelled
from tasks.syncing.paging import ACCEPT, LISTED_RECORDS, Parsed, Pull, SourceUnusable, parse
from tasks.syncing.pointers import written
from tasks.webhooks.fetching import Page, fetch
from tracking import collections
from tracking.collections import Place, Puller, PullOvertaken, Written

MOST_RECORDS = 1_000_000  # of a collection
FIRST_WAIT = 1.0  # seconds before a page is asked for again, doubled with each time, where the source says nothing
LONGEST_WAIT = 30.0  # seconds that are waited here; for more of them the job waits in its row
TRIES = 4  # of a page, while the source says that it cannot now
EXPIRED = frozenset({400, 404, 410, 422})  # with a cursor or link of an earlier page, whose like was taken before
GONE = 410
BUSY = frozenset({408, 425, 429, 503})
NOT_FOUND = 404
SERVER_ERROR = 500
LOOK = 0.25  # seconds between two looks whether a waiting job was cancelled


class SourceAway(ConnectionError):
    """The source cannot answer now; a later attempt goes on at the same page. `wish` are seconds that it asks for."""

    def __init__(self, message: str, wish: float | None = None) -> None:
        super().__init__(message)
        self.wish = wish


class CursorExpired(Exception):
    """The source does not know the place where the pull was to go on, also after a new beginning."""


class Rejected(BaseModel):
    """A record that was left out: its page in this run, its place in the page, and why."""

    page: int
    record: int
    reason: str


class Pulled(BaseModel):
    """What a pull has read and changed.

    `resumed`: it went on in a run that was not complete. `restarted`: the cursor had expired, and it began anew.
    """

    collection: str
    pages: int
    read: int
    inserted: int
    updated: int
    unchanged: int
    removed: int
    repeated_pages: int
    rejected_count: int
    rejected: tuple[Rejected, ...]
    resumed: bool
    restarted: bool


@dataclass(slots=True)
class _Tally:
    pages: int = 0
    read: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    repeated_pages: int = 0
    rejected_count: int = 0
    rejected: list[Rejected] = field(default_factory=list)
    resumed: bool = False
    restarted: bool = False

    def add(self, done: Written, found: Parsed, *, page: int) -> None:
        self.pages += 1
        self.read += found.read
        self.inserted += done.inserted
        self.updated += done.updated
        self.unchanged += done.unchanged
        self.rejected_count += len(found.rejected)
        for each in found.rejected[: LISTED_RECORDS - len(self.rejected)]:
            self.rejected.append(Rejected(page=page, **each))


def pull(job: Job, who: Identity, wanted: Pull) -> Pulled:
    """Read the pages that are left, each in a transaction of its own with the place of the next.

    Raises SourceAway when it is worth another attempt, SourceUnusable or CursorExpired when it is not, JobCancelled
    when another attempt has taken over.
    """
    try:
        tally = _pull(job, Puller(who.organization_id, wanted.collection, who.job_id, who.attempt), wanted)
    except PullOvertaken:
        raise JobCancelled from None
    return Pulled(collection=wanted.collection, **{name: getattr(tally, name) for name in tally.__slots__})


def _pull(job: Job, puller: Puller, wanted: Pull) -> _Tally:
    tally, database = _Tally(), job.app.platform.database
    with told_as_connection_errors(), database.begin() as connection:
        place = collections.begin(connection, puller, _source(wanted), keeps_cursor=wanted.keep_cursor)
    tally.resumed = place.pages > 0
    seen: set[str] = set()
    last = ""
    while True:
        if place.pages >= wanted.most_pages:
            raise SourceUnusable(f"the source has more than {wanted.most_pages:,} pages (mostPages)")
        page = _asked(job, wanted, place)
        if page is None:
            if tally.restarted:
                raise CursorExpired("the source does not know its own cursor any more, twice in one pull")
            with told_as_connection_errors(), database.begin() as connection:
                place = collections.restart(connection, puller)
            tally.restarted, last = True, ""
            seen.clear()
            continue
        found = Parsed() if page.status == NOT_FOUND else parse(wanted, page, place.position)
        digest = hashlib.sha256(page.content).hexdigest()
        if found.read and digest == last and wanted.paging == "page":
            found, tally.repeated_pages = Parsed(), tally.repeated_pages + 1  # it has no end: its last page comes again
        elif found.read and digest == last:
            tally.repeated_pages += 1
        last = digest
        done = _keep(job, puller, wanted, place, found)
        tally.add(done, found, page=place.pages + 1)
        job.progress(10, f"Pull: {tally.read:,} records of {tally.pages:,} pages", detail={"pages": tally.pages})
        place = Place(place.run, found.next, place.pages + 1)
        if found.next is None:
            break
        where = written(found.next)
        if where in seen:
            raise SourceUnusable("the next page is one that this pull has read: the source leads in a circle")
        seen.add(where)
    if wanted.remove_missing:
        with told_as_connection_errors(), database.begin() as connection:
            tally.removed = collections.remove_unseen(connection, puller, place.run)
    return tally


def _keep(job: Job, puller: Puller, wanted: Pull, place: Place, found: Parsed) -> Written:
    """Write a page, with the place of the next."""
    complete = found.next is None
    # A kept cursor is that of the last page: what comes later is behind it.
    position = place.position if complete and wanted.keep_cursor else found.next
    with told_as_connection_errors(), job.app.platform.database.begin() as connection:
        done = collections.write(connection, puller, place.run, found.records, position, complete=complete)
        if done.inserted and collections.count(connection, puller.organization_id, puller.collection) > MOST_RECORDS:
            raise SourceUnusable(f"a collection has {MOST_RECORDS:,} records at most")
    return done


def _asked(job: Job, wanted: Pull, place: Place) -> Page | None:
    """The page at this place; None when the source does not know the place any more."""
    url, host = wanted.address(place.position), httpx2.URL(str(wanted.url)).host
    for number in range(1, TRIES + 1):
        page = fetch(url, ACCEPT[wanted.format], may_be_private=job.app.platform.settings.sync_private)
        if page.status not in BUSY and page.status < SERVER_ERROR:
            break
        wish = page.wish if page.wish is not None else FIRST_WAIT * 2 ** (number - 1)
        if number == TRIES or wish > LONGEST_WAIT:
            kind = "asks to wait" if page.status in BUSY else "has failed"
            raise SourceAway(f"{host} {kind} at page {place.pages + 1}: it answered {page.status}", page.wish)
        _wait(job, wish, f"{host} answered {page.status}; page {place.pages + 1} is asked for again")
    if httpx2.codes.is_success(page.status):
        return page
    if wanted.paging == "page" and page.status == NOT_FOUND and place.pages:
        return page  # behind the last one there is nothing
    if page.status == GONE or (page.status in EXPIRED and place.position is not None and wanted.paging != "page"):
        if place.position is None:
            raise SourceUnusable(f"{host} answered {page.status}: the source is gone")
        return None
    raise SourceUnusable(_refusal(host, page))


def _refusal(host: str, page: Page) -> str:
    if httpx2.codes.is_redirect(page.status):
        return f"{host} answered {page.status}: redirects are not followed"
    if page.status in (httpx2.codes.UNAUTHORIZED, httpx2.codes.FORBIDDEN):
        return f"{host} answered {page.status}: it lets nobody in without a password, or not us"
    return f"{host} answered {page.status}"


def _wait(job: Job, seconds: float, why: str) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        job.progress(10, why)
        time.sleep(min(left, LOOK))


def _source(wanted: Pull) -> str:
    """A digest of where and how it is pulled: with another one, the place of the next page means nothing."""
    asked: dict[str, Any] = wanted.model_dump(mode="json", exclude={"most_pages", "remove_missing", "keep_cursor"})
    return hashlib.sha256(written(asked).encode()).hexdigest()
