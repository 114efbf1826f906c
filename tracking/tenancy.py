"""Whose rows the transactions of this context see: everybody's, unless it is confined to one organization.

A request is: its transactions run as TENANT, a role that is no owner and no superuser, with the organization in a
setting that ends with the transaction, and the policies of row_security.py show it nothing else, whatever a statement
says. The platform's own work, which is for all organizations, is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from sqlalchemy import Connection, text

TENANT = "celeriac_tenant"  # who requests are
PLATFORM = "celeriac_platform"  # whose members see all organizations
SETTING = "celeriac.organization"
NOBODY = ""  # no organization goes by that name

_confined: ContextVar[str | None] = ContextVar("confined", default=None)


@contextmanager
def confined_to(organization: str | None) -> Iterator[None]:
    """Within it transactions see the rows of this organization alone; None: of all of them; NOBODY: none."""
    token = _confined.set(organization)
    try:
        yield
    finally:
        _confined.reset(token)


def confinement() -> str | None:
    """The organization of the innermost block; None: transactions see all of them."""
    return _confined.get()


@contextmanager
def unconfined(connection: Connection) -> Iterator[None]:
    """See all organizations within a transaction that is confined, for what the platform counts over all of them."""
    if _confined.get() is None:
        yield
        return
    role = connection.execute(LEAVE).scalar_one()
    yield
    connection.execute(RETURN, {"role": role})  # after an error the transaction is over, and the role with it


def confining(organization: str) -> list[tuple[str, dict[str, str]]]:
    """The statements that begin such a transaction, in the driver's form."""
    return [(SET, {"name": "role", "value": TENANT}), (SET, {"name": SETTING, "value": organization})]


def has_tenants(connection: Connection) -> bool:
    """Whether the role of requests is there, may be taken, and was granted what it needs, after the policies were made.

    Whoever makes it starts the processes again.
    """
    return bool(connection.execute(HAS_TENANTS, {"role": TENANT}).scalar())


SET = "SELECT set_config(%(name)s, %(value)s, true)"

HAS_TENANTS = text(
    """
    SELECT pg_has_role(oid, 'MEMBER') AND has_table_privilege(oid, to_regclass('jobs'), 'SELECT')
    FROM pg_roles WHERE rolname = :role"""
)

# What is selected is evaluated from left to right.
LEAVE = text("SELECT current_setting('role') AS was, set_config('role', 'none', true)")
RETURN = text("SELECT set_config('role', :role, true)")
