"""Row-level security: which rows and tables those see whose transactions are confined to an organization.

It is brought about after the migrations, for all tables that there are by then, and again each time: a table that comes
later, or is restored, or changes its owner, is not forgotten.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import psycopg
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from tracking.schema import metadata
from tracking.tenancy import PLATFORM, SETTING, TENANT

LOCK_TIMEOUT = "200ms"  # whoever asks for the table after us waits as long as we do
PATIENCE = 60.0  # seconds to get each lock
REST = 0.2  # seconds between two tries: those who waited for us go on

# An organization without a name is none: so it is after a transaction that had one.
OURS = f"nullif(current_setting('{SETTING}', true), '')"
# A plain equality, which makes one class with that of a query: an index answers both, at the price of the query's.
OWN = f"organization_id = {OURS}"

# What is shown besides: what concerns all organizations, to each of them.
SHARED = {
    **dict.fromkeys(("pauses", "job_limits", "removals"), "organization_id IS NULL"),
    **dict.fromkeys(("circuits", "limit_admissions"), "organization_id = ''"),
    # A schedule that was removed leaves its jobs, which are found by it still. No EXISTS: of that the planner may make
    # a look at all jobs.
    "schedule_outcomes": "(SELECT true FROM jobs WHERE jobs.id = job_id)",
}
# Of whoever has the row that they are a part of. What is written comes after that row in the same statement, which does
# not see it yet.
PARTS = {
    "workflow_jobs": "EXISTS (SELECT FROM workflows WHERE workflows.id = workflow_id)",
    "operation_jobs": "EXISTS (SELECT FROM operations WHERE operations.id = operation_id)",
    "schedule_outcomes": "EXISTS (SELECT FROM schedules WHERE schedules.id = schedule_id)",
}
NAMED_OTHERWISE = {"organizations": f"id = {OURS}"}

# What requests do with tables whose rows are of organizations is everything, but for these.
ALL, READ, ADD = "SELECT, INSERT, UPDATE, DELETE", "SELECT", "SELECT, INSERT"
LESS = {
    "jobs": "SELECT, INSERT, UPDATE",
    **dict.fromkeys(("history", "events", "audit"), ADD),
    **dict.fromkeys(("organizations", "waiting_limits", "organization_weights"), READ),
    **dict.fromkeys(("job_limits", "limit_admissions", "removals"), READ),
}
# Tables without organizations that requests need as well.
COMMON = {"template_versions": ALL, "webhook_position": ADD}
COMMON |= dict.fromkeys(("workers", "external_types", "revocations", "paused_queues"), READ)
# The platform's alone: what lets somebody in is looked up before it is known who they are, messages that could not be
# run are nobody's, results of a canvas are handed on by workers, and counts are of all organizations.
PRIVATE = (
    *("tickets", "sessions", "denied_tokens", "collections", "collection_records", "limit_turns"),
    *("groups", "dead_letters", "totals", "totals_position", "clean_ups"),
)
EVERYTHING = "everything"  # the policy of those who see all organizations
NUMBERS = "history_id_seq"
# They count over all organizations, for whoever asks.
COUNTING = ("is_contended", "room_in", "free_in", "give_way", "sent_level")


@dataclass(frozen=True, slots=True)
class Policy:
    """One of a table's. `reading`: it is for SELECT alone, and otherwise for what is written as well."""

    name: str
    condition: str
    reading: bool = False
    written: str | None = None  # None: the same


def policies() -> Mapping[str, list[Policy]]:
    """Those of each table that has rows of organizations."""
    found = {name: [Policy("own", OWN)] for name, table in metadata.tables.items() if "organization_id" in table.c}
    found |= {name: [Policy("own", condition)] for name, condition in NAMED_OTHERWISE.items()}
    found |= {name: [Policy("own", condition, written="true")] for name, condition in PARTS.items()}
    for name, condition in SHARED.items():
        found[name].append(Policy("shared", condition, reading=True))
    return found


def granted() -> Mapping[str, str]:
    """The rights of requests on each table that they need."""
    return {name: ALL for name in policies() if name not in PRIVATE} | LESS | COMMON


def needed(role: str) -> Mapping[str, str]:
    """The rights of one of both roles on each table."""
    if role == PLATFORM:
        return dict.fromkeys([*metadata.tables, "history_default", "alembic_version"], ALL)
    return granted()


def bring_about(connection: Connection) -> None:
    """Let the tables keep organizations apart, and grant what they need to those of the roles that are there.

    Raises DBAPIError when somebody keeps a lock on one of them for PATIENCE seconds.
    """
    for name, wanted in policies().items():
        _patiently(connection, _secured(connection, name, wanted))
    _patiently(connection, [*_functions(connection)])
    _patiently(connection, _grants(connection))


