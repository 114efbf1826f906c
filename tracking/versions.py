"""Which version the schema of a database has, and which one this program needs."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sqlalchemy import Connection, text

from tracking.errors import ConfigurationError

MIGRATIONS = Path(__file__).parent / "migrations" / "versions"


NONE = "none"  # the version of a database without a schema


@dataclass(frozen=True, slots=True)
class Migration:
    """One that is to come, and what it does in a sentence."""

    version: str
    said: str


def require_newest(connection: Connection) -> None:
    """Raise ConfigurationError when the schema is older than this program; a newer one was made for what follows it."""
    found = version(connection)
    if found == NONE or found < newest():
        raise ConfigurationError(f"the schema is not the newest ({found}, not {newest()}): run `celeriac migrate`")


def version(connection: Connection) -> str:
    """The version of the schema; NONE: there is none.

    Raises ConfigurationError for tables of which nobody knows the version: to make them again would fail amid them.
    """
    row = connection.execute(THERE).one()
    found: str = (row.is_told and connection.execute(NEWEST_TOLD).scalar()) or NONE
    if found == NONE and row.has_jobs:
        raise ConfigurationError(
            "the tables are there, and alembic_version does not say of which version: restore it with them, or make "
            "the database anew"
        )
    return found


def is_later(connection: Connection) -> bool:
    """Whether the schema is that of a later release, so that this program has nothing to bring to it."""
    found = version(connection)
    return found != NONE and found > newest()


def pending(found: str) -> list[Migration]:
    """The migrations of this program that a schema of that version lacks, in their order."""
    files = sorted(MIGRATIONS.glob("[0-9]*_*.py"))
    return [Migration(_number(path), _said(path)) for path in files if found == NONE or _number(path) > found]


def _number(path: Path) -> str:
    return path.name.partition("_")[0]


def _said(path: Path) -> str:
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(said.partition("\n\n")[0].split())


@cache
def newest() -> str:
    """The newest version; Alembic, which knows it too, takes longer to import than most commands to run."""
    return max(_number(path) for path in MIGRATIONS.glob("[0-9]*_*.py"))


THERE = text(
    "SELECT to_regclass('alembic_version') IS NOT NULL AS is_told, to_regclass('jobs') IS NOT NULL AS has_jobs"
)
NEWEST_TOLD = text("SELECT max(version_num) FROM alembic_version")
