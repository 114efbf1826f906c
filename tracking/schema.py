"""The tables. Every index says which read it is for."""

from __future__ import annotations

from sqlalchemy import (
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    Interval,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    false,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.types import BigInteger, Boolean

from tracking.access_tables import tickets
from tracking.collection_tables import collections
from tracking.columns import EMPTY_OBJECT, INSTANT, once_by_key, one_of, vacuumed_after
from tracking.error_tables import OF_FAILED_JOBS, error_marks
from tracking.event_tables import events
from tracking.file_tables import files
from tracking.limit_tables import organizations
from tracking.operation_tables import operations
from tracking.schedule_tables import schedules
from tracking.states import ACTIVE, WAITING, Hold, Status
from tracking.template_tables import template_versions
from tracking.total_tables import totals
from tracking.type_tables import external_types
from tracking.values import EARLIEST, LATEST
from tracking.view_tables import saved_views
from tracking.webhook_tables import webhooks
from tracking.workflow_tables import workflow_jobs

# A table of each file that has others: whoever asks for the whole schema gets it from here.
ELSEWHERE = (
    *(tickets, operations, schedules, template_versions, webhooks, saved_views, external_types),
    *(workflow_jobs, organizations, files, collections, totals, events, error_marks),
)
metadata = ELSEWHERE[0].metadata

IS_ACTIVE = text(one_of("status", ACTIVE))
IS_WAITING = one_of("status", WAITING)
# A job that holds one of its organization's slots: it was sent or runs, or it was cancelled and its body still runs.
IN_FLIGHT = f"({one_of('status', ACTIVE)} AND hold IS NULL OR stopping)"
# A job that was sent and waits, or is in line: those of several organizations compete for the workers of its queue.
COMPETES = f"({IS_WAITING} AND (hold IS NULL OR hold = 'organization_limit'))"

jobs = Table(
    "jobs",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column(
        "dispatch",
        Integer,
        nullable=False,
        server_default=text("1"),
        comment="number of the current dispatch; fences older ones out",
    ),
    Column("organization_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("project_id", Text),
    Column("job_type", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("hold", Text, comment="what a waiting job waits for; null = sent, or about to be"),
    Column("due_at", INSTANT, comment="when a schedule or backoff hold ends"),
    Column("priority", SmallInteger, nullable=False, server_default=text("0"), comment="0-9, higher is more urgent"),
    Column("sent_priority", SmallInteger, comment="of its message at the broker; null = its own"),
    Column("queue", Text, nullable=False),
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("retry_count", Integer, nullable=False, server_default=text("0")),
    Column("max_retries", Integer, nullable=False),
    Column("losses", Integer, nullable=False, server_default=text("0"), comment="workers lost while running it"),
    Column("payload", JSONB, nullable=False, server_default=EMPTY_OBJECT),
    Column("metadata", JSONB, nullable=False, server_default=EMPTY_OBJECT),
    Column("delivery", JSONB, nullable=False, server_default=EMPTY_OBJECT, comment="how to send it again exactly"),
    Column("parent_id", Uuid),
    Column("root_id", Uuid),
    Column("group_id", Text),
    Column("group_index", Integer),
    Column("result", JSONB),
    Column("typed_result", JSONB, comment="the same in Celery's JSON, when that names types that JSON lacks"),
    Column("error_type", Text),
    Column("error_message", Text),
    Column("fingerprint", Text, comment="of a job that failed: the same for those that failed alike"),
    Column("message", Text),
    Column("progress", SmallInteger, nullable=False, server_default=text("0"), comment="percent"),
    Column("progress_detail", JSONB),
    Column("current_step", Integer, nullable=False, server_default=text("0")),
    Column("total_steps", Integer, nullable=False, server_default=text("0")),
    Column("circuit_key", Text, nullable=False, server_default=text("''"), comment="named by its handler; '' = none"),
    Column("limit_key", Text, comment="of the payload, '' = none; null = it was not looked at for a limit"),
    Column("worker", Text, comment="name of the worker of the last attempt"),
    Column("lease", Uuid, comment="that worker's row in workers"),
    Column("claim_id", Uuid, comment="one per delivery, so that a claim whose reply was lost can be asked again"),
    Column("stopping", Boolean, nullable=False, server_default=false(), comment="cancelled, its body not yet over"),
    Column("external", Boolean, nullable=False, server_default=false(), comment="its work is done elsewhere"),
    Column("depends_on", ARRAY(Uuid), nullable=False, server_default=text("'{}'"), comment="jobs to end first"),
    Column("depends_when", ARRAY(Text), comment="which end of each of them it waits for; null = success"),
    Column("unresolved", Boolean, nullable=False, server_default=false(), comment="its payload names results"),
    Column("follows", Uuid, comment="the job with whose result this one will be called; null = it was, or has none"),
    Column("follows_group", Text, comment="the same of the canvas group whose results it will be called with"),
    Column("retry_of", Uuid, comment="the job that this one repeats with another payload"),
    Column("idempotency_key", Text),
    Column("request_hash", Text),
    Column("scheduled_at", INSTANT, comment="when its submitter wanted it to start"),
    Column("dispatched_at", INSTANT, comment="when the broker confirmed the current dispatch"),
    Column("cancel_requested_at", INSTANT),
    Column("cancel_seen_at", INSTANT, comment="when the worker that ran it heard of that"),
    Column("started_at", INSTANT, comment="of the last attempt"),
    Column("completed_at", INSTANT),
    Column("created_at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
    Column("updated_at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint(one_of("status", Status), name="jobs_status_known"),
    CheckConstraint(
        f"hold IS NULL OR hold = '{Hold.EXTERNAL}' OR ({one_of('hold', Hold)} AND {IS_WAITING})",
        name="jobs_hold_known",
    ),
    # With that hold, and only with it, is it neither sent nor in a slot.
    CheckConstraint(
        f"(coalesce(hold, '') = '{Hold.EXTERNAL}') = (external AND {one_of('status', ACTIVE)})",
        name="jobs_external_held",
    ),
    CheckConstraint("priority BETWEEN 0 AND 9", name="jobs_priority_range"),
    CheckConstraint("progress BETWEEN 0 AND 100", name="jobs_progress_range"),
    CheckConstraint("(progress = 100) = (status = 'succeeded')", name="jobs_progress_complete"),
    CheckConstraint(f"(completed_at IS NULL) = ({one_of('status', ACTIVE)})", name="jobs_completed_when_finished"),
    CheckConstraint("status <> 'running' OR started_at IS NOT NULL", name="jobs_started_when_running"),
    CheckConstraint("started_at >= created_at", name="jobs_started_after_created"),
    CheckConstraint("completed_at >= created_at AND completed_at >= started_at", name="jobs_completed_after_started"),
    # list; list of one user, of one project, of what failed or was cancelled, and of its types
    Index("jobs_listed", "organization_id", "created_at", "id", postgresql_include=["job_type"]),
    Index("jobs_by_user", "organization_id", "user_id", "created_at", "id"),
    Index(
        "jobs_by_project",
        *("organization_id", "project_id", "created_at", "id"),
        postgresql_where=text("project_id IS NOT NULL"),
    ),
    Index(
        "jobs_unsuccessful",
        *("organization_id", "status", "created_at", "id"),
        postgresql_include=["job_type"],
        postgresql_where=text(one_of("status", (Status.FAILED, Status.CANCELLED))),
    ),
    # search: words of errors; no column of it is changed by a report, which must be HOT
    Index(
        "jobs_errors",
        "organization_id",
        "error_message",
        "error_type",
        postgresql_using="gin",
        postgresql_ops={"error_message": "gin_trgm_ops", "error_type": "gin_trgm_ops"},
        postgresql_where=text("error_message IS NOT NULL"),
        postgresql_with={"gin_pending_list_limit": "256"},
    ),
    # recent, stats, and the types of a search: what is active stays small however long the history is. Counts need
    # nothing of the rows; no column of it is changed by a report.
    Index(
        "jobs_under_way",
        *("organization_id", text("priority DESC"), "created_at", "id"),
        postgresql_include=["status", "hold", "job_type", "attempt", "due_at", "scheduled_at"],
        postgresql_where=IS_ACTIVE,
    ),
    # recent, history; stats, counts by type and charts of a day, without a look at its rows
    Index(
        "jobs_over",
        *("organization_id", "completed_at", "id"),
        postgresql_include=["status", "job_type", "started_at", "created_at"],
        postgresql_where=text("completed_at IS NOT NULL"),
    ),
    # list of one type, however rare it is, which searches ask for as well: what is active is in another index, so that
    # this one gets an entry when a job ends, and not at each change before
    Index(
        "jobs_ended_by_type",
        *("organization_id", "job_type", "created_at", "id"),
        postgresql_where=text("completed_at IS NOT NULL"),
    ),
    once_by_key("jobs"),
    # upkeep: what is due, what was accepted but never sent, whose worker may be dead. Not by updated_at: no change of a
    # row whose index has a changed column is HOT, not even of a row that is not in the index.
    Index("jobs_due", "due_at", postgresql_where=text("hold IN ('schedule', 'backoff')")),
    Index(
        "jobs_unsent",
        "created_at",
        postgresql_where=text(f"{IS_WAITING} AND hold IS NULL AND dispatched_at IS NULL"),
    ),
    # admission: who holds a slot of the organization, who is in line for one, what waits for other jobs or for a gate
    Index("jobs_in_flight", "organization_id", "queue", postgresql_where=text(IN_FLIGHT)),
    Index("jobs_competing", "queue", "organization_id", postgresql_where=text(COMPETES)),
    Index(
        "jobs_in_line",
        *("organization_id", "queue", text("priority DESC"), "created_at", "id"),
        postgresql_where=text("hold = 'organization_limit'"),
    ),
    Index(
        "jobs_limited",
        *("organization_id", "limit_key", "job_type", text("priority DESC"), "created_at", "id"),
        postgresql_where=text("hold = 'limit'"),
    ),
    Index(
        "jobs_in_limit",
        *("job_type", "organization_id", "limit_key"),
        postgresql_where=text(f"limit_key IS NOT NULL AND {IN_FLIGHT}"),
    ),
    Index("jobs_dependents", "depends_on", postgresql_using="gin", postgresql_where=text("hold = 'dependency'")),
    Index("jobs_gated", "hold", "job_type", postgresql_where=text("hold IN ('dependency', 'circuit', 'paused')")),
    # leader: the groups of those that wait behind the same gates, and those that wait for others, some at a time
    Index(
        "jobs_behind_gates",
        *("hold", "organization_id", "job_type", "queue", "circuit_key"),
        postgresql_where=text("hold IN ('paused', 'circuit')"),
    ),
    Index("jobs_awaiting", "id", postgresql_where=text("hold = 'dependency'")),
    # canvas: what follows a job, or a group
    Index("jobs_following", "follows", postgresql_where=text("follows IS NOT NULL")),
    Index("jobs_following_group", "follows_group", postgresql_where=text("follows_group IS NOT NULL")),
    # graphs: what belongs to a workflow, or was sent by the jobs of a canvas
    Index("jobs_by_root", "root_id", postgresql_where=text("root_id <> id")),
    # a job: those that repeat it with another payload
    Index("jobs_retries", "retry_of", postgresql_where=text("retry_of IS NOT NULL")),
    # retention: does an active job still depend on it
    Index(
        "jobs_depending",
        "depends_on",
        postgresql_using="gin",
        postgresql_where=text(f"{one_of('status', ACTIVE)} AND depends_on <> '{{}}'"),
    ),
    # upkeep: whose work is done elsewhere, and whether somebody still reports on it
    Index("jobs_external", "job_type", postgresql_where=text(f"hold = '{Hold.EXTERNAL}'")),
    Index("jobs_leased", "lease", postgresql_where=text("status = 'running' OR stopping")),
    # retention: what ended longest ago, of each type and status
    Index("jobs_retained", "job_type", "status", "completed_at", postgresql_where=text("completed_at IS NOT NULL")),
    # chords: the members of one group, and retention: is one of them still to succeed
    Index("jobs_by_group", "group_id", "status", postgresql_where=text("group_id IS NOT NULL")),
    *OF_FAILED_JOBS,
    # Rows change a few times and then rest: leave room on the page for their next versions.
    postgresql_with={"fillfactor": "80", **vacuumed_after(20_000)},
)

# No foreign key to jobs: it would lock the job's row a second time at each insert, and every row here is written by
# the statement that changed that job. partitions.py makes its weeks, thinning.py drops them.
history = Table(
    "history",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("job_id", Uuid, nullable=False),
    Column("organization_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("job_type", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("from_status", Text),
    Column("to_status", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("dispatch", Integer, nullable=False),
    Column("actor", Text, nullable=False, comment="a user, a worker, or a part of the platform"),
    Column("detail", JSONB, nullable=False, server_default=EMPTY_OBJECT),
    Column("circuit_key", Text, comment="of the circuit in which this end of an attempt counts; null = in none"),
    Column("origin", JSONB, comment="from where somebody has asked for it; null = it is no deed of anybody's"),
    # its key is for the live stream, and has to have what the weeks are made by
    Column("at", INSTANT, primary_key=True, server_default=func.clock_timestamp()),
    # timeline and attempts of one job
    Index("history_by_job", "job_id", "id"),
    # the live stream and the audit of one organization
    Index("history_by_organization", "organization_id", "id"),
    # a circuit: how the latest attempts ended that count in it
    Index(
        "history_of_attempts",
        *("job_type", "organization_id", "circuit_key", "id"),
        postgresql_where=text("circuit_key IS NOT NULL"),
    ),
    postgresql_partition_by="RANGE (at)",
)

# What was revoked by remote control and no job is known for yet.
revocations = Table(
    "revocations",
    metadata,
    Column("stamp", Text, primary_key=True, comment="the name of a stamp; empty = the value is a job's id"),
    Column("value", JSONB, primary_key=True),
    Column("revoked_by", Text, nullable=False),
    Column("revoked_at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
)

workers = Table(
    "workers",
    metadata,
    Column("lease", Uuid, primary_key=True, comment="new at every start of a worker"),
    Column("name", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("queues", ARRAY(Text), nullable=False),
    Column("concurrency", Integer, nullable=False),
    Column("started_at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
    Column("seen_at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
    postgresql_with=vacuumed_after(200),
)

groups = Table(
    "groups",
    metadata,
    Column("id", Text, primary_key=True, comment="of a canvas group whose results a chord waits for"),
    Column("size", Integer, comment="null = not known yet"),
    Column("added", Integer, nullable=False, server_default=text("0"), comment="members that joined while it ran"),
    Column("saved", JSONB, comment="its result in Celery's tuple form, when a chord needs its shape or a caller asked"),
    Column("created_at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
)

pauses = Table(
    "pauses",
    metadata,
    Column("organization_id", Text, comment="null = all of them"),
    Column("job_type", Text, comment="null = all of them"),
    Column("paused_by", Text, nullable=False),
    Column("reason", Text),
    Column("paused_at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
    UniqueConstraint("organization_id", "job_type", name="pauses_once", postgresql_nulls_not_distinct=True),
)

# A row for each circuit that is not closed.
circuits = Table(
    "circuits",
    metadata,
    Column("job_type", Text, primary_key=True),
    Column("organization_id", Text, primary_key=True, comment="'' = of all of them, while those of several are open"),
    Column("key", Text, primary_key=True, comment="named by the handler, a host say; '' = the whole type"),
    Column("failures", Integer, nullable=False, comment="in a row, that opened it"),
    Column("pause", Interval, nullable=False, comment="from its opening to the next probe"),
    Column("opened_at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
    Column("probe_at", INSTANT, nullable=False, comment="when one job may try"),
    Column("probe_id", Uuid, comment="the job that tries"),
    Column("turn", Text, comment="of all organizations: whose job tried last"),
)

# Of deeds that are no job's; and those of jobs that were removed, as history had them. Both are numbered alike.
audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
    Column("organization_id", Text, comment="whom it concerns; null = all of them"),
    Column("actor", Text, nullable=False),
    Column("actor_organization_id", Text, comment="null = an operator at a terminal, or who reaches the broker"),
    Column("action", Text, nullable=False),
    Column("target", Text, comment="the id of a job, or the name of a type or an organization"),
    Column("source", Text, nullable=False),
    Column("address", Text),
    Column("request_id", Text),
    Column("outcome", Text, nullable=False),
    Column("code", Text, comment="why it was refused"),
    Column("detail", JSONB, nullable=False, server_default=EMPTY_OBJECT),
    Index("audit_by_organization", "organization_id", "id"),
    Index("audit_by_target", "target", "id"),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("receipt", Uuid, nullable=False, unique=True, comment="one per message, so that it can be kept again"),
    Column("at", INSTANT, nullable=False, server_default=func.clock_timestamp()),
    Column("queue", Text, nullable=False),
    Column("worker", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("task_name", Text, comment="as the message says, if that could be read"),
    Column("task_id", Text, comment="as the message says, if that could be read"),
    Column("content_type", Text),
    Column("headers", JSONB, nullable=False, server_default=EMPTY_OBJECT, comment="plain values only, shortened"),
    Column("body", LargeBinary, comment="its first 64 KiB; null = not kept"),
    Column("size", Integer, nullable=False, comment="bytes of the whole body"),
    Column("redelivered", Boolean, nullable=False),
)

# What is read as an object is one, and every time lies in the one range of times: another row could not be loaded.
OBJECTS = {"jobs": ("payload", "metadata", "delivery"), "dead_letters": ("headers",)}
OBJECTS |= {**dict.fromkeys(("history", "audit"), ("detail",)), operations.name: ("asked", "denied")}
OBJECTS |= {schedules.name: ("payload", "metadata"), template_versions.name: ("payload", "metadata", "schedule")}
OBJECTS |= {workflow_jobs.name: ("payload", "metadata"), events.name: ("detail",)}
RANGE = "{0} >= timestamptz '{1.year}-01-01Z' AND {0} < timestamptz '{2.year}-01-01Z'"

for _table in metadata.tables.values():
    _times = [column.name for column in _table.columns if isinstance(column.type, DateTime)]
    _in_range = " AND ".join(RANGE.format(name, EARLIEST, LATEST) for name in _times)
    if _times:
        _table.append_constraint(CheckConstraint(_in_range, name=f"{_table.name}_times_range"))
for _name, _columns in OBJECTS.items():
    _are_objects = " AND ".join(f"jsonb_typeof({column}) = 'object'" for column in _columns)
    metadata.tables[_name].append_constraint(CheckConstraint(_are_objects, name=f"{_name}_objects"))
