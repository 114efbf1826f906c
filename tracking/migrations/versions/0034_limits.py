"""Limits of types, of keys and of rates; and weights of organizations.

Writers go on: the constraint is added without a look at the rows, and then checked beside them. A migration that was
killed goes on where it was.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy import text

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

WAITS = "status IN ('queued', 'retrying')"
HOLDS = "'schedule', 'backoff', 'dependency', 'limit', 'organization_limit', 'circuit', 'paused'"
IN_FLIGHT = "(status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping)"
INDEXES = {
    "jobs_limited": "(organization_id, limit_key, job_type, priority DESC, created_at, id) WHERE hold = 'limit'",
    "jobs_in_limit": f"(job_type, organization_id, limit_key) WHERE limit_key IS NOT NULL AND {IN_FLIGHT}",
}
IS_VALID = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")
RANGE = "{0} >= timestamptz '1970-01-01Z' AND {0} < timestamptz '3000-01-01Z'"
KNOWN = "hold IS NULL OR hold = 'external' OR (hold IN ({0}, 'external') AND " + WAITS + ")"

# As tracking/admission/functions.py had them when this was written, and before.
# ruff: noqa: E501
FUNCTIONS = (
    r"""CREATE OR REPLACE FUNCTION room_in(of_organization text, of_queue text, platform_limit int, silence interval)
RETURNS int LANGUAGE plpgsql STABLE AS $$
DECLARE
    most int := coalesce((SELECT concurrency FROM organizations WHERE id = of_organization), platform_limit);
    own int := 2147483647;
    slots int;
    shared text[];
    room int;
    share int;
