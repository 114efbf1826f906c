"""The end of a week of the history: it is made anew without the rows of removed jobs, or dropped when none is left.

To delete these rows would take as long as to write them, and a vacuum afterwards. Instead the few that are kept are
copied beside, while everybody goes on, and the tables change places at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

from sqlalchemy import Connection, text

from tracking.audit import AS_ENTRY
from tracking.db import Database
from tracking.partitions import WEEK, Partition, be_brief, create, partitions
from tracking.removals import noted
from tracking.schema import history

ROWS = 10_000  # looked at in a statement
COPY = "history_thinned_"  # of each run a table of its own, so that none is ever filled by two


class Overtaken(Exception):
    """Somebody else has thinned the partition, or has written to it, since it was begun."""


@dataclass(frozen=True, slots=True)
class _Run:
    """The partition that is thinned, as the table that it was at first, and the table that is to take its place."""

    partition: Partition
    table: int
    copy: str


@dataclass(frozen=True, slots=True)
class Thinned:
    """How far it is with a partition: rows that are kept, and that go. Without any that is kept, it is dropped."""

    partition: str
    kept: int
    removed: int
    is_done: bool = False


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Rows up to the id `last`; None: there were none."""

    last: int | None
    kept: int
    removed: int


def next_to_thin(connection: Connection, kept: timedelta, longest: timedelta) -> Partition | None:
    """The oldest partition of which most rows, or all, are of jobs that were removed; None: there is none.

    `kept`: for so long are most jobs kept after their end, `longest`: the last of them. Whatever is older is taken to
    have been removed; the rows of a job that is still there are kept in any case.
    """
    now = connection.execute(NOW).scalar_one()
    return next((each for each in partitions(connection) if _is_due(connection, each, now, kept, longest)), None)


def _is_due(connection: Connection, partition: Partition, now: datetime, kept: timedelta, longest: timedelta) -> bool:
    if partition.until + WEEK > now:  # whatever a clock does, nobody writes to it any more
        return False
    if not partition.loses_rows:
        return partition.until + kept < now
    end = partition.until + longest
    is_left_over = end < now and (partition.thinned_at is None or partition.thinned_at < end)
    return is_left_over or not connection.execute(text(f"SELECT EXISTS (SELECT FROM {partition.name})")).scalar_one()


def thin(database: Database, partition: Partition) -> Iterator[Thinned]:
    """Make a partition anew with the rows of jobs that are there, or drop it; a step, and a transaction, at a time.

    What people did to the jobs whose rows go is written to the audit. It can be left off after any step, and begun
    again. Raises SQLAlchemyError when a lock cannot be had at once: nobody has waited for longer than that lock's time.
    Of two that do it at the same time one raises SQLAlchemyError, as its table is gone, or Overtaken.
    """
    with database.begin() as connection:
        run = _begin(connection, partition)
    kept = removed = last = 0
    while (chunk := _step(database, COPY_SOME, run, last)).last is not None:
        kept, removed, last = kept + chunk.kept, removed + chunk.removed, chunk.last
        yield Thinned(partition.name, kept, removed)
    with database.begin() as connection:
        is_dropped = not _change_places(connection, run, last, is_empty=kept == 0)
    # Jobs that were removed while their rows were copied; those that are removed from now on take their rows with them.
    swept = 0
    while not is_dropped and (chunk := _step(database, SWEEP_SOME, run, swept)).last is not None:
        kept, removed, swept = kept - chunk.removed, removed + chunk.removed, chunk.last
        yield Thinned(partition.name, kept, removed)
    yield Thinned(partition.name, kept, removed, is_done=True)


def _begin(connection: Connection, partition: Partition) -> _Run:
    for left in connection.execute(LEFT).scalars().all():
        connection.execute(text(f"DROP TABLE {left}"))
    table = connection.execute(TABLE, {"name": partition.name}).scalar_one()
    run = _Run(partition, table, f"{COPY}{uuid4().hex[:12]}")
    create(connection, run.copy)
    # It spares the change of places a look at every row.
    connection.execute(text(f"ALTER TABLE {run.copy} ADD CONSTRAINT history_thinned CHECK ({_within(partition)})"))
    return run


def _step(database: Database, sql: str, run: _Run, after: int) -> _Chunk:
    with database.begin() as connection:
        statement = text(sql.format(run.partition.name, run.copy))
        row = connection.execute(statement, {"after": after, "most": ROWS}).one()
    return _Chunk(row.last, row.kept, row.removed)


