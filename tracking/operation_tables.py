"""The tables of bulk operations; they belong to those of schema.py."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Index, Integer, SmallInteger, Table, Text, Uuid, false, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import Boolean

from tracking.columns import EMPTY_OBJECT, INSTANT, metadata, once_by_key, one_of, vacuumed_after
from tracking.operated import WORKED_ON, Action, Outcome, State

operations = Table(
    "operations",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("organization_id", Text, nullable=False),
    Column("user_id", Text, nullable=False, comment="who has asked for it"),
    Column("whose", Text, comment="whose jobs; null = those of the whole organization"),
    Column("action", Text, nullable=False),
    Column("asked", JSONB, nullable=False, server_default=EMPTY_OBJECT, comment="the filter, or how many ids"),
    Column("priority", SmallInteger, comment="that the jobs get; null = their own"),
    Column("force", Boolean, nullable=False, server_default=false()),
    Column("denied", JSONB, nullable=False, server_default=EMPTY_OBJECT, comment="types refused, each with its code"),
    Column("canary", Integer, comment="how many are retried first; null = there is no canary"),
    Column("canary_until", INSTANT, comment="when these must have ended; null = not all are retried yet"),
    Column("state", Text, nullable=False),
    Column("reason", Text, comment="why it has stopped"),
    Column("matched", Integer, nullable=False),
    Column("succeeded", Integer, nullable=False, server_default=text("0")),
    Column("refused", Integer, nullable=False, server_default=text("0")),
    Column("failed", Integer, nullable=False, server_default=text("0")),
    Column("worked_to", Uuid, comment="of this round, the last job; null = it begins"),
    Column("worked_at", INSTANT, comment="when it had its last turn"),
    Column("due_at", INSTANT, nullable=False, server_default=func.clock_timestamp(), comment="of its next turn"),
    Column("idempotency_key", Text),
    Column("request_hash", Text),
    Column("created_at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
    Column("updated_at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
    Column("completed_at", INSTANT),
    CheckConstraint(one_of("action", Action), name="operations_action_known"),
    CheckConstraint(one_of("state", State), name="operations_state_known"),
    CheckConstraint("succeeded + refused + failed <= matched", name="operations_counted"),
    CheckConstraint(f"(completed_at IS NULL) = ({one_of('state', WORKED_ON)})", name="operations_completed"),
    # list
    Index("operations_listed", "organization_id", "created_at", "id"),
    # the leader: whose turn it is; and how many an organization has
    Index("operations_worked_on", "organization_id", postgresql_where=text(one_of("state", WORKED_ON))),
    once_by_key("operations"),
    # retention
    Index("operations_completed_at", "completed_at", postgresql_where=text("completed_at IS NOT NULL")),
    postgresql_with=vacuumed_after(1000),
)

# No foreign keys: an outcome outlives its job.
outcomes = Table(
    "operation_jobs",
    metadata,
    Column("operation_id", Uuid, primary_key=True),
    Column("job_id", Uuid, primary_key=True),
    Column("outcome", Text, comment="null = it was not done yet"),
    Column("code", Text, comment="why not"),
    Column("detail", Text, comment="the same in words"),
    Column("is_canary", Boolean, nullable=False, server_default=false()),
    Column("at", INSTANT),
    CheckConstraint(f"outcome IS NULL OR {one_of('outcome', Outcome)}", name="operation_jobs_outcome_known"),
    # a canary: how they have ended
    Index("operation_jobs_canary", "operation_id", postgresql_where=text("is_canary")),
    # Each row changes once, when its outcome is known: leave room for that on its page.
    postgresql_with={"fillfactor": "60", **vacuumed_after(20_000)},
)
