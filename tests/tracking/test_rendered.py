"""tracking/rendered.sql: it is up to date, and each statement in it is one for this database."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from tracking.db import Database
from tracking.rendered import FILE, rendered, statements
from tracking.sql import PARAMETER, move
from tracking.states import Event, Status

STATEMENTS = dict(statements())


def test_rendered_sql_is_what_the_code_sends() -> None:
    """rendered.sql is what the code sends: else run `make sql`."""
    assert FILE.read_text(encoding="utf-8") == rendered()


def test_the_verbs_are_among_the_rendered_statements() -> None:
    """The statements of all verbs are in rendered.sql."""
    assert {"jobs/claim.py CLAIM", "jobs/settle.py SETTLE", "jobs/submit.py SUBMIT", "successors.py CALL"} <= set(
        STATEMENTS
    )


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_rendered_statement_can_be_prepared(pool: Database, name: str) -> None:
    """PostgreSQL can prepare every statement of rendered.sql."""
    names = list(dict.fromkeys(PARAMETER.findall(STATEMENTS[name])))
    sql = PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", STATEMENTS[name])
    with pool.autocommit() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.execute(f"PREPARE one AS {sql}")
        connection.execute(text("DEALLOCATE one"))


def test_a_move_that_the_state_machine_lacks_has_no_sql() -> None:
    """A move that the state machine lacks raises instead of making SQL."""
    with pytest.raises(AssertionError):
        move(Event.CANCELLED, "hold = NULL", "'{}'", find="id = :id", to=Status.CANCELLED, out_of=[Status.SUCCEEDED])
