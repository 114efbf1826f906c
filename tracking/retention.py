"""How long finished jobs are kept, and the removal of those that are older."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Self

from sqlalchemy import (
    Connection,
    Select,
    TextClause,
    bindparam,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, array
from sqlalchemy.types import Text, TypeEngine, Uuid

from tracking.audit import AS_ENTRY
from tracking.partitions import WEEK, partitions, rows_are_deleted_until
from tracking.removals import noted
from tracking.schema import groups, jobs
from tracking.settings import Settings
from tracking.sql import in_life
from tracking.states import ACTIVE, Status
from tracking.values import LATEST
from tracking.workflow_tables import workflows

EXTERNAL_KEPT = timedelta(minutes=5)  # a job whose work is done elsewhere, where its result is kept

NOT_SUCCEEDED = [status for status in Status if status is not Status.SUCCEEDED]


@dataclass(frozen=True, slots=True)
class Policy:
    """How long a job is kept after its end: by its status, unless its type has a time of its own."""

    by_status: Mapping[Status, timedelta]
    by_type: Mapping[str, timedelta] = field(default_factory=dict)

    @classmethod
    def configured(cls, settings: Settings) -> Self:
        days = {
            Status.SUCCEEDED: settings.retention_succeeded_days,
            Status.FAILED: settings.retention_failed_days,
            Status.CANCELLED: settings.retention_cancelled_days,
        }
        by_status = {status: timedelta(days=count) for status, count in days.items()}
        return cls(by_status, dict(settings.retention))

    def keep(self, job_type: str, status: Status, *, external: bool = False) -> timedelta:
        """How long a job of this type that ended so is kept; `external`: one whose work was done elsewhere."""
        return self.by_type.get(job_type) or (EXTERNAL_KEPT if external else self.by_status[status])

    @property
    def of_most(self) -> timedelta:
        """For this time most jobs are kept: after it, a week of the history has few rows whose jobs are still there."""
        return self.by_status[Status.SUCCEEDED]

    @property
    def longest(self) -> timedelta:
        """After this time no job is kept."""
        return max([*self.by_status.values(), *self.by_type.values()])


@dataclass(frozen=True, slots=True)
class Kind:
    """Jobs that are kept equally long. `external`: their work was done elsewhere."""

    job_type: str
    status: Status
    external: bool = False


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed, or would be: jobs by kind, their rows of history (None: not counted), canvas groups.

    `more` says that the limit was reached, so that there may be more to remove.
    """

    jobs: Mapping[Kind, int]
    history: int | None
    groups: int
    more: bool

    @property
    def total(self) -> int:
        return sum(self.jobs.values())


def prune(connection: Connection, policy: Policy, *, limit: int | None, dry_run: bool = False) -> Pruned:
    """Remove finished jobs that are older than `policy` keeps them, the oldest first.

    The history of a job goes with it, or, of those that are kept as long as most are, a few days later with its week.
    At most `limit` jobs (None: all), in the caller's transaction, which must be a real one. Jobs that anybody else
    is changing are passed over, and so are a job whose body is still stopping, one that an active job depends on, one
    of a workflow that goes on, and a succeeded one that a chord may still need. `dry_run` only counts, and takes no
    lock.
    """
    remove = _count if dry_run else _remove
    removed: dict[Kind, int] = {}
    traces, left = 0, limit
    for kind in _kinds(connection, policy):
        age = _age(policy, kind)
        until = LATEST if age < max(policy.of_most, WEEK) else None
        count, traces_of_kind = remove(connection, _expired(kind, age, left), kind, until)
        removed |= {kind: count} if count else {}
        traces += traces_of_kind
        left = None if left is None else left - count
        if left == 0:
            break
    forgotten = _forget_groups(connection, policy.longest, limit, dry_run=dry_run)
    return Pruned(removed, None if dry_run else traces, forgotten, more=left == 0 or forgotten == limit)


def _kinds(connection: Connection, policy: Policy) -> Iterator[Kind]:
    """Those of which at least the oldest job is older than it is kept."""
    for row in connection.execute(_KINDS).all():
        kind = Kind(row.job_type, Status(row.status), row.external)
        if row.age > _age(policy, kind):
            yield kind


def _age(policy: Policy, kind: Kind) -> timedelta:
    return policy.keep(kind.job_type, kind.status, external=kind.external)


