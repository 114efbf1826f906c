"""Rights that somebody has lost are told from those that an operator has taken away, and from rows that are refused."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from tests.tracked import Tracked
from tracking import rights
from tracking.db import Database, DBAPIError, Outage, outage
from tracking.rights import Right
from tracking.tenancy import PLATFORM, TENANT, confined_to

WRITES = "INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public"


def refused(database: Database, statement: str) -> Outage | None:
    """What outage the database shows when a request says this."""
    with pytest.raises(DBAPIError) as error, confined_to("acme"), database.begin() as connection:
        connection.execute(text(statement))
    return outage(error.value)


def lacked(database: Database) -> list[Right]:
    with database.autocommit() as connection:
        return [*rights.lacking(connection, has_tenants=True)]


def say(database: Database, statement: str) -> None:
    """Say something as the owner."""
    with database.autocommit() as connection:
        connection.execute(text(statement))


def test_a_lost_grant_is_no_read_only_database(database: Database) -> None:
    """A right that is missing on one table is an outage of its own, and is found with its role, verb and table."""
    assert lacked(database) == []
    say(database, f"REVOKE INSERT ON templates FROM {TENANT}")
    say(database, "REVOKE SELECT ON history FROM celeriac_platform")
    assert refused(database, "INSERT INTO templates DEFAULT VALUES") is Outage.UNGRANTED
    assert lacked(database) == [Right(TENANT, "INSERT", "templates")]
    with database.autocommit() as connection:
        assert rights.lacking(connection, has_tenants=False) == []


def test_whoever_takes_the_right_to_write_jobs_stops_all_writes(database: Database) -> None:
    """Without the right to write jobs, and with that to read them, the database is read-only, whatever is written."""
    owner = database.engine.url.username
    with database.autocommit() as connection:
        Tracked(connection).submit()
    say(database, f"REVOKE {WRITES} FROM {owner}, {PLATFORM}, {TENANT}")
    try:
        assert refused(database, "UPDATE jobs SET message = 'x'") is Outage.READ_ONLY
        assert {right.verb for right in lacked(database)} == {"INSERT", "UPDATE", "DELETE"}
    finally:
        say(database, f"GRANT {WRITES} TO {owner}, {PLATFORM}, {TENANT}")


def test_a_row_of_another_organization_that_is_refused_is_a_defect(database: Database) -> None:
    """A row that row-level security refuses is no outage, which would be tried again and again."""
    made = "INSERT INTO waiting_limits (organization_id, most, changed_by) VALUES ('globex', 1, 'x')"
    say(database, f"GRANT INSERT ON waiting_limits TO {TENANT}")
    assert refused(database, made) is None
