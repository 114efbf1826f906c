"""Collections: records that sync jobs pull page by page, each page with the place of the next in one transaction.

So a pull that was killed goes on where it was, and no page counts twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from tracking.errors import TrackingError

BATCH = 1000  # rows that are read at once


class CollectionBusy(TrackingError):
    """Another job pulls this collection now."""


class PullOvertaken(TrackingError):
    """Another attempt or job pulls this collection now: this one writes nothing any more."""


@dataclass(frozen=True, slots=True)
class Puller:
    """The attempt of a job that pulls a collection of an organization."""

    organization_id: str
    collection: str
    job_id: UUID
    attempt: int


@dataclass(frozen=True, slots=True)
class Place:
    """How far a collection is pulled: `position` of the next page (None: the first), in which run, after so many."""

    run: int
    position: Any
    pages: int


@dataclass(frozen=True, slots=True)
class Written:
    """What a page has changed: records that were new, that were others before, and that were the same."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0


def begin(connection: Connection, puller: Puller, source: str, *, keeps_cursor: bool) -> Place:
    """Take a collection over, and say where to go on: where an unfinished run of the same source was left, else anew.

    With `keeps_cursor` a run after a complete one begins at its last position. Raises CollectionBusy while another job
    pulls it. Wants a transaction.
    """
    parameters = {**_of(puller), "source": source, "keeps_cursor": keeps_cursor}
    row = connection.execute(BEGIN, parameters).first()
    if row is None:
        raise CollectionBusy(f"another job pulls the collection {puller.collection!r} now")
    return Place(row.run, row.position, row.pages)


def write(
    connection: Connection, puller: Puller, run: int, page: Mapping[str, str], position: Any, *, complete: bool
) -> Written:
    """The records of a page, JSON by their keys, and the position of the next. Raises PullOvertaken.

    Wants a transaction.
    """
    moved = {**_of(puller), "run": run, "position": json.dumps(position), "complete": complete}
    if connection.execute(MOVE, moved).first() is None:
        raise PullOvertaken(f"the collection {puller.collection!r} is pulled by another attempt")
    if not page:
        return Written()
    keys = sorted(page)
    row = connection.execute(
        WRITE,
        {
            "organization_id": puller.organization_id,
            "collection": puller.collection,
            "run": run,
            "keys": keys,
            "records": [page[key] for key in keys],
        },
    ).one()
    return Written(row.inserted, row.updated, len(keys) - row.inserted - row.updated)


def restart(connection: Connection, puller: Puller) -> Place:
    """Begin anew, since the source does not know the position any more. Raises PullOvertaken."""
    row = connection.execute(RESTART, _of(puller)).first()
    if row is None:
        raise PullOvertaken(f"the collection {puller.collection!r} is pulled by another attempt")
    return Place(row.run, None, 0)


def remove_unseen(connection: Connection, puller: Puller, run: int) -> int:
    """Remove the records that a complete run has not seen. Returns how many."""
    return connection.execute(REMOVE_UNSEEN, {**_of(puller), "run": run}).rowcount


def count(connection: Connection, organization_id: str, collection: str) -> int:
    """The records of a collection."""
    parameters = {"organization_id": organization_id, "collection": collection}
    return int(connection.execute(COUNT, parameters).scalar_one())


def exists(connection: Connection, organization_id: str, collection: str) -> bool:
    """Whether an organization has such a collection."""
    parameters = {"organization_id": organization_id, "collection": collection}
    return bool(connection.execute(EXISTS, parameters).scalar_one())


def fields(connection: Connection, organization_id: str, collection: str) -> Sequence[str]:
    """The names of all fields that records of a collection have, sorted."""
    parameters = {"organization_id": organization_id, "collection": collection}
    return [row.name for row in connection.execute(FIELDS, parameters)]


