"""Row-level security: who sees which rows, whatever a statement says, and how it comes to be in force."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner
from sqlalchemy import Connection, create_engine, event, func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from celeriac.commands.cli import command
from tests.servers import Servers
from tests.tracked import ACME, Tracked, new_job, own_pool
from tracking import jobs, roles
from tracking.admission import pauses
from tracking.admission.rule import UNLIMITED
from tracking.db import Database, migrate
from tracking.errors import ConfigurationError, JobNotFound
from tracking.models import Owner, Scope
from tracking.reads import lists
from tracking.reads.answers import Filters
from tracking.row_security import COMMON, PARTS, PRIVATE, policies
from tracking.schema import metadata
from tracking.settings import settings
from tracking.tenancy import NOBODY, TENANT, confined_to, unconfined

GLOBEX = Owner("globex", "u1")
COUNT = text("SELECT count(*) FROM jobs")


def seen(database: Database) -> int:
    """How many jobs are seen by a query that asks for all."""
    with database.autocommit() as connection:
        return int(connection.execute(COUNT).scalar_one())


@pytest.fixture
def two(tracked: Tracked, pool: Database) -> Database:
    """A job of acme, and one of globex."""
    tracked.submit()
    tracked.submit(owner=GLOBEX)
    return pool


def test_a_request_sees_its_organization_alone(two: Database) -> None:
    """A query that asks for all jobs sees those of the organization that it is confined to; of NOBODY, none."""
    for organization, count in (("acme", 1), ("globex", 1), ("initech", 0), (NOBODY, 0)):
        with confined_to(organization):
            assert seen(two) == count


def test_the_platform_and_the_owner_see_all(two: Database) -> None:
    """Whoever is not confined sees all, the owner of the tables as well: so it is without any setting."""
    with two.autocommit() as connection:
        owner = connection.execute(text("SELECT tableowner = current_user FROM pg_tables WHERE tablename = 'jobs'"))
        assert owner.scalar_one() is True
    assert seen(two) == 2


def test_the_role_without_an_organization_sees_nothing(two: Database) -> None:
    """Whoever takes the role of requests and says no organization sees nothing."""
    with two.begin() as connection:
        connection.execute(text(f"SET LOCAL ROLE {TENANT}"))
        assert connection.execute(COUNT).scalar_one() == 0


def test_nothing_is_left_on_the_connection(servers: Servers) -> None:
    """Role and organization end with the transaction, also one that has failed: so a pooler may pass it on."""
    with own_pool(servers) as pool:
        one = Database(pool.engine.url.render_as_string(hide_password=False), settings(), pool_size=1)
        with confined_to("acme"), one.begin() as connection:
            assert _who(connection) == (TENANT, "acme")
        with pytest.raises(DBAPIError), confined_to("acme"), one.begin() as connection:
            connection.execute(text("SELECT 1 / 0"))
        with one.autocommit() as connection:
            assert _who(connection) == (one.engine.url.username, "")
        one.close()


def _who(connection: Connection) -> tuple[Any, ...]:
    return tuple(connection.execute(text("SELECT current_user, current_setting('celeriac.organization', true)")).one())


def test_no_row_is_written_for_another_organization(two: Database) -> None:
    """A job for another organization than the request's is refused by the database."""
    with pytest.raises(DBAPIError, match="row-level security"), confined_to("acme"), two.autocommit() as connection:
        jobs.submit(connection, new_job(owner=GLOBEX), UNLIMITED, scope=Scope("globex", None))


def test_verbs_do_not_find_what_is_anothers(two: Database, tracked: Tracked) -> None:
    """Cancel, in the name of all organizations, does not find another organization's job."""
    theirs = tracked.submit(owner=GLOBEX)
    with pytest.raises(JobNotFound), confined_to("acme"), two.autocommit() as connection:
        jobs.cancel(connection, theirs.id, Scope("", None), actor="u1", reason=None, origin=None)


def test_what_is_of_all_is_shown_and_not_changed(two: Database) -> None:
    """A pause of all organizations is shown to each, which cannot end it."""
    with two.begin() as connection:
        pauses.pause(
            connection, organization_id=None, job_type="count_words", actor="operator", reason=None, origin=None
        )
    with confined_to("acme"), two.begin() as connection:
        assert [pause.everywhere for pause in pauses.of(connection, "acme")] == [True]
        assert connection.execute(text("DELETE FROM pauses")).rowcount == 0


def test_what_is_counted_over_all_is_so_for_everybody(two: Database) -> None:
    """Whether organizations compete is the same to a request as to the platform, and so is a block that lifts it."""
    contended = text("SELECT is_contended('acme', 'default', NULL)")
    with two.autocommit() as connection:
        assert connection.execute(contended).scalar_one() is True
    with confined_to("acme"), two.autocommit() as connection:
        assert connection.execute(contended).scalar_one() is True
        with unconfined(connection):
            assert connection.execute(COUNT).scalar_one() == 2
        assert connection.execute(COUNT).scalar_one() == 1


def test_partitions_are_read_by_way_of_the_history_alone(two: Database) -> None:
    """A request reads its history through the partitioned table, and no partition by its own name."""
    with confined_to("acme"), two.autocommit() as connection:
        assert connection.execute(text("SELECT DISTINCT organization_id FROM history")).scalars().all() == ["acme"]
    with pytest.raises(DBAPIError, match="permission denied"), confined_to("acme"), two.autocommit() as connection:
        connection.execute(text("SELECT count(*) FROM history_default"))


