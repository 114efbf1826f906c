"""The roles by which the database keeps organizations apart, who may take them, and whether that is in force."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import psycopg
from sqlalchemy import Connection, NullPool, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

from tracking.errors import ConfigurationError
from tracking.row_security import policies
from tracking.tenancy import PLATFORM, TENANT

PATIENCE = 5  # seconds to connect


def make(url: str, logins: Sequence[str]) -> None:
    """Make the roles; what is there already stays. No logins: for the user of the URL.

    Raises ConfigurationError for a user that may not, and SQLAlchemyError.
    """
    engine = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": PATIENCE})
    try:
        with engine.begin() as connection:
            for statement in statements(logins or [user_of(url)]):
                connection.exec_driver_sql(statement)
    except DBAPIError as error:
        if not isinstance(error.orig, psycopg.errors.InsufficientPrivilege):
            raise
        name = user_of(url)
        raise ConfigurationError(
            f"{name} may not make roles: have somebody who may say what `celeriac roles --login {name} --sql` prints"
        ) from None


def statements(logins: Sequence[str]) -> Iterator[str]:
    """The same in SQL. `logins`: who the platform's processes connect as, the owner of the tables among them."""
    for role in (TENANT, PLATFORM):
        yield _unless(
            f"EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}')",
            f"CREATE ROLE {role} NOLOGIN NOSUPERUSER NOBYPASSRLS",
        )
    yield _granted(TENANT, PLATFORM)
    for name in logins:
        yield _granted(PLATFORM, name)


def user_of(url: str) -> str:
    """Who connects by a URL; "": it does not say."""
    return make_url(url).username or ""


def _granted(role: str, to: str) -> str:
    literal, name = to.replace("'", "''"), to.replace('"', '""')
    has_it = f"EXISTS (SELECT FROM pg_roles WHERE rolname = '{literal}' AND pg_has_role(oid, '{role}', 'MEMBER'))"
    return _unless(has_it, f'GRANT {role} TO "{name}"')


def _unless(condition: str, statement: str) -> str:
    return f"DO $celeriac$ BEGIN IF NOT {condition} THEN {statement}; END IF; END $celeriac$"


def lacking(connection: Connection) -> str | None:
    """Why a request may see what is another organization's when a query forgets to say whose; None: it does not."""
    role = connection.execute(ROLE, {"role": TENANT}).first()
    if role is None:
        return f"there is no role {TENANT}"
    if role.is_above:
        return f"{TENANT} is a superuser, the owner of the tables, or a role that row-level security is not for"
    if not role.is_ours:
        return f"{role.login} is no member of {TENANT}"
    open_tables = connection.execute(OPEN, {"tables": [*policies()]}).scalars().all()
    if open_tables:
        return f"row-level security is not forced on {', '.join(open_tables)}"
    return None if role.is_granted else f"{TENANT} was granted nothing"


def login(connection: Connection) -> tuple[str, str | None]:
    """As whom this process connects, and what that role is beyond an ordinary one; None: nothing."""
    row = connection.execute(LOGIN).one()
    return row.login, row.above


ROLE = text(
    """
    SELECT current_user AS login, pg_has_role(oid, 'MEMBER') AS is_ours,
           rolsuper OR rolbypassrls OR EXISTS (SELECT FROM pg_class WHERE oid = to_regclass('jobs')
                                               AND pg_has_role(tenant.oid, relowner, 'MEMBER')) AS is_above,
           coalesce(has_table_privilege(oid, to_regclass('jobs'), 'SELECT'), false) AS is_granted
    FROM pg_roles AS tenant WHERE rolname = :role"""
)

OPEN = text(
    """
    SELECT name FROM unnest(CAST(:tables AS text[])) AS name
    LEFT JOIN pg_class ON pg_class.oid = to_regclass(name)
    WHERE NOT coalesce(relrowsecurity AND relforcerowsecurity, false)"""
)

LOGIN = text(
    """
    SELECT rolname AS login,
           CASE WHEN rolsuper THEN 'a superuser' WHEN rolbypassrls THEN 'a role with BYPASSRLS'
                WHEN EXISTS (SELECT FROM pg_class WHERE oid = to_regclass('jobs') AND relowner = pg_roles.oid)
                THEN 'the owner of the tables' END AS above
    FROM pg_roles WHERE rolname = current_user"""
)