def each(connection: Connection, organization_id: str, collection: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The records by their keys: the JSON of each, with all digits, and its fields as texts, those of null left out."""
    after = ""
    while True:
        parameters = {"organization_id": organization_id, "collection": collection, "after": after, "most": BATCH}
        rows = connection.execute(EACH, parameters).all()
        for row in rows:
            yield row.json, row.texts or {}
        if len(rows) < BATCH:
            return
        after = rows[-1].key


def _of(puller: Puller) -> dict[str, Any]:
    return {
        "organization_id": puller.organization_id,
        "collection": puller.collection,
        "job_id": puller.job_id,
        "attempt": puller.attempt,
    }


_MINE = "organization_id = :organization_id AND name = :collection AND job_id = :job_id AND attempt = :attempt"

# A run goes on when it was not complete and the source is the same; a complete one is followed by the next.
BEGIN = text(
    """
    INSERT INTO collections AS known (organization_id, name, source, job_id, attempt)
    VALUES (:organization_id, :collection, :source, :job_id, :attempt)
    ON CONFLICT (organization_id, name) DO UPDATE SET
        source = excluded.source, job_id = excluded.job_id, attempt = excluded.attempt,
        run = known.run + CASE WHEN known.complete OR known.source <> excluded.source THEN 1 ELSE 0 END,
        position = CASE
            WHEN known.source = excluded.source AND (NOT known.complete OR CAST(:keeps_cursor AS boolean))
            THEN known.position END,
        pages = CASE WHEN known.complete OR known.source <> excluded.source THEN 0 ELSE known.pages END,
        started_at = CASE
            WHEN known.complete OR known.source <> excluded.source THEN clock_timestamp() ELSE known.started_at END,
        complete = false, updated_at = clock_timestamp()
    WHERE (known.job_id = excluded.job_id AND known.attempt <= excluded.attempt)
       OR (known.job_id <> excluded.job_id AND NOT EXISTS (
            SELECT FROM jobs WHERE jobs.id = known.job_id AND jobs.status IN ('running', 'retrying')))
    RETURNING run, position, pages"""
)

MOVE = text(
    f"""
    UPDATE collections
    SET position = NULLIF(CAST(:position AS jsonb), 'null'), pages = pages + 1, complete = :complete,
        updated_at = clock_timestamp()
    WHERE {_MINE} AND run = :run
    RETURNING run"""
)

RESTART = text(
    f"""
    UPDATE collections
    SET run = run + 1, position = NULL, pages = 0, started_at = clock_timestamp(), updated_at = clock_timestamp()
    WHERE {_MINE}
    RETURNING run"""
)

# What is the same as before is only seen: its row keeps the time of its last change.
WRITE = text(
    """
    WITH given AS (
        SELECT * FROM unnest(CAST(:keys AS text[]), CAST(:records AS text[])) AS page (key, record)
    ), before AS (
        SELECT known.key, known.record FROM collection_records AS known JOIN given USING (key)
        WHERE known.organization_id = :organization_id AND known.collection = :collection
    ), written AS (
        INSERT INTO collection_records AS known (organization_id, collection, key, record, run)
        SELECT CAST(:organization_id AS text), CAST(:collection AS text), key, CAST(record AS jsonb),
               CAST(:run AS bigint)
        FROM given
        ON CONFLICT (organization_id, collection, key) DO UPDATE SET
            record = excluded.record, run = excluded.run,
            changed_at = CASE WHEN known.record = excluded.record THEN known.changed_at ELSE clock_timestamp() END
        RETURNING known.key, known.record
    )
    SELECT count(*) FILTER (WHERE before.key IS NULL) AS inserted,
           count(*) FILTER (WHERE before.record <> written.record) AS updated
    FROM written LEFT JOIN before USING (key)"""
)

REMOVE_UNSEEN = text(
    f"""
    DELETE FROM collection_records
    WHERE organization_id = :organization_id AND collection = :collection AND run < :run
      AND EXISTS (SELECT FROM collections WHERE {_MINE} AND complete)"""
)

COUNT = text(
    """
    SELECT count(*) FROM collection_records
    WHERE organization_id = :organization_id AND collection = :collection"""
)

EXISTS = text(
    """
    SELECT EXISTS (SELECT FROM collections WHERE organization_id = :organization_id AND name = :collection)"""
)

FIELDS = text(
    """
    SELECT DISTINCT jsonb_object_keys(record) AS name FROM collection_records
    WHERE organization_id = :organization_id AND collection = :collection
    ORDER BY name"""
)

EACH = text(
    """
    SELECT key, CAST(record AS text) AS json,
           (SELECT jsonb_object_agg(name, value) FROM jsonb_each_text(record) AS field (name, value)
            WHERE value IS NOT NULL) AS texts
    FROM collection_records
    WHERE organization_id = :organization_id AND collection = :collection AND key > :after
    ORDER BY key LIMIT :most"""
)
