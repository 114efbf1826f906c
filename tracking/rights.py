"""What the roles of this process may not do, and would have to, on the tables of the platform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from tracking.row_security import needed
from tracking.tenancy import PLATFORM, TENANT

OF_EVERY_JOB = frozenset({"jobs", "history"})  # without which no request is answered


@dataclass(frozen=True, slots=True)
class Right:
    """A right that a role lacks: SELECT, say, on a table."""

    role: str
    verb: str
    table: str

    def __str__(self) -> str:
        return f"{self.verb} on {self.table} for {self.role}"


def lacking(connection: Connection, *, has_tenants: bool) -> Sequence[Right]:
    """Those of this process's login, and of who its requests are, in the order of tables.

    `has_tenants`: whether requests have a role of their own here; one that is there is another database's otherwise.
    """
    rows = connection.execute(LACKING, _wanted((PLATFORM, TENANT) if has_tenants else (PLATFORM,))).all()
    return [Right(row.role, row.verb, row.name) for row in rows]


def _wanted(whose: Sequence[str]) -> dict[str, list[str]]:
    wanted = [(of, table, verb) for of in whose for table, verbs in needed(of).items() for verb in verbs.split(", ")]
    roles, tables, verbs = zip(*wanted, strict=True)
    return {"roles": [*roles], "tables": [*tables], "verbs": [*verbs]}


# The login has what a member of PLATFORM has, however it came by it; whoever has no such roles connects as the owner.
LACKING = text(
    f"""
    SELECT pg_roles.rolname AS role, wanted.name, wanted.verb
    FROM unnest(CAST(:roles AS text[]), CAST(:tables AS text[]), CAST(:verbs AS text[])) AS wanted (of, name, verb)
    JOIN pg_roles ON rolname = CASE wanted.of WHEN '{PLATFORM}' THEN current_user ELSE wanted.of END
    WHERE to_regclass(wanted.name) IS NOT NULL AND NOT has_table_privilege(pg_roles.oid, wanted.name, wanted.verb)
    ORDER BY wanted.name, wanted.verb, role"""
)
