"""The tables of what happens to workflows and schedules, and of what was removed; they belong to those of schema.py.

Jobs have their history.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Table, Text, Uuid, func
from sqlalchemy.dialects.postgresql import JSONB

from tracking.columns import EMPTY_OBJECT, INSTANT, metadata, one_of


class EventType(StrEnum):
    """What happens to a workflow, or to a due time of a schedule."""

    WORKFLOW_STARTED = "workflow.started"
    WORKFLOW_COMPLETED = "workflow.completed"
    WORKFLOW_FAILED = "workflow.failed"
    WORKFLOW_CANCELLED = "workflow.cancelled"
    SCHEDULE_FIRED = "schedule.fired"
    SCHEDULE_SKIPPED = "schedule.skipped"
    SCHEDULE_FAILED = "schedule.failed"

    @property
    def is_of_workflow(self) -> bool:
        """Whether its subject is a workflow."""
        return self.startswith("workflow.")


# Its ids are of the sequence of the history: who follows both has one order, and one place to go on from.
events = Table(
    "events",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
    Column("organization_id", Text, nullable=False),
    Column("user_id", Text, nullable=False, comment="whose workflow or schedule it is"),
    Column("project_id", Text),
    Column("job_type", Text, comment="that a schedule makes; null = of a workflow"),
    Column("event", Text, nullable=False),
    Column("subject_id", Uuid, nullable=False, comment="the workflow or schedule"),
    Column("detail", JSONB, nullable=False, server_default=EMPTY_OBJECT),
    CheckConstraint(one_of("event", EventType), name="events_known"),
    # a stream that comes back
    Index("events_by_organization", "organization_id", "id"),
    # retention
    Index("events_aged", "at"),
)

# Notes of removals, of the history as well. Rows are added and removed, never changed: nobody waits for another's.
removals = Table(
    "removals",
    metadata,
    Column("organization_id", Text, comment="null = of any, before there were notes"),
    Column("last_id", BigInteger, nullable=False, comment="of the rows that were removed the highest id"),
    # a stream that comes back
    Index("removals_by_organization", "organization_id", "last_id"),
)
