"""The table of what people have said of errors, and the indexes of failed jobs; they belong to those of schema.py."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import CheckConstraint, Column, Index, Table, Text, func, text

from tracking.columns import INSTANT, metadata, one_of


class Marked(StrEnum):
    """What people say of failures with one fingerprint. RESOLVED: of those until then; IGNORED: of later ones too."""

    RESOLVED = "resolved"
    IGNORED = "ignored"


error_marks = Table(
    "error_marks",
    metadata,
    Column("organization_id", Text, primary_key=True),
    Column("fingerprint", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("marked_by", Text, nullable=False),
    Column("marked_at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint(one_of("state", Marked), name="error_marks_known"),
)

IS_FAILED = "status = 'failed'"

# Of the table of jobs. Only a job that fails has an entry in them; no column of them is changed by a report.
OF_FAILED_JOBS = (
    # the groups of errors of some time, without a look at the rows
    Index(
        "jobs_failed",
        *("organization_id", "completed_at", "id"),
        postgresql_include=["fingerprint", "user_id", "job_type", "project_id"],
        postgresql_where=text(IS_FAILED),
    ),
    # the list of one group; how many there are, and since when
    Index(
        "jobs_alike",
        *("organization_id", "fingerprint", "created_at", "id"),
        postgresql_include=["completed_at", "user_id"],
        postgresql_where=text(IS_FAILED),
    ),
    # upkeep: what failed before fingerprints were taken, or by a worker that takes none
    Index("jobs_unprinted", "id", postgresql_where=text(f"{IS_FAILED} AND fingerprint IS NULL")),
)