BEGIN
    IF most > 0 THEN
        own := most - (SELECT count(*) FROM jobs WHERE organization_id = of_organization AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping));
    ELSIF NOT is_contended(of_organization) THEN
        RETURN own;
    END IF;
    IF own <= 0 THEN
        RETURN own;
    END IF;
    SELECT sum(concurrency) FILTER (WHERE number = 1), array_agg(DISTINCT each) INTO slots, shared
    FROM workers CROSS JOIN unnest(queues) WITH ORDINALITY AS consumed (each, number)
    WHERE workers.seen_at > clock_timestamp() - silence AND of_queue = ANY(queues);
    IF slots IS NULL THEN
        RETURN own;
    END IF;
    room := slots - (SELECT count(*) FROM (SELECT FROM jobs WHERE (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND queue = ANY(shared) LIMIT slots)
                     AS taken);
    share := coalesce((SELECT weight FROM organization_weights WHERE organization_id = of_organization), 1);
    IF room < share THEN
        room := greatest(room, share - (SELECT count(*) FROM (
            SELECT FROM jobs WHERE organization_id = of_organization AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND hold IS NULL AND status IN ('queued', 'retrying') AND queue = ANY(shared) LIMIT share)
            AS sent));
    END IF;
    RETURN least(own, room);
END $$""",
    r"""CREATE OR REPLACE FUNCTION free_in(of_queue text, silence interval) RETURNS int LANGUAGE plpgsql STABLE AS $$
DECLARE
    slots int;
    shared text[];
BEGIN
    SELECT sum(concurrency) FILTER (WHERE number = 1), array_agg(DISTINCT each) INTO slots, shared
    FROM workers CROSS JOIN unnest(queues) WITH ORDINALITY AS consumed (each, number)
    WHERE workers.seen_at > clock_timestamp() - silence AND of_queue = ANY(queues);
    RETURN slots - (SELECT count(*) FROM (SELECT FROM jobs WHERE (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND queue = ANY(shared) LIMIT slots)
                    AS taken);
END $$""",
    r"""CREATE OR REPLACE FUNCTION give_way(of_organization text, of_queue text, of_priority int) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    WITH locked AS (
        SELECT id, status AS from_status FROM jobs
        WHERE organization_id = of_organization AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND hold IS NULL AND status IN ('queued', 'retrying') AND queue = of_queue AND priority < of_priority
        ORDER BY priority, created_at DESC, id DESC
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    ), moved AS (
        UPDATE jobs
        SET hold = 'organization_limit', dispatch = dispatch + 1, dispatched_at = NULL, limit_key = NULL,
            updated_at = clock_timestamp()
        FROM locked
        WHERE jobs.id = locked.id
        RETURNING jobs.*, locked.from_status
    )
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status, attempt, dispatch,
                         actor, detail)
    SELECT id, organization_id, user_id, job_type, 'held', from_status, status, attempt, dispatch, 'admission',
           jsonb_build_object('hold', hold, 'reason', 'a more urgent job of the organization')
    FROM moved;
    RETURN FOUND;
END $$""",
)
BEFORE = (
    r"""CREATE OR REPLACE FUNCTION room_in(of_organization text, of_queue text, platform_limit int, silence interval)
RETURNS int LANGUAGE plpgsql STABLE AS $$
DECLARE
    most int := coalesce((SELECT concurrency FROM organizations WHERE id = of_organization), platform_limit);
    own int := 2147483647;
    slots int;
    shared text[];
    room int;
BEGIN
    IF most > 0 THEN
        own := most - (SELECT count(*) FROM jobs WHERE organization_id = of_organization AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping));
    ELSIF NOT is_contended(of_organization) THEN
        RETURN own;
    END IF;
    IF own <= 0 THEN
        RETURN own;
    END IF;
    SELECT sum(concurrency) FILTER (WHERE number = 1), array_agg(DISTINCT each) INTO slots, shared
    FROM workers CROSS JOIN unnest(queues) WITH ORDINALITY AS consumed (each, number)
    WHERE workers.seen_at > clock_timestamp() - silence AND of_queue = ANY(queues);
    IF slots IS NULL THEN
        RETURN own;
    END IF;
    room := slots - (SELECT count(*) FROM (SELECT FROM jobs WHERE (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND queue = ANY(shared) LIMIT slots)
                     AS taken);
    IF room < 1 AND NOT EXISTS (SELECT FROM jobs
                                WHERE organization_id = of_organization AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND hold IS NULL AND status IN ('queued', 'retrying') AND queue = ANY(shared)) THEN
        room := 1;
    END IF;
    RETURN least(own, room);
END $$""",
    r"""CREATE OR REPLACE FUNCTION give_way(of_organization text, of_queue text, of_priority int) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    WITH locked AS (
        SELECT id, status AS from_status FROM jobs
        WHERE organization_id = of_organization AND (status IN ('queued', 'running', 'retrying') AND hold IS NULL OR stopping) AND hold IS NULL AND status IN ('queued', 'retrying') AND queue = of_queue AND priority < of_priority
        ORDER BY priority, created_at DESC, id DESC
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    ), moved AS (
        UPDATE jobs
        SET hold = 'organization_limit', dispatch = dispatch + 1, dispatched_at = NULL,
            updated_at = clock_timestamp()
        FROM locked
        WHERE jobs.id = locked.id
        RETURNING jobs.*, locked.from_status
    )
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status, attempt, dispatch,
                         actor, detail)
    SELECT id, organization_id, user_id, job_type, 'held', from_status, status, attempt, dispatch, 'admission',
           jsonb_build_object('hold', hold, 'reason', 'a more urgent job of the organization')
    FROM moved;
    RETURN FOUND;
