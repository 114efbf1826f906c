"""A pooler of transactions in front of the database: it carries everything but sessions, and is refused if unknown."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from uuid import uuid4

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from tests.pooler import CONNECTIONS, pooler
from tests.tracked import Tracked
from tests.verifying import broken
from tracking import leadership
from tracking.db import Database, DBAPIError, Outage, outage
from tracking.errors import ConfigurationError
from tracking.pooling import NAME_ANOTHER, NAME_IT, require_fitting
from tracking.settings import Settings, settings

LETS_OPTIONS_PASS = "ignore_startup_parameters = options"
THREADS = 8
AS_ASKED = "ALTER DATABASE {0} SET statement_timeout = '4s'; ALTER DATABASE {0} SET timezone = 'UTC'"


def configured(database_url: str, direct_url: str = "") -> Settings:
    """The settings of somebody with these databases."""
    return settings().model_copy(update={"database_url": SecretStr(database_url), "direct_url": SecretStr(direct_url)})


@contextmanager
def connected(given: Settings) -> Iterator[Database]:
    """The database of the settings."""
    with closing(Database(given.database, given)) as database:
        yield database


def refusal(given: Settings) -> str:
    """Why nothing starts with these settings."""
    with connected(given) as database, pytest.raises((ConfigurationError, DBAPIError)) as caught:
        require_fitting(database, given)
    return str(caught.value)


def say_limits(url: str) -> None:
    """Do what the refusal of a role without limits asks for."""
    with connected(configured(url)) as database, database.autocommit() as connection:
        name = connection.execute(text("SELECT current_database()")).scalar_one()
        for statement in AS_ASKED.format(name).split(";"):
            connection.exec_driver_sql(statement)


def live(database: Database) -> None:
    """Jobs in every situation, by statements and transactions of all kinds."""
    for _ in range(3):
        with database.autocommit() as connection:
            tracked = Tracked(connection)
            tracked.run()
            tracked.run("failed")
            tracked.cancel(tracked.submit(idempotency_key=uuid4().hex, request_hash="h"))
        with database.begin() as connection:
            tracked = Tracked(connection)
            tracked.retry(tracked.fail(tracked.start(tracked.submit())))


def test_jobs_go_through_a_pooler(database_url: str) -> None:
    """Eight threads that share two connections of a pooler submit, run, cancel and retry jobs, and no row is wrong."""
    say_limits(database_url)
    with pooler(database_url) as pooled:
        given = configured(pooled, database_url)
        with connected(given) as database, ThreadPoolExecutor(THREADS) as threads:
            require_fitting(database, given)
            for done in [threads.submit(live, database) for _ in range(THREADS)]:
                done.result()
            with database.autocommit() as connection:
                assert connection.execute(text("SELECT count(*) FROM jobs")).scalar_one() == 3 * 4 * THREADS
                assert connection.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar_one() == 0
                backends = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                assert connection.execute(text(backends)).scalar_one() <= CONNECTIONS + 1
            assert set(broken(database)) <= {"bodies"}


def test_the_leader_goes_past_the_pooler(database_url: str) -> None:
    """Of two sessions past the pooler one leads: two of the pooler's could both have the lock, on one connection."""
    say_limits(database_url)
    with pooler(database_url) as pooled:
        given = configured(pooled, database_url)
        with (
            closing(Database(given.direct, given)) as direct,
            direct.autocommit() as one,
            direct.autocommit() as another,
        ):
            assert [leadership.try_to_lead(each) for each in (one, another)] == [True, False]


@pytest.mark.parametrize("configuration", ["", LETS_OPTIONS_PASS])
def test_a_pooler_that_nobody_has_named_is_refused(database_url: str, configuration: str) -> None:
    """A pooler in DATABASE_URL alone is refused with what to do, also where the role has the limits that it needs."""
    say_limits(database_url)
    with pooler(database_url, configuration) as pooled:
        assert refusal(configured(pooled)) == NAME_IT


def test_a_pooler_is_not_taken_for_the_database_itself(database_url: str) -> None:
    """A pooler in DATABASE_DIRECT_URL is refused."""
    say_limits(database_url)
    with pooler(database_url, LETS_OPTIONS_PASS) as one, pooler(database_url, LETS_OPTIONS_PASS) as another:
        assert refusal(configured(one, another)) == NAME_ANOTHER


def test_behind_a_pooler_a_role_has_to_have_limits(database_url: str) -> None:
    """Behind a pooler a role without a time limit for statements is refused with the statements that set one."""
    with pooler(database_url) as pooled:
        said = refusal(configured(pooled, database_url))
    assert "ALTER ROLE celeriac IN DATABASE" in said
    assert "SET statement_timeout = '4s'" in said


def test_a_server_without_a_connection_to_spare_is_busy(database: Database, database_url: str) -> None:
    """A server that has no connection left is busy, not away: it says so when a connection is made."""
    with database.autocommit() as connection:
        name = connection.execute(text("SELECT current_database()")).scalar_one()
        connection.exec_driver_sql(f"ALTER DATABASE {name} CONNECTION LIMIT 0")
        with connected(configured(database_url)) as another, pytest.raises(DBAPIError, match="too many conn") as caught:
            another.engine.connect()
        connection.exec_driver_sql(f"ALTER DATABASE {name} CONNECTION LIMIT -1")
    assert outage(caught.value) is Outage.BUSY