@pytest.mark.parametrize("table", sorted(PRIVATE))
def test_what_is_the_platforms_is_closed(table: str, two: Database) -> None:
    """Requests read no table that is the platform's alone."""
    with pytest.raises(DBAPIError, match="permission denied"), confined_to("acme"), two.autocommit() as connection:
        connection.execute(select(func.count()).select_from(metadata.tables[table]))


def test_every_table_is_kept_apart_or_known_to_be_of_nobody() -> None:
    """A table has a policy, is a part of one that has, or stands in the lists of those without organizations."""
    assert set(metadata.tables) == {*policies(), *COMMON, *PRIVATE}
    assert {name for name, table in metadata.tables.items() if "organization_id" in table.c} <= policies().keys()
    assert PARTS.keys() <= policies().keys()


def test_the_condition_of_a_query_is_what_an_index_answers(two: Database) -> None:
    """A list uses its index, and the policy is asked once, not of each row."""
    with confined_to("acme"), two.autocommit() as connection:
        # Earlier tests may have left a table of many pages, and this one has four rows: they are sorted in no time.
        connection.execute(text("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off"))
        asked = "EXPLAIN SELECT id FROM jobs WHERE organization_id = 'acme' ORDER BY created_at DESC, id DESC LIMIT 9"
        plan = "\n".join(connection.execute(text(asked)).scalars())
    assert "One-Time Filter" in plan
    assert "jobs_listed" in plan


def test_without_the_role_the_queries_are_all_that_there_is(database: Database) -> None:
    """A database whose roles were never made, or were granted nothing, works as before, and says what it lacks."""
    with database.autocommit() as connection:
        Tracked(connection).submit(owner=GLOBEX)
        assert roles.lacking(connection) is None
        connection.execute(text(f"REVOKE ALL ON jobs FROM {TENANT}"))
        assert roles.lacking(connection) == f"{TENANT} was granted nothing"
    with confined_to("acme"):
        assert seen(database) == 1
        with database.autocommit() as connection:
            assert list(lists.after(connection, ACME, Filters(), cursor=None, size=9).jobs) == []


def test_migrating_brings_about_what_is_lacking(database: Database, database_url: str) -> None:
    """Row-level security that somebody has switched off, and a policy that was dropped, are back after a migration."""
    with database.autocommit() as connection:
        connection.execute(text("ALTER TABLE jobs NO FORCE ROW LEVEL SECURITY"))
        connection.execute(text("ALTER TABLE files DISABLE ROW LEVEL SECURITY"))
        connection.execute(text("DROP POLICY everything ON webhooks"))
        assert roles.lacking(connection) == "row-level security is not forced on files, jobs"
        migrate(database_url)
        assert roles.lacking(connection) is None
        found = connection.execute(text("SELECT count(*) FROM pg_policies WHERE tablename = 'webhooks'")).scalar_one()
        assert found == 2


@pytest.fixture
def ordinary(database: Database) -> Iterator[Database]:
    """A login that is neither the owner nor a superuser, and a member of the platform's role."""
    administrator = create_engine(
        database.engine.url.set(username="postgres"), poolclass=NullPool, isolation_level="AUTOCOMMIT"
    )
    name = f"api_{uuid4().hex[:8]}"
    with administrator.connect() as connection:
        connection.execute(text(f"CREATE ROLE {name} LOGIN"))
        for statement in roles.statements([name]):
            connection.exec_driver_sql(statement)
    pool = Database(administrator.url.render_as_string(hide_password=False), settings())
    event.listen(pool.engine, "connect", lambda made, _: made.execute(f"SET SESSION AUTHORIZATION {name}"))
    yield pool
    pool.close()
    with administrator.connect() as connection:
        connection.execute(text(f"DROP ROLE {name}"))


def test_an_ordinary_login_does_all_that_the_api_does(ordinary: Database) -> None:
    """A member of the platform's role sees all organizations, is confined in a request, and changes no table."""
    for organization in ("acme", "globex"):
        with confined_to(organization), ordinary.autocommit() as connection:
            job = new_job(owner=Owner(organization, "u1"))
            jobs.submit(connection, job, UNLIMITED, scope=Scope(organization, None))
            assert connection.execute(COUNT).scalar_one() == 1
    assert seen(ordinary) == 2
    with ordinary.autocommit() as connection:
        assert roles.lacking(connection) is None
        assert roles.login(connection)[1] is None
        with pytest.raises(DBAPIError, match="must be owner"):
            connection.execute(text("ALTER TABLE jobs DISABLE ROW LEVEL SECURITY"))


def test_a_login_that_is_no_member_sees_nothing(ordinary: Database, database: Database) -> None:
    """Whoever has rights on the tables, and is no member of the platform's role, sees no row of anybody."""
    with database.autocommit() as connection:
        Tracked(connection).submit()
        connection.execute(text("GRANT SELECT ON jobs TO pg_monitor"))
        connection.execute(text("GRANT SELECT ON jobs TO PUBLIC"))
    with ordinary.begin() as connection:
        connection.execute(text(f"SET LOCAL ROLE {TENANT}"))
        assert connection.execute(COUNT).scalar_one() == 0


def test_who_may_not_make_roles_is_told_what_to_have_said(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """`celeriac roles` changes nothing that is there; a login that is to be added, and may not be, is named."""
    url = servers.database_url
    roles.make(url, [])
    with pytest.raises(ConfigurationError, match=r"celeriac may not make roles: .*--sql"):
        roles.make(url, ["pg_monitor"])
    monkeypatch.setenv("DATABASE_URL", url)
    printed = CliRunner().invoke(command, ["roles", "--sql", "--login", 'a"b'])
    assert 'GRANT celeriac_platform TO "a""b"' in printed.output