END $$""",
)


def upgrade() -> None:
    _create_tables()
    op.add_column(
        "jobs",
        sa.Column("limit_key", sa.Text, comment="of the payload, '' = none; null = it was not looked at for a limit"),
        if_not_exists=True,
    )
    for function in FUNCTIONS:
        op.execute(function)
    op.execute("ALTER TABLE jobs DROP CONSTRAINT IF EXISTS jobs_hold_known")
    op.execute(f"ALTER TABLE jobs ADD CONSTRAINT jobs_hold_known CHECK ({KNOWN.format(HOLDS)}) NOT VALID")
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE jobs VALIDATE CONSTRAINT jobs_hold_known")
        for name, definition in INDEXES.items():
            if op.get_bind().execute(IS_VALID, {"name": name}).scalar() is not True:
                op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
                op.execute(f"CREATE INDEX CONCURRENTLY {name} ON jobs {definition}")


def _changed(table: str) -> tuple[sa.Column[object] | sa.CheckConstraint, ...]:
    return (
        sa.Column("changed_by", sa.Text, nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
        sa.CheckConstraint(RANGE.format("changed_at"), name=f"{table}_times_range"),
    )


def _create_tables() -> None:
    op.create_table(
        "organization_weights",
        sa.Column("organization_id", sa.Text, primary_key=True),
        sa.Column("weight", sa.SmallInteger, nullable=False, comment="jobs that it has served while another has one"),
        *_changed("organization_weights"),
        sa.CheckConstraint("weight BETWEEN 1 AND 100", name="organization_weights_range"),
        if_not_exists=True,
    )
    op.create_table(
        "job_limits",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("organization_id", sa.Text, comment="null = all of them"),
        sa.Column("job_type", sa.Text, comment="null = all of them, together"),
        sa.Column("per", sa.Text, nullable=False, comment="what has a count of its own"),
        sa.Column("key_path", sa.Text, comment="where the payload has the key, such as account.id"),
        sa.Column("concurrency", sa.Integer, comment="jobs that may execute at once; null = any number"),
        sa.Column("rate", sa.Integer, comment="jobs that may be sent in each period; null = any number"),
        sa.Column("period", sa.Interval, comment="of the rate"),
        *_changed("job_limits"),
        sa.UniqueConstraint(
            "job_type", "organization_id", "per", name="job_limits_once", postgresql_nulls_not_distinct=True
        ),
        sa.CheckConstraint("per IN ('platform', 'organization', 'key')", name="job_limits_per_known"),
        sa.CheckConstraint(
            "per <> 'platform' OR organization_id IS NULL AND job_type IS NOT NULL", name="job_limits_platform"
        ),
        sa.CheckConstraint("(per = 'key') = (key_path IS NOT NULL)", name="job_limits_key"),
        sa.CheckConstraint("per <> 'key' OR job_type IS NOT NULL", name="job_limits_key_of_type"),
        sa.CheckConstraint("job_type IS NOT NULL OR concurrency IS NULL", name="job_limits_of_organization"),
        sa.CheckConstraint("concurrency > 0 AND rate > 0", name="job_limits_range"),
        sa.CheckConstraint("(rate IS NULL) = (period IS NULL) AND period > interval '0'", name="job_limits_period"),
        if_not_exists=True,
    )
    op.create_table(
        "limit_admissions",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("limit_id", sa.Uuid, sa.ForeignKey("job_limits.id", ondelete="CASCADE"), nullable=False),
        sa.Column("organization_id", sa.Text, nullable=False, comment="'' = of all of them together"),
        sa.Column("key", sa.Text, nullable=False, comment="'' = of all of them together"),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(RANGE.format("expires_at"), name="limit_admissions_times_range"),
        sa.Index("limit_admissions_counted", "limit_id", "organization_id", "key", "expires_at"),
        sa.Index("limit_admissions_expired", "expires_at"),
        if_not_exists=True,
    )
    op.create_table(
        "limit_turns",
        sa.Column("organization_id", sa.Text, primary_key=True),
        sa.Column("limit_id", sa.Uuid, sa.ForeignKey("job_limits.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("served_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
        sa.CheckConstraint(RANGE.format("served_at"), name="limit_turns_times_range"),
        if_not_exists=True,
    )


def downgrade() -> None:
    """Undo: what waited for a limit is let through."""
    op.execute(
        """
        WITH moved AS (
            UPDATE jobs SET hold = 'organization_limit', updated_at = clock_timestamp() WHERE hold = 'limit' RETURNING *
        )
        INSERT INTO history (job_id, organization_id, user_id, job_type, event, from_status, to_status,
                             attempt, dispatch, actor, detail)
        SELECT id, organization_id, user_id, job_type, 'due', status, status, attempt, dispatch, 'admission',
               jsonb_build_object('hold', 'limit', 'next', hold)
        FROM moved"""
    )
    for function in BEFORE:
        op.execute(function)
    op.execute("DROP FUNCTION free_in(text, interval)")
    op.drop_constraint("jobs_hold_known", "jobs")
    op.create_check_constraint("jobs_hold_known", "jobs", KNOWN.format(HOLDS.replace("'limit', ", "", 1)))
    op.drop_column("jobs", "limit_key")
    for table in ("limit_turns", "limit_admissions", "job_limits", "organization_weights"):
        op.drop_table(table)
