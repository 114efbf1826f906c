"""What must be true of the rows at every instant, asked of a live database without changing or locking anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Uuid, column, func, select, text
from sqlalchemy.exc import OperationalError

from tracking.admission.rule import Limits
from tracking.db import Database, is_too_slow
from tracking.models import Scope
from tracking.reads import lists, promises, workflow_promises
from tracking.reads.answers import Stats
from tracking.schema import jobs
from tracking.states import ACTIVE, Status

EXAMPLES = 5
CHECK_TIMEOUT = timedelta(seconds=60)
JOBS = 5000  # looked at in one snapshot
FIRST_ID, LAST_ID = UUID(int=0), UUID(int=2**128 - 1)

Found = tuple[int, tuple[str, ...]]  # how many break a check, and the first of them


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    `guarantee` is the number of the promise that it belongs to. `violations` counts the jobs that break it (the
    organizations, for `stats`, workflows, for `workflow_ends`, and partitions, for `weeks`); None means that the check
    did not finish in its time.
    `examples` are the first few ids.
    """

    name: str
    guarantee: int
    sentence: str
    violations: int | None
    examples: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether it was checked and nothing breaks it."""
        return self.violations == 0


@dataclass(frozen=True, slots=True)
class Position:
    """How far the walk over all jobs is: which id is next (None: it is over), how many there were, what was found."""

    next_id: UUID | None = FIRST_ID
    jobs: int = 0
    found: Mapping[str, Found] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Check:
    """One invariant. Of single jobs: `broken`, SQL for the ids of those that break it, by the rows of a range of jobs.

    Of all rows: `find` returns how many break it and the first few of them, or raises TimeoutError.
    """

    name: str
    guarantee: int
    sentence: str
    broken: str = ""
    find: Callable[[Connection, timedelta, Mapping[str, Any]], Found] | None = None


def verify(
    database: Database,
    limits: Limits,
    *,
    kept: timedelta,
    since: datetime | None = None,
    begin: Position | None = None,
    show: Callable[[Position], None] = lambda _: None,
    timeout: timedelta = CHECK_TIMEOUT,
) -> Iterator[Finding]:
    """Check every invariant, read-only: single jobs by thousands, and what is of all rows check by check.

    Each of these is a transaction of its own, on one snapshot, so that no writer makes it see half of a change and no
    snapshot lasts; it may take `timeout`. `limits`: those of the organizations that have none of their own. `kept`: how
    long most jobs are kept. `since`: jobs that have not changed since then are left out. `show` is told how far it is;
    one that was stopped goes on from there when it is given as `begin`.

    The statement timeout of `database` must be the longer one, or its end of patience ends the verification with
    OperationalError.
    """
    position = begin or Position()
    try:
        while position.next_id is not None:
            position = _walk_on(database, position, since, timeout)
            show(position)
    except TimeoutError:
        pass  # the checks of single jobs are not finished then
    parameters = {**promises.PARAMETERS, **limits.parameters, "kept": kept}
    for check in CHECKS:
        if check.find is not None:
            yield _run(database, check, check.find, timeout, parameters)
        else:
            violations, examples = position.found.get(check.name, (0, ()))
            is_unknown = violations == 0 and position.next_id is not None
            yield Finding(check.name, check.guarantee, check.sentence, None if is_unknown else violations, examples)


def count_jobs(database: Database) -> int:
    """About how many jobs a walk passes."""
    estimate = text("SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = CAST('jobs' AS regclass)")
    with database.autocommit() as connection:
        return int(connection.execute(estimate).scalar_one())


def _walk_on(database: Database, position: Position, since: datetime | None, timeout: timedelta) -> Position:
    """Look at the next range of jobs, in one statement."""
    assert position.next_id is not None  # noqa: S101 - what is over is not gone on with
    with _snapshot(database, timeout) as connection:
        following = connection.execute(NEXT, {"first": position.next_id, "most": JOBS}).scalar()
        last = LAST_ID if following is None else UUID(int=following.int - 1)
        within = {"first": position.next_id, "last": last, "since": since, "examples": EXAMPLES}
        # The rows of a range have no statistics, and fit into that memory, if no job has tens of thousands of them.
        _set(connection, enable_nestloop="off", jit="off", work_mem="32MB")
        rows = connection.execute(_of_range(), {**promises.PARAMETERS, **within}).all()
    found = dict(position.found)
    for row in rows:
        violations, examples = found.get(row.name, (0, ()))
        named = (*examples, *map(str, row.examples))[:EXAMPLES]
        found[row.name] = (violations + row.violations, named)
    return replace(position, next_id=following, jobs=position.jobs + JOBS, found=found)


def _of_range() -> Any:
    broken = "\n        UNION ALL\n".join(
        f"SELECT '{check.name}' AS name, job_id FROM ({check.broken}) AS {check.name}"
        for check in CHECKS
        if check.broken
    )
    return text(promises.RANGE.format(broken=broken))


def _run(
    database: Database,
    check: Check,
    find: Callable[[Connection, timedelta, Mapping[str, Any]], Found],
    timeout: timedelta,
    parameters: Mapping[str, Any],
) -> Finding:
    about = (check.name, check.guarantee, check.sentence)
    try:
        with _snapshot(database, timeout) as connection:
            return Finding(*about, *find(connection, timeout, parameters))
    except TimeoutError:
        return Finding(*about, violations=None)


@contextmanager
def _snapshot(database: Database, timeout: timedelta) -> Iterator[Connection]:
    """A read-only transaction on one snapshot. Raises TimeoutError when a statement takes longer than `timeout`."""
    with database.engine.connect() as connection:
        snapshot = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        with snapshot.begin():
            milliseconds = max(1, round(timeout / timedelta(milliseconds=1)))
            # Jobs need the other cores.
            _set(snapshot, max_parallel_workers_per_gather="0", statement_timeout=str(milliseconds))
            try:
                yield snapshot
            except OperationalError as error:
                if is_too_slow(error):
                    raise TimeoutError from error
                raise


def _set(connection: Connection, **options: str) -> None:
    local = {name: func.set_config(name, value, True) for name, value in options.items()}  # noqa: FBT003 - "local"
    connection.execute(select(*local.values()))


def _broken_jobs(connection: Connection, _timeout: timedelta, parameters: Mapping[str, Any], *, sql: str) -> Found:
    broken = text(sql).columns(column("job_id", Uuid)).subquery("broken")
    once = select(broken.c.job_id).distinct().subquery("once")
    found = select(once.c.job_id, func.count().over()).order_by(once.c.job_id).limit(EXAMPLES)
    rows = connection.execute(found, parameters).all()
    return (rows[0][1] if rows else 0), tuple(str(row.job_id) for row in rows)


def _wrong_weeks(connection: Connection, _timeout: timedelta, parameters: Mapping[str, Any]) -> Found:
    rows = connection.execute(text(promises.WEEKS), parameters).scalars().all()
    return len(rows), tuple(rows[:EXAMPLES])


def _wrong_stats(connection: Connection, timeout: timedelta, _parameters: Mapping[str, Any]) -> Found:
    """Compare what the API would answer, read through the indexes, with a count of the table itself."""
    deadline = time.monotonic() + timeout.total_seconds()
    _set(connection, enable_indexscan="off", enable_indexonlyscan="off", enable_bitmapscan="off")
    violations, examples = 0, list[str]()
    with connection.execute(_COUNTED) as counted:
        _set(connection, enable_indexscan="on", enable_bitmapscan="on", enable_seqscan="off")
        for row in counted:
            if time.monotonic() > deadline:
                raise TimeoutError
            if _counts(lists.stats(connection, Scope(row.organization_id, None))) != tuple(row[1:]):
                violations += 1
                examples += [row.organization_id] if len(examples) < EXAMPLES else []
    return violations, tuple(examples)


def _counts(stats: Stats) -> tuple[int, ...]:
    queued = stats.total_active - stats.running - stats.retrying
    return (queued, stats.running, stats.retrying, stats.completed, stats.failed, stats.cancelled, stats.held)


def _count(status: Status) -> Any:
    recently = jobs.c.status.in_(ACTIVE) | (jobs.c.completed_at > func.now() - lists.RECENT_WINDOW)
    return func.count().filter(jobs.c.status == status, recently)


_COUNTED = (
    select(
        jobs.c.organization_id,
        *(_count(status) for status in Status),
        func.count().filter(jobs.c.hold.is_not(None), ~jobs.c.external),
    )
    .group_by(jobs.c.organization_id)
    .execution_options(yield_per=1000)  # organizations at a time
)

NEXT = text("SELECT id FROM jobs WHERE id >= :first ORDER BY id LIMIT 1 OFFSET :most")

CHECKS = (
    Check("created_once", 1, "Every job was created exactly once.", promises.CREATED_ONCE),
    Check("not_lost", 1, "Every job that was accepted still has its row.", promises.NOT_LOST),
    Check("keys", 1, "An idempotency key of a user stands for one job.", find=partial(_broken_jobs, sql=promises.KEYS)),
    Check("held", 2, "No job waits on when what it waited for is over.", find=partial(_broken_jobs, sql=promises.HELD)),
    Check("path", 3, "History has no gap: each row begins where the last one ended.", promises.PATH),
    Check("legal_moves", 3, "Every move is one that is allowed.", promises.LEGAL_MOVES),
    Check("status", 3, "A job's status is the last one in its history.", promises.STATUS),
    Check("one_end", 4, "No attempt and no dispatch ended twice.", promises.ONE_END),
    Check("attempts", 5, "Attempts are numbered 1, 2, 3, one for each claim.", promises.ATTEMPTS),
    Check("fence", 5, "Whatever ran or ended did so under its claim's dispatch.", promises.FENCE),
    Check("cancelled", 6, "No cancelled job started unless it was retried.", promises.CANCELLED),
    Check(
        "limit",
        7,
        "No organization runs more jobs than its limit allows.",
        find=partial(_broken_jobs, sql=promises.LIMIT),
    ),
    Check("progress", 8, "Progress never falls and is 100 only with success.", promises.PROGRESS),
    Check("times", 9, "Created, started, completed: times follow that order.", promises.TIMES),
    Check(
        "bodies",
        16,
        "No job runs without a body, as far as rows tell.",
        find=partial(_broken_jobs, sql=promises.BODIES),
    ),
    Check(
        "workflow_ends",
        2,
        "A workflow is over when its jobs are, and ended as they did.",
        find=partial(_broken_jobs, sql=workflow_promises.ENDS),
    ),
    Check(
        "waited",
        6,
        "No job of a workflow started before what it waits for.",
        find=partial(_broken_jobs, sql=workflow_promises.WAITED),
    ),
    Check("weeks", 3, "History has the partitions that it needs, and no old ones.", find=_wrong_weeks),
    Check("stats", 10, "The counts that the API gives are those of the rows.", find=_wrong_stats),
)
