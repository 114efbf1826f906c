"""A program of the platform whose queries have lost the condition of their organization, as if it had been forgotten.

It is written by one place, which is replaced before anything else is imported. UNTOLD in the environment: nor does the
database know of organizations.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import sqlalchemy

from tracking import sql

UNTOLD = "TESTS_UNTOLD"


def forget() -> None:
    """Have every query of any organization's rows."""

    def own(column: str = "organization_id", asking: str = ":organization_id") -> str:
        return f"({column} = {asking} OR true)"  # the parameter stays: it is sent

    def owned(_column: Any, _organization_id: str) -> Any:
        return sqlalchemy.true()

    sql.own, sql.owned = own, owned  # type: ignore[assignment]
    sql.SCOPE = f"{own()} AND (CAST(:user_id AS text) IS NULL OR user_id = :user_id)"
    sql.WITHIN_SCOPE = f"CAST(:organization_id AS text) IS NOT NULL AND {sql.SCOPE}"


if __name__ == "__main__":
    forget()
    from tracking.db import Database

    if os.environ.get(UNTOLD):
        Database.has_tenants = False  # type: ignore[method-assign, assignment]
    from celeriac.commands.cli import command

    command(sys.argv[1:])