def _expired(kind: Kind, age: timedelta, limit: int | None) -> Select[str]:
    member = jobs.alias("member")
    unfinished = select(member.c.id).where(member.c.group_id == jobs.c.group_id, member.c.status.in_(NOT_SUCCEEDED))
    dependent = jobs.alias("dependent")
    is_awaited = select(true()).where(
        # Literals, not parameters: only then can the planner use the partial index.
        dependent.c.status.in_([literal(str(status), literal_execute=True) for status in ACTIVE]),
        dependent.c.depends_on != literal_column("'{}'"),
        dependent.c.depends_on.contains(array([jobs.c.id])),
    )
    # Its result may still be asked for, by a job that follows those that follow it.
    in_open_workflow = select(true()).where(workflows.c.id == jobs.c.root_id, workflows.c.completed_at.is_(None))
    needed = [each.limit(1).scalar_subquery() for each in (is_awaited, in_open_workflow)]
    return (
        select(_PLACE)
        .where(jobs.c.job_type == kind.job_type, jobs.c.status == kind.status, jobs.c.external == kind.external)
        .where(jobs.c.completed_at < func.now() - age, ~jobs.c.stopping)
        # A chord counts the successes of its group: they stay while another member may still join them. Not EXISTS:
        # for that the planner may read the whole table once; this asks the index for each row.
        .where(
            or_(
                jobs.c.status != Status.SUCCEEDED,
                jobs.c.group_id.is_(None),
                unfinished.limit(1).scalar_subquery().is_(None),
            )
        )
        # IS NOT TRUE: of IS NULL the planner expects so few rows that it reads and sorts all of them first.
        # Both in one: of each condition more the planner expects half as many rows.
        .where(func.coalesce(*needed).is_not(true()))
        .order_by(jobs.c.completed_at)
        .limit(limit)
    )


def _count(connection: Connection, expired: Select[str], *_: object) -> tuple[int, int]:
    return connection.execute(select(func.count()).select_from(expired.subquery())).scalar_one(), 0


def _remove(connection: Connection, expired: Select[str], kind: Kind, until: datetime | None) -> tuple[int, int]:
    """`until`: up to this time the history goes with its job; None: as far as it lies where rows are deleted."""
    # Two statements: the second one sees what was written to the history until the first one had the locks.
    places = connection.execute(expired.with_for_update(skip_locked=True, of=jobs)).scalars().all()
    # Before the look at the partitions: while it is held, none of them is thinned.
    connection.execute(_KEEP_PARTITIONS)
    until = until or rows_are_deleted_until(partitions(connection)) or LATEST
    return _removed(connection, _DELETE_THERE, places, kind.status, until)


def remove(connection: Connection, ids: Sequence[object], status: Status, *, until: datetime) -> tuple[int, int]:
    """Remove those of the jobs, which the caller has locked, that ended so; how many, and how many rows of history.

    `until`: rows that were written later stay, and go with their week.
    """
    return _removed(connection, _DELETE_THOSE, ids, status, until)


def _removed(
    connection: Connection, delete: TextClause, which: Sequence[object], status: Status, until: datetime
) -> tuple[int, int]:
    if not which:
        return 0, 0
    row = connection.execute(delete, {"which": which, "status": str(status), "until": until}).one()
    return row.jobs, row.history


def _forget_groups(connection: Connection, age: timedelta, limit: int | None, *, dry_run: bool) -> int:
    used = exists().where(jobs.c.group_id == groups.c.id)
    unused = select(groups.c.id).where(groups.c.created_at < func.now() - age, ~used).limit(limit)
    if dry_run:
        return connection.execute(select(func.count()).select_from(unused.subquery())).scalar_one()
    locked = unused.with_for_update(skip_locked=True, of=groups)
    return connection.execute(groups.delete().where(groups.c.id.in_(locked))).rowcount


# One step of the index for each kind, to its oldest job, however many jobs there are of it.
_KINDS = text(
    """
    WITH RECURSIVE kinds AS (
        (SELECT job_type, status, completed_at, external FROM jobs
         WHERE completed_at IS NOT NULL ORDER BY job_type, status, completed_at LIMIT 1)
        UNION ALL
        SELECT next.*
        FROM kinds, LATERAL (
            SELECT job_type, status, completed_at, external FROM jobs
            WHERE completed_at IS NOT NULL AND (job_type, status) > (kinds.job_type, kinds.status)
            ORDER BY job_type, status, completed_at LIMIT 1) AS next
    )
    SELECT job_type, status, external, now() - completed_at AS age FROM kinds"""
)

_KEEP_PARTITIONS = text("LOCK TABLE history IN ROW EXCLUSIVE MODE")


def _delete(which: str, of: TypeEngine[Any]) -> TextClause:
    """Guarded again: should the caller's transaction not hold the locks, a job that is retried meanwhile stays.

    The audit is kept for a time of its own.
    """
    return text(
        f"""
        WITH gone AS (
            DELETE FROM jobs
            WHERE {which} AND status = :status AND completed_at IS NOT NULL AND NOT stopping
            RETURNING id, created_at
        ), traces AS (
            DELETE FROM history USING gone
            WHERE history.job_id = gone.id AND {in_life("gone")} AND at < :until
            RETURNING history.*
        ), kept AS (
            INSERT INTO audit (id, {", ".join(AS_ENTRY)}) SELECT id, {", ".join(AS_ENTRY.values())}
            FROM traces WHERE origin IS NOT NULL
        ), {noted("traces")}
        SELECT (SELECT count(*) FROM gone) AS jobs, (SELECT count(*) FROM traces) AS history"""
    ).bindparams(bindparam("which", type_=ARRAY(of)))


# Where a row lies in its table: it stays there as long as it is locked, and no index has to be asked for it again.
_PLACE = literal_column("CAST(jobs.ctid AS text)", Text)
_DELETE_THERE = _delete("ctid = ANY(CAST(:which AS tid[]))", Text())
_DELETE_THOSE = _delete("id = ANY(:which)", Uuid())
