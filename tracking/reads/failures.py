"""Groups of jobs that failed alike, by their fingerprints: how many, since when, whose, and one of them to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, TextClause, text

from tracking.error_tables import IS_FAILED, Marked
from tracking.models import Scope
from tracking.sql import SCOPE

MOST_READ = 10_000  # failures, the latest ones, from which the groups are made
MOST_OF_EACH = 1_000  # the same of each organization, where those of all are asked for
MOST_KEPT = 10_000  # jobs of a group that are counted
SHOWN = 5  # organizations of a group that are named
SLICES = 24  # of the window, with a count each


class Standing(StrEnum):
    """Which failures: those that nobody has marked, or that came after they were resolved; or those that were."""

    OPEN = "open"
    RESOLVED = str(Marked.RESOLVED)
    IGNORED = str(Marked.IGNORED)


@dataclass(frozen=True, slots=True)
class Group:
    """Failures with one fingerprint. `count`, `users`, `counts` and `last_seen` are of the window.

    `message`: the shape of what they say; `sample`: the latest job, with what that one says. `failed`: jobs that stand
    as failed now, which a retry of the group takes; `failed_is_capped`: there are more. `organizations`: the first of
    `of_organizations`. `marked_at` None: the latest failure is in an organization where nobody has marked the group.
    """

    fingerprint: str
    job_type: str
    error_type: str | None
    message: str | None
    count: int
    counts: Sequence[int]
    users: int
    of_organizations: int
    organizations: Sequence[str]
    first_seen: datetime
    last_seen: datetime
    sample: UUID
    sample_message: str | None
    failed: int
    failed_is_capped: bool
    marked_by: str | None
    marked_at: datetime | None


@dataclass(frozen=True, slots=True)
class Groups:
    """The groups of a window that begins at `since`, most failures first; `total`: with those that are not shown.

    `is_capped`: there were more failures in it than were read, of which the latest are counted.
    """

    since: datetime
    width: timedelta
    groups: Sequence[Group]
    total: int
    is_capped: bool


def groups(
    connection: Connection,
    scope: Scope,
    *,
    window: timedelta,
    standing: Standing,
    size: int,
    job_type: str | None = None,
    project_id: str | None = None,
) -> Groups:
    """The groups of what failed in scope within the window."""
    everywhere = scope.is_everywhere
    parameters: Mapping[str, Any] = {
        **scope.parameters,
        "width": window / SLICES,
        "last": SLICES - 1,
        "standing": str(standing),
        "job_type": job_type,
        "project_id": project_id,
        "size": size,
        "read": MOST_READ,
        "of_each": MOST_OF_EACH,
        "kept": MOST_OF_EACH if everywhere else MOST_KEPT,
    }
    found = connection.execute(GROUPS_EVERYWHERE if everywhere else GROUPS, parameters).all()
    head = found[0]
    shown = [_group(row) for row in found if row.fingerprint is not None]
    return Groups(head.since, window / SLICES, shown, head.total, head.is_capped)


def fingerprint_of(connection: Connection, job_id: UUID) -> str | None:
    """That of a job which has failed, None of any other. The caller checks who may see the job."""
    found: str | None = connection.execute(FINGERPRINT_OF, {"id": job_id}).scalar()
    return found


def _group(row: Any) -> Group:
    counts = [0] * SLICES
    for place, number in row.counted:
        counts[place] = number
    names = {name: getattr(row, name) for name in Group.__dataclass_fields__ if name != "counts"}
    return Group(**names, counts=counts)


FINGERPRINT_OF = text(f"SELECT fingerprint FROM jobs WHERE id = :id AND {IS_FAILED}")

# Parts begin at round times, as those of a chart.
_NEWEST = "date_bin(CAST(:width AS interval), now(), timestamptz '2000-01-01Z')"
_SINCE = f"{_NEWEST} - :last * CAST(:width AS interval)"

# A mark that was set when a group was resolved says nothing of what failed later.
_STANDING = f"""CASE WHEN state IS NULL OR state = '{Marked.RESOLVED}' AND completed_at > marked_at
                             THEN '{Standing.OPEN}' ELSE state END"""

# All of it is in the index; so are the columns that the caller's scope asks for.
_FAILED = f"""
        SELECT jobs.organization_id, jobs.fingerprint, completed_at, id, user_id
        FROM jobs LEFT JOIN error_marks USING (organization_id, fingerprint)
        WHERE {{whose}} AND {IS_FAILED} AND jobs.fingerprint IS NOT NULL AND completed_at >= {_SINCE}
          AND (CAST(:job_type AS text) IS NULL OR job_type = :job_type)
          AND (CAST(:project_id AS text) IS NULL OR project_id = :project_id)
          AND {_STANDING} = :standing
        ORDER BY completed_at DESC, id DESC
        LIMIT {{most}}"""

_OF_ONE = _FAILED.format(whose=SCOPE.replace("organization_id =", "jobs.organization_id ="), most=":read + 1")

# Of each organization what its own index answers, by one probe to find the next organization.
_OF_ALL = f"""
        SELECT theirs.*
        FROM whose CROSS JOIN LATERAL ({_FAILED.format(whose="jobs.organization_id = whose.id", most=":of_each + 1")}
        ) AS theirs
        ORDER BY completed_at DESC, theirs.id DESC
        LIMIT :read + 1"""
_WHOSE = f"""RECURSIVE whose AS (
        SELECT min(organization_id) AS id FROM jobs WHERE {IS_FAILED}
        UNION ALL
        SELECT (SELECT min(organization_id) FROM jobs WHERE {IS_FAILED} AND organization_id > whose.id)
        FROM whose WHERE id IS NOT NULL
    ), """


def _groups(failed: str, is_capped: str, whose: str = "") -> TextClause:
    """`failed`: SQL for the latest failures. Whatever is found, the first row says what is true of all of it."""
    return text(
        f"""
    WITH {whose}failed AS MATERIALIZED ({failed}
    ), alike AS (
        SELECT fingerprint, count(*) AS count, count(DISTINCT (organization_id, user_id)) AS users,
               max(completed_at) AS last_seen, (array_agg(id ORDER BY completed_at DESC, id DESC))[1] AS sample,
               array_agg(DISTINCT organization_id) AS whose
        FROM failed GROUP BY fingerprint
    ), shown AS (
        SELECT * FROM alike ORDER BY count DESC, last_seen DESC, fingerprint LIMIT :size
    ), parts AS (
        SELECT fingerprint, json_agg(json_build_array(place, number)) AS counted
        FROM (SELECT fingerprint, count(*) AS number,
                     floor(extract(EPOCH FROM completed_at - ({_SINCE})) / extract(EPOCH FROM CAST(:width AS interval)))
                     ::int AS place
              FROM failed JOIN shown USING (fingerprint)
              GROUP BY 1, 3) AS counted
        GROUP BY fingerprint
    )
    SELECT {_SINCE} AS since, (SELECT count(*) FROM alike) AS total, {is_capped} AS is_capped,
           shown.*, jobs.job_type, jobs.error_type, error_shape(jobs.error_message) AS message,
           jobs.error_message AS sample_message, counted, cardinality(whose) AS of_organizations,
           whose[1:{SHOWN}] AS organizations, kept.first_seen, kept.failed, kept.is_capped AS failed_is_capped,
           marked_by, marked_at
    FROM (SELECT) AS always
    LEFT JOIN (shown JOIN parts USING (fingerprint) JOIN jobs ON jobs.id = sample
               LEFT JOIN error_marks ON error_marks.organization_id = jobs.organization_id
                                     AND error_marks.fingerprint = jobs.fingerprint) ON true
    LEFT JOIN LATERAL (
        SELECT min(since) AS first_seen, sum(least(number, :kept))::int AS failed, bool_or(number > :kept) AS is_capped
        FROM unnest(whose) AS theirs (id) CROSS JOIN LATERAL (
            SELECT count(*) AS number, min(completed_at) AS since
            FROM (SELECT completed_at FROM jobs AS same
                  WHERE same.organization_id = theirs.id AND same.fingerprint = shown.fingerprint AND {IS_FAILED}
                    AND (CAST(:user_id AS text) IS NULL OR same.user_id = :user_id)
                  ORDER BY created_at, id LIMIT :kept + 1) AS oldest) AS counted
    ) AS kept ON shown.fingerprint IS NOT NULL
    ORDER BY count DESC, last_seen DESC, shown.fingerprint"""
    )


GROUPS = _groups(_OF_ONE, "(SELECT count(*) FROM failed) > :read")
GROUPS_EVERYWHERE = _groups(
    _OF_ALL,
    """((SELECT count(*) FROM failed) > :read
            OR EXISTS (SELECT FROM failed GROUP BY organization_id HAVING count(*) > :of_each))""",
    _WHOSE,
)
