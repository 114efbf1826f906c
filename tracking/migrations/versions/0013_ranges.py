"""Every time lies in the years 1970 to 2999, and what is read as an object is one: a row beyond that could not be read.

What is there already is mended first: what has happened did so now at the latest, what is due lies at the nearest end
of the range, and an object that is none is empty, or the one argument of its call.
"""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

EARLIEST, LATEST, LAST = (f"timestamptz '{at}'" for at in ("1970-01-01Z", "3000-01-01Z", "2999-12-31 23:59:59Z"))

# The times of each table in the order of its columns, and which of them lie ahead.
TIMES = {
    "jobs": (
        *("due_at", "scheduled_at", "dispatched_at", "cancel_requested_at", "cancel_seen_at"),
        *("started_at", "completed_at", "created_at", "updated_at"),
    ),
    "history": ("at",),
    "revocations": ("revoked_at",),
    "workers": ("started_at", "seen_at"),
    "groups": ("created_at",),
    "organizations": ("changed_at",),
    "pauses": ("paused_at",),
    "circuits": ("opened_at", "probe_at"),
    "dead_letters": ("at",),
}
AHEAD = ("due_at", "scheduled_at", "probe_at")
# What stands in place of a value that is no object.
OBJECTS = {
    "jobs": {
        "payload": "jsonb_build_object('args', jsonb_build_array(payload), 'kwargs', '{}'::jsonb)",
        "metadata": "'{}'",
        "delivery": "'{}'",
    },
    "history": {"detail": "'{}'"},
    "dead_letters": {"headers": "'{}'"},
}


def upgrade() -> None:
    for table, times in TIMES.items():
        op.execute(_mending(table, {each: _mended(each) for each in times}, " OR ".join(map(_is_beyond, times))))
        op.create_check_constraint(f"{table}_times_range", table, " AND ".join(map(_in_range, times)))
    for table, objects in OBJECTS.items():
        mended = {each: f"CASE WHEN {_is_object(each)} THEN {each} ELSE {made} END" for each, made in objects.items()}
        op.execute(_mending(table, mended, f"NOT ({' AND '.join(map(_is_object, objects))})"))
        op.create_check_constraint(f"{table}_objects", table, " AND ".join(map(_is_object, objects)))


def downgrade() -> None:
    for table in OBJECTS:
        op.drop_constraint(f"{table}_objects", table)
    for table in TIMES:
        op.drop_constraint(f"{table}_times_range", table)


def _mending(table: str, values: dict[str, str], where: str) -> str:
    changes = ", ".join(f"{name} = {value}" for name, value in values.items())
    return f"UPDATE {table} SET {changes} WHERE {where}"


def _mended(column: str) -> str:
    latest, end = (LATEST, LAST) if column in AHEAD else ("now()", "now()")
    return f"CASE WHEN {column} < {EARLIEST} THEN {EARLIEST} WHEN {column} >= {latest} THEN {end} ELSE {column} END"


def _is_beyond(column: str) -> str:
    latest = LATEST if column in AHEAD else "now() + interval '1 day'"  # clocks differ, but not by so much
    return f"{column} < {EARLIEST} OR {column} >= {latest}"


def _in_range(column: str) -> str:
    return f"{column} >= {EARLIEST} AND {column} < {LATEST}"


def _is_object(column: str) -> str:
    return f"jsonb_typeof({column}) = 'object'"
