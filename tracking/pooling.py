"""Whether a connection keeps what it was opened with: through a pooler of transactions, each may run on another one.

There it must need nothing of the kind: no prepared statements, no lock of a session, no setting of its own. What says
how long a statement may take is then a setting of the role.
"""

from __future__ import annotations

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from tracking.db import Database
from tracking.errors import ConfigurationError
from tracking.settings import Settings

MARK = 12_345  # seconds: a time limit that no role has by chance
REFUSED = "unsupported startup parameter"  # as PgBouncer says it of what a connection asks for when it begins
NAME_IT = (
    "DATABASE_URL leads to a pooler, which does not keep what a connection sets: name PostgreSQL itself in"
    " DATABASE_DIRECT_URL, for migrations and the leading worker"
)
NAME_ANOTHER = "DATABASE_DIRECT_URL leads to a pooler as well: it must name PostgreSQL itself"
SET_THEM = (
    "through a pooler the time limit and the time zone of a connection are those of its role: run"
    " ALTER ROLE {role} IN DATABASE {name} SET statement_timeout = '{limit}s'; ALTER ROLE {role} IN DATABASE {name}"
    " SET timezone = 'UTC'; and have the pooler connect anew (RECONNECT)"
)


def require_fitting(database: Database, settings: Settings) -> None:
    """Refuse to start where settings would not hold: by an unknown pooler, or by a known one with a role as it is made.

    Raises ConfigurationError, or SQLAlchemyError when the database is away.
    """
    if settings.is_pooled:
        with database.autocommit() as connection:
            _check_role(connection, settings)
    require_kept(settings)


def require_kept(settings: Settings) -> None:
    """Refuse what needs a session where there is none. Raises as `require_fitting`."""
    direct = Database(settings.direct, settings, pool_size=1, options=f"-c statement_timeout={MARK}s")
    try:
        with direct.autocommit() as connection:
            _check_kept(connection, settings)
    except DBAPIError as error:
        if REFUSED in str(error.orig):
            raise ConfigurationError(NAME_ANOTHER if settings.is_pooled else NAME_IT) from None
        raise
    finally:
        direct.close()


def _check_kept(connection: Connection, settings: Settings) -> None:
    if _limit(connection) != MARK:
        raise ConfigurationError(NAME_ANOTHER if settings.is_pooled else NAME_IT)


def _check_role(connection: Connection, settings: Settings) -> None:
    row = connection.execute(ROLE).one()
    if not _limit(connection) or row.zone not in ("UTC", "Etc/UTC"):
        raise ConfigurationError(SET_THEM.format(role=row.role, name=row.name, limit=settings.statement_timeout))


def _limit(connection: Connection) -> float:
    """Seconds that a statement may take; 0: any number."""
    return float(connection.execute(LIMIT).scalar_one())


LIMIT = text("SELECT extract(EPOCH FROM CAST(current_setting('statement_timeout') AS interval))")
ROLE = text("SELECT current_user AS role, current_database() AS name, current_setting('timezone') AS zone")
