"""Which version the schema of a database has, and which one this program needs."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from sqlalchemy import Connection, text

from tracking.errors import ConfigurationError

MIGRATIONS = Path(__file__).parent / "migrations" / "versions"


def require_newest(connection: Connection) -> None:
    """Raise ConfigurationError when the schema is older than this program; a newer one was made for what follows it.

    A database without a schema raises the DBAPIError of a table that does not exist.
    """
    found = connection.execute(text("SELECT max(version_num) FROM alembic_version")).scalar() or "none"
    if found == "none" or found < newest():
        raise ConfigurationError(f"the schema is not the newest ({found}, not {newest()}): run `celeriac migrate`")


@cache
def newest() -> str:
    """The newest version; Alembic, which knows it too, takes longer to import than most commands to run."""
    return max(path.name.partition("_")[0] for path in MIGRATIONS.glob("[0-9]*_*.py"))