def _change_places(connection: Connection, run: _Run, last: int, *, is_empty: bool) -> bool:
    """Put the copy in the place of the partition; False: nothing is in it, and the partition is dropped.

    While others wait. The longest part is the end of the transaction, which is theirs as well.
    """
    partition, name = run.partition, run.partition.name
    be_brief(connection)
    connection.execute(text("LOCK TABLE history IN ACCESS EXCLUSIVE MODE"))
    if connection.execute(TABLE, {"name": name}).scalar() != run.table:
        raise Overtaken
    if connection.execute(text(f"SELECT EXISTS (SELECT FROM {name} WHERE id > :last)"), {"last": last}).scalar():
        raise Overtaken
    connection.execute(text(f"DROP TABLE {name}"))
    if is_empty:
        connection.execute(text(f"DROP TABLE {run.copy}"))
        return False
    connection.execute(text(f"ALTER TABLE {run.copy} RENAME TO {name}"))
    since = "MINVALUE" if partition.since is None else _literal(partition.since)
    bounds = f"FROM ({since}) TO ({_literal(partition.until)})"
    connection.execute(text(f"ALTER TABLE history ATTACH PARTITION {name} FOR VALUES {bounds}"))
    connection.execute(text(f"ALTER TABLE {name} DROP CONSTRAINT history_thinned"))
    connection.execute(text(MARK.format(name)))
    return True


def _within(partition: Partition) -> str:
    until = f"at < {_literal(partition.until)}"
    return until if partition.since is None else f"at >= {_literal(partition.since)} AND {until}"


def _literal(time: datetime) -> str:
    return f"timestamptz '{time.isoformat()}'".replace(":", r"\:")  # a colon would begin a parameter


NOW = text("SELECT now()")
TABLE = text("SELECT CAST(to_regclass(:name) AS oid)")
# Copies that were never finished, or are somebody's who does the same now.
LEFT = text(
    f"""
    SELECT relname FROM pg_class
    WHERE relname LIKE '{COPY.replace("_", "#_")}%' ESCAPE '#' AND relkind = 'r' AND NOT relispartition
      AND relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = CAST('history' AS regclass))"""
)

MARK = """
    DO $$ BEGIN EXECUTE format('COMMENT ON TABLE {} IS %L', 'thinned ' || now()); END $$"""

_COLUMNS = ", ".join(history.columns.keys())

# Each job is looked up by itself: however few there are, the plan must not read all of them.
_IS_KEPT = "LEFT JOIN LATERAL (SELECT true AS is_kept FROM jobs WHERE jobs.id = job_id LIMIT 1) AS kept ON true"

_TELL = f"""INSERT INTO audit (id, {", ".join(AS_ENTRY)}) SELECT id, {", ".join(AS_ENTRY.values())}
        FROM gone WHERE origin IS NOT NULL
        ON CONFLICT (id) DO NOTHING
    ), {noted("gone")}"""

_COUNTED = """
    SELECT (SELECT max(id) FROM chunk) AS last, (SELECT count(*) FROM chunk WHERE is_kept) AS kept,
           (SELECT count(*) FROM gone) AS removed"""

COPY_SOME = f"""
    WITH chunk AS MATERIALIZED (
        SELECT * FROM (SELECT * FROM {{0}} WHERE id > :after ORDER BY id LIMIT :most) AS next {_IS_KEPT}
    ), gone AS (
        SELECT * FROM chunk WHERE is_kept IS NULL
    ), copied AS (
        INSERT INTO {{1}} ({_COLUMNS}) SELECT {_COLUMNS} FROM chunk WHERE is_kept
    ), told AS (
        {_TELL}{_COUNTED}"""

SWEEP_SOME = f"""
    WITH chunk AS MATERIALIZED (
        SELECT * FROM (SELECT id, at, job_id FROM {{0}} WHERE id > :after ORDER BY id LIMIT :most) AS next {_IS_KEPT}
    ), gone AS (
        DELETE FROM {{0}} AS dead USING chunk WHERE dead.id = chunk.id AND dead.at = chunk.at AND is_kept IS NULL
        RETURNING dead.*
    ), told AS (
        {_TELL}{_COUNTED}"""