def _secured(connection: Connection, table: str, wanted: list[Policy]) -> list[str]:
    """What the table lacks. Its owner migrates, and sees all: owners are held to the policies as well."""
    found = connection.execute(TABLE, {"table": table, "platform": PLATFORM}).one()
    connection.commit()
    missing = [_create(table, policy) for policy in wanted if policy.name not in found.policies]
    everybody = ", ".join(found.seeing)
    if EVERYTHING not in found.policies:
        missing.append(f"CREATE POLICY {EVERYTHING} ON {table} TO {everybody} USING (true)")
    elif set(found.seen_by) != set(found.seeing):
        missing.append(f"ALTER POLICY {EVERYTHING} ON {table} TO {everybody}")
    if not found.is_secured:
        missing.append(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    return missing


def _create(table: str, policy: Policy) -> str:
    written = f" WITH CHECK ({policy.written})" if policy.written else ""
    kind = " FOR SELECT" if policy.reading else ""
    return f"CREATE POLICY {policy.name} ON {table}{kind} USING ({policy.condition}){written}"


def _functions(connection: Connection) -> Iterator[str]:
    for row in connection.execute(FUNCTIONS, {"names": [*COUNTING]}).all():
        if not row.is_secured:
            yield f"ALTER FUNCTION {row.function} SECURITY DEFINER SET search_path = {row.schema}, pg_temp"
            yield f"REVOKE ALL ON FUNCTION {row.function} FROM PUBLIC"
    connection.commit()


def _grants(connection: Connection) -> list[str]:
    """What the roles that are there have not been granted yet."""
    lacking: list[str] = []
    for role in (PLATFORM, TENANT):
        rights = needed(role)
        pairs = [(table, right) for table, wanted in rights.items() for right in wanted.split(", ")]
        asked = {"tables": [table for table, _ in pairs], "rights": [right for _, right in pairs], "role": role}
        for table, right in connection.execute(UNGRANTED, asked).all():
            lacking.append(f"GRANT {right} ON {table} TO {role}")
        functions = connection.execute(UNCALLED, {"names": [*COUNTING], "role": role}).scalars().all()
        lacking += [f"GRANT EXECUTE ON FUNCTION {function} TO {role}" for function in functions]
        if connection.execute(UNNUMBERED, {"role": role}).scalar():
            lacking.append(f"GRANT USAGE, SELECT ON SEQUENCE {NUMBERS} TO {role}")
    connection.commit()
    return lacking


def _patiently(connection: Connection, statements: list[str]) -> None:
    if not statements:  # a database that takes no writes lacks nothing either
        return
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
            for statement in statements:
                connection.execute(text(statement))
            connection.commit()
        except DBAPIError as error:
            connection.rollback()
            if not isinstance(error.orig, psycopg.errors.LockNotAvailable) or time.monotonic() > deadline:
                raise
            time.sleep(REST)
        else:
            return


# Names come as SQL writes them.
TABLE = text(
    f"""
    SELECT relrowsecurity AND relforcerowsecurity AS is_secured,
           ARRAY(SELECT CAST(polname AS text) FROM pg_policy WHERE polrelid = pg_class.oid) AS policies,
           ARRAY(SELECT quote_ident(rolname) FROM pg_policy JOIN pg_roles ON pg_roles.oid = ANY(polroles)
                 WHERE polrelid = pg_class.oid AND polname = '{EVERYTHING}') AS seen_by,
           ARRAY(SELECT quote_ident(rolname) FROM pg_roles
                 WHERE pg_roles.oid = relowner OR rolname = :platform) AS seeing
    FROM pg_class WHERE oid = CAST(:table AS regclass)"""
)
_OF_OURS = "FROM pg_proc WHERE proname = ANY(:names) AND pronamespace = CAST(current_schema() AS regnamespace)"
FUNCTIONS = text(
    f"""
    SELECT CAST(CAST(oid AS regprocedure) AS text) AS function, prosecdef AS is_secured,
           CAST(CAST(pronamespace AS regnamespace) AS text) AS schema
    {_OF_OURS}"""
)
UNGRANTED = text(
    """
    SELECT name, privilege FROM pg_roles CROSS JOIN unnest(CAST(:tables AS text[]), CAST(:rights AS text[]))
                            AS wanted (name, privilege)
    WHERE rolname = :role AND NOT has_table_privilege(pg_roles.oid, name, privilege)"""
)
UNCALLED = text(
    f"""
    SELECT CAST(CAST(oid AS regprocedure) AS text) {_OF_OURS}
      AND EXISTS (SELECT FROM pg_roles WHERE rolname = :role
                    AND NOT has_function_privilege(pg_roles.oid, pg_proc.oid, 'EXECUTE'))"""
)
UNNUMBERED = text(
    f"""
    SELECT NOT has_sequence_privilege(oid, '{NUMBERS}', 'USAGE') FROM pg_roles WHERE rolname = :role"""
)
