"""What the connections of a pool keep from one use to the next."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tests.tracked import new_job, submit_all
from tracking.admission.rule import UNLIMITED
from tracking.db import Connection, Database, takes_writes
from tracking.errors import JobNotFound
from tracking.models import Submitted
from tracking.settings import settings


@pytest.fixture
def single(database_url: str) -> Iterator[Database]:
    """A pool of one connection, on which a job was submitted."""
    database = Database(database_url, settings(), pool_size=1)
    with database.autocommit() as connection:
        submit(connection)
    yield database
    database.close()


def submit(connection: Connection) -> None:
    [submitted] = submit_all(connection, [new_job()], UNLIMITED)
    assert isinstance(submitted, Submitted)


def prepared(database: Database) -> set[object]:
    """The statements that the connection has prepared for jobs, each with when."""
    with database.autocommit() as connection:
        asked = "SELECT name, prepare_time FROM pg_prepared_statements WHERE statement LIKE '%INSERT INTO jobs%'"
        return {tuple(row) for row in connection.execute(text(asked))}


def refuse(connection: Connection) -> None:
    """Submit a job, and give up."""
    submit(connection)
    raise JobNotFound("somebody else's")


def fail(connection: Connection) -> None:
    """Submit a job, and run into an error of the server."""
    submit(connection)
    connection.execute(text("SELECT 1 / 0"))


def number(database: Database) -> int:
    with database.autocommit() as connection:
        return int(connection.execute(text("SELECT count(*) FROM jobs")).scalar_one())


def test_a_verb_that_is_given_up_costs_the_connection_none_of_its_statements(single: Database) -> None:
    """What was written before the refusal is undone; the next job's statement is not planned anew."""
    before = prepared(single)
    with pytest.raises(JobNotFound), single.begin() as connection:
        refuse(connection)
    assert prepared(single) == before != set()
    assert number(single) == 1


def test_a_transaction_that_the_server_has_refused_is_undone_and_the_connection_goes_on(single: Database) -> None:
    """An error of the server leaves a connection that works, with nothing of that transaction."""
    with pytest.raises(DBAPIError), single.begin() as connection:
        fail(connection)
    with single.begin() as connection:
        submit(connection)
    assert number(single) == 2


def begin_read_only(database: Database) -> None:
    """Have the one session be as if it had begun while the default of the database was to take no writes."""
    with database.autocommit() as connection:
        connection.execute(text("SET default_transaction_read_only = on"))


def test_a_session_that_takes_no_writes_is_not_used_again(single: Database) -> None:
    """After a write that its session refuses the pool makes another one, which begins with the default of today."""
    for opened in (single.begin, single.autocommit):
        begin_read_only(single)
        with pytest.raises(DBAPIError, match="read-only transaction"), opened() as connection:
            submit(connection)
        with opened() as connection:
            submit(connection)
    assert number(single) == 3


def test_whether_writes_are_taken_is_asked_of_a_session_of_today(single: Database) -> None:
    """A session that says that nothing can be written is not asked a second time."""
    begin_read_only(single)
    found = []
    for _ in range(2):
        with single.autocommit() as connection:
            found.append(takes_writes(connection))
            connection.execute(text("SELECT"))
    assert found == [False, True]
