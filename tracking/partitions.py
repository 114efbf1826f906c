"""The weeks of the history: a partition each, made ahead, so that those of long ago can be dropped.

A row lies in the week of its `at`. What no week is there for lies in a default partition. What was written before the
history had weeks is one partition without a beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, text

# Jobs are kept 30 and 90 days by default: 13 weeks are few enough for a plan, which takes 65 us longer for each, and
# the rows of a job that is gone are there for a week longer at most.
WEEK = timedelta(days=7)
AHEAD = 4  # weeks that are there before they begin: for so long no leader need be there
MOST_MOVED = 20_000  # rows of the default partition that are moved into their week while everybody waits
LOCK_TIMEOUT = "200ms"  # whoever asks for the history after us waits as long as we do
DEFAULT = "history_default"


class TooManyRows(Exception):
    """The default partition has more rows of one week than can be moved while others wait."""


@dataclass(frozen=True, slots=True)
class Partition:
    """One of the history's. `since` None: it has whatever is older than `until`.

    `thinned_at`: when it was made anew without the rows of removed jobs; None: it has all that was written to it.
    """

    name: str
    since: datetime | None
    until: datetime
    thinned_at: datetime | None

    @property
    def loses_rows(self) -> bool:
        """Whether the rows of a job are deleted with it; of others, they go when the partition is thinned."""
        return self.since is None or self.thinned_at is not None


def partitions(connection: Connection) -> Sequence[Partition]:
    """All but the default, the oldest first."""
    return [Partition(**row._mapping) for row in connection.execute(PARTITIONS)]  # noqa: SLF001 - a public name


def rows_are_deleted_until(found: Sequence[Partition]) -> datetime | None:
    """Up to this time the rows of a removed job are deleted with it; None: whenever they were written."""
    until = found[0].since if found else None
    for partition in found:
        if not partition.loses_rows:
            return until
        until = partition.until
    return None


def missing(connection: Connection) -> Sequence[datetime]:
    """The Mondays of the weeks that should be there and are not: from this one on, and of rows that have none."""
    return connection.execute(MISSING, {"ahead": AHEAD}).scalars().all()


def add(connection: Connection, since: datetime) -> int:
    """Make the partition of the week from `since` on, in the caller's transaction; how many rows it got.

    Writers of other weeks go on. Raises TooManyRows, or SQLAlchemyError when a lock cannot be had at once: readers of
    the history have locked its default partition.
    """
    name, bounds = f"history_{since.astimezone(UTC):%Y%m%d}", {"since": since, "until": since + WEEK}
    be_brief(connection)
    connection.execute(text("LOCK TABLE history IN SHARE UPDATE EXCLUSIVE MODE"))  # one at a time
    create(connection, name)
    moved = 0
    if connection.execute(HAS_ROWS, bounds).scalar_one():
        # A reader that has its plan already would look for these rows where they are no more.
        connection.execute(text("LOCK TABLE history IN ACCESS EXCLUSIVE MODE"))
        if connection.execute(ROWS, {**bounds, "most": MOST_MOVED + 1}).scalar_one() > MOST_MOVED:
            raise TooManyRows
        moved = connection.execute(text(MOVE.format(name)), bounds).rowcount
    within = f"FROM ('{since.isoformat()}') TO ('{(since + WEEK).isoformat()}')".replace(":", r"\:")  # no parameters
    connection.execute(text(f"ALTER TABLE history ATTACH PARTITION {name} FOR VALUES {within}"))
    return moved


def create(connection: Connection, name: str) -> None:
    """Make a table like the history, with its indexes, that is no part of it yet."""
    connection.execute(text(f"DROP TABLE IF EXISTS {name}"))
    connection.execute(
        text(f"CREATE TABLE {name} (LIKE history INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES)")
    )


def be_brief(connection: Connection) -> None:
    """Let this transaction give up a lock that it does not get at once."""
    connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))


# A bound is written as in FOR VALUES FROM ('2026-11-23 00:00:00+00') TO (...), in the time zone of the session.
PARTITIONS = text(
    r"""
    SELECT relname AS name, CAST((regexp_match(bound, 'FROM \(''([^'']+)''\)'))[1] AS timestamptz) AS since,
           CAST((regexp_match(bound, 'TO \(''([^'']+)''\)'))[1] AS timestamptz) AS until,
           CAST(substring(obj_description(pg_class.oid, 'pg_class') FROM 'thinned (.+)') AS timestamptz) AS thinned_at
    FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid, pg_get_expr(relpartbound, pg_class.oid) AS bound
    WHERE inhparent = CAST('history' AS regclass) AND bound <> 'DEFAULT'
    ORDER BY until"""
)

_PART = PARTITIONS.text.replace("ORDER BY until", "")
_MONDAY = "date_trunc('week', {0} AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'"

# What lies in the default and is older than every partition stays there: its clock was wrong.
MISSING = text(
    f"""
    WITH part AS ({_PART}), wanted AS (
        SELECT {_MONDAY.format("now()")} + week * interval '7 days' AS monday
        FROM generate_series(0, CAST(:ahead AS int)) AS week
        UNION
        SELECT {_MONDAY.format("at")} FROM {DEFAULT} WHERE at >= (SELECT min(coalesce(since, until)) FROM part)
    )
    SELECT monday FROM wanted
    WHERE NOT EXISTS (SELECT FROM part WHERE monday < until AND monday >= coalesce(since, '-infinity'))
    ORDER BY monday"""
)

_OF_WEEK = "at >= :since AND at < :until"
HAS_ROWS = text(f"SELECT EXISTS (SELECT FROM {DEFAULT} WHERE {_OF_WEEK})")
ROWS = text(f"SELECT count(*) FROM (SELECT FROM {DEFAULT} WHERE {_OF_WEEK} LIMIT :most) AS found")
MOVE = f"""
    WITH moved AS (DELETE FROM {DEFAULT} WHERE {_OF_WEEK} RETURNING *)
    INSERT INTO {{}} SELECT * FROM moved"""
