"""Making a bulk operation, with a row for each job that matches now; and what it would touch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from sqlalchemy import Connection, Uuid, func, insert, literal, select, text
from sqlalchemy.dialects.postgresql import ARRAY

from tracking import audit
from tracking.audit import Deed
from tracking.audited import Action as Audited
from tracking.audited import Outcome as Audit
from tracking.columns import columns_of
from tracking.errors import IdempotencyConflict, InvalidValue, OperationsTaken
from tracking.models import JobRecord, Scope
from tracking.operated import WORKED_ON, State
from tracking.operation_tables import operations, outcomes
from tracking.operations.values import Begun, NewOperation, Operation
from tracking.origins import Origin
from tracking.reads import lists
from tracking.reads.answers import Filters
from tracking.reads.matching import chosen
from tracking.schema import jobs
from tracking.sql import jsonb, listed, own

MOST_JOBS = 250_000  # of an operation: their rows are written in one statement, within its time limit
SAMPLE = 10
KEYS = 0x62756C6B  # "bulk": the space of our locks, of which each organization has one; any constant will do
PATIENCE = 10  # seconds until another operation may have room


def begin(
    connection: Connection,
    new: NewOperation,
    filters: Filters,
    *,
    at_once: int,
    judge: Callable[[Iterable[tuple[str, bool]]], Mapping[str, str]],
    origin: Origin | None,
) -> Begun:
    """Make an operation on the jobs of its scope that match now, in the caller's transaction.

    `judge`: the types that it must refuse, each with its code, of those that it has found, each with whether its work
    is done elsewhere. Raises OperationsTaken when the organization has `at_once` operations already,
    IdempotencyConflict when the key was used for another request, and InvalidValue when more than MOST_JOBS match.
    """
    organization_id = new.scope.organization_id
    connection.execute(LOCK, {"space": KEYS, "organization_id": organization_id})
    existing = _existing(connection, new)
    if existing is not None:
        return Begun(existing, created=False)
    if connection.execute(WORKED, {"organization_id": organization_id}).scalar_one() >= at_once:
        raise OperationsTaken(f"the organization has {at_once} bulk operations already", retry_after=PATIENCE)
    types = _take(connection, new, filters)
    denied = judge(types)
    state = State.CANARY if new.canary else State.RUNNING
    parameters = {
        "id": new.id,
        "organization_id": organization_id,
        "user_id": new.user_id,
        "whose": new.scope.user_id,
        "action": new.action,
        "asked": jsonb(new.asked),
        "priority": new.priority,
        "force": new.force,
        "denied": jsonb(denied),
        "canary": new.canary,
        "state": state,
        "matched": len({*new.named}) or sum(types.values()),
        "idempotency_key": new.idempotency_key,
        "request_hash": new.request_hash,
    }
    operation = Operation.of(connection.execute(BEGIN, parameters).one())
    _tell(connection, operation, origin)
    return Begun(operation, created=True)


def preview(connection: Connection, scope: Scope, filters: Filters) -> tuple[int, Sequence[JobRecord]]:
    """How many jobs match now, at most one more than MOST_JOBS, and the newest of them."""
    columns = [jobs.c.id, jobs.c.created_at]
    found = chosen(connection, scope, filters, columns, MOST_JOBS + 1).cte("found").prefix_with("MATERIALIZED")
    newest = select(found.c.id).order_by(found.c.created_at.desc(), found.c.id.desc()).limit(SAMPLE)
    counted = select(select(func.count()).select_from(found).scalar_subquery(), func.array(newest.scalar_subquery()))
    count, ids = connection.execute(counted).one()
    return count, lists.after(connection, scope, Filters(ids=ids), cursor=None, size=SAMPLE).jobs if ids else ()


def _existing(connection: Connection, new: NewOperation) -> Operation | None:
    key = {"organization_id": new.scope.organization_id, "user_id": new.user_id, "key": new.idempotency_key}
    row = connection.execute(EXISTING, key).first()
    if row is None:
        return None
    if row.request_hash != new.request_hash:
        raise IdempotencyConflict
    return Operation.of(row)


def _take(connection: Connection, new: NewOperation, filters: Filters) -> dict[tuple[str, bool], int]:
    """Write a row for each job that matches or is named; how many match, by type and whether it is done elsewhere."""
    columns = [jobs.c.id, jobs.c.job_type, jobs.c.external]
    # Materialized: of jobs that are in several of the parts, and of more than there may be, both ask for the same.
    found = chosen(connection, new.scope, filters, columns, MOST_JOBS + 1).cte("found").prefix_with("MATERIALIZED")
    matching = select(literal(new.id), found.c.id)
    named = func.unnest(literal([*new.named], ARRAY(Uuid))).column_valued("named")
    rows = matching.union(select(literal(new.id), named)) if new.named else matching
    # Nothing is returned of them: to be seen by who asks, a row must be of an operation, which comes later.
    taken = insert(outcomes).from_select(["operation_id", "job_id"], rows).cte("taken")
    kinds = select(found.c.job_type, found.c.external, func.count().label("jobs"))
    counted = kinds.add_cte(taken).group_by(found.c.job_type, found.c.external)
    types = {(row.job_type, row.external): row.jobs for row in connection.execute(counted)}
    if sum(types.values()) > MOST_JOBS:
        raise InvalidValue(f"more than {MOST_JOBS:,} jobs match: narrow the filter, such as by createdFrom")
    return types


def _tell(connection: Connection, operation: Operation, origin: Origin | None) -> None:
    """The audit: what was begun, and which of it was denied."""
    deed = Deed(
        Audited.BULK,
        operation.user_id,
        operation.organization_id or None,
        target=str(operation.id),
        detail={"action": operation.action, "matched": operation.matched, "asked": operation.asked},
    )
    audit.write(connection, origin, deed)
    for job_type, code in sorted(operation.denied.items()):
        refused = Deed(
            Audited.BULK,
            operation.user_id,
            operation.organization_id or None,
            target=str(operation.id),
            outcome=Audit.DENIED,
            code=code,
            detail={"action": operation.action, "jobType": job_type},
        )
        audit.write(connection, origin, refused)


LOCK = text("SELECT pg_advisory_xact_lock(:space, hashtext(:organization_id))")

WORKED = text(
    f"SELECT count(*) FROM operations WHERE organization_id = :organization_id AND state IN ({listed(WORKED_ON)})"
)

EXISTING = text(
    f"""
    SELECT {columns_of(operations)} FROM operations
    WHERE {own()} AND user_id = :user_id AND idempotency_key = CAST(:key AS text)"""
)

BEGIN = text(
    f"""
    INSERT INTO operations (id, organization_id, user_id, whose, action, asked, priority, force, denied, canary, state,
                            matched, idempotency_key, request_hash)
    VALUES (:id, :organization_id, :user_id, :whose, :action, :asked, :priority, :force, :denied, :canary, :state,
            :matched, :idempotency_key, :request_hash)
    RETURNING {columns_of(operations)}"""
)
