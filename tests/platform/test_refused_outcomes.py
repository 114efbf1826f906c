"""An outcome that the database refuses for good ends its attempt all the same, with the reason of the refusal."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
from psycopg import errors
from sqlalchemy.exc import DBAPIError

from tasks.refusals import instead_of, reason_of
from tests.live import LivePlatform
from tests.servers import Servers, new_database
from tracking.models import Failure, Fence, Outcome

# What a database may have against a value: too long, a check, too large, a type, a trigger of its administrator's.
CODES = ["22001", "23514", "54000", "42804", "P0001"]

# A database that refuses what says so, in a result, in a wait for the next attempt, and in a traceback.
REFUSING = """
CREATE FUNCTION refuse_{table}() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE code text := substring({told} FROM 'refuse:(.....)');
BEGIN
    IF code IS NOT NULL THEN
        RAISE EXCEPTION 'not here' USING ERRCODE = code, DETAIL = 'a secret';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE {action} ON {table} FOR EACH ROW EXECUTE FUNCTION refuse_{table}();"""
ON_JOBS = "concat(NEW.result, CASE NEW.status WHEN 'retrying' THEN NEW.error_message END)"
ON_HISTORY = "CASE NEW.to_status WHEN 'failed' THEN NEW.detail ->> 'traceback' END"


@pytest.fixture(scope="module")
def refusing(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePlatform]:
    """A platform with a worker on such a database."""
    directory = tmp_path_factory.mktemp("refusing")
    with (
        new_database(servers) as url,
        LivePlatform(url, servers.valkey_url, directory, CELERIAC_IMPORTS="tests.hostile_handlers") as platform,
    ):
        with platform.database.begin() as connection:
            connection.exec_driver_sql(REFUSING.format(table="jobs", action="UPDATE", told=ON_JOBS))
            connection.exec_driver_sql(REFUSING.format(table="history", action="INSERT", told=ON_HISTORY))
        platform.start_worker()
        yield platform


@pytest.mark.parametrize("code", CODES)
def test_a_result_that_is_refused_fails_the_job_with_the_reason(refusing: LivePlatform, code: str) -> None:
    """A result that the database refuses fails the job once, with the reason and without its values."""
    job = refusing.wait_for(refusing.submit("hostile.echo", f"refuse:{code}"))
    assert (job.status, job.error_type) == ("failed", errors.lookup(code).__name__)
    assert job.error_message == "its outcome 'succeeded' could not be written: not here"
    assert refusing.events(job.id) == ["created", "started", "failed"]


@pytest.mark.parametrize("code", CODES)
def test_a_failure_whose_details_are_refused_keeps_its_own_reason(refusing: LivePlatform, code: str) -> None:
    """A failure whose traceback the database refuses keeps its own type and message."""
    job = refusing.wait_for(refusing.submit("hostile.fail", f"refuse:{code}"))
    assert (job.status, job.error_type, job.error_message) == ("failed", "ValueError", f"refuse:{code}")
    assert refusing.events(job.id) == ["created", "started", "failed"]


@pytest.mark.parametrize("code", CODES)
def test_a_retry_that_is_refused_fails_the_job_with_the_reason(refusing: LivePlatform, code: str) -> None:
    """A retry that the database refuses fails the job with the reason."""
    job = refusing.wait_for(refusing.submit("hostile.again", f"refuse:{code}"))
    assert job.status == "failed"
    assert job.error_message == "its outcome 'retry' could not be written: not here"


def test_no_value_is_in_the_log(refusing: LivePlatform) -> None:
    """The log of a refused outcome holds neither values nor the statement."""
    log = refusing.log()
    assert "outcome.unwritable" in log
    assert "a secret" not in log
    assert "refuse:" not in log
    assert "UPDATE jobs" not in log


@pytest.mark.parametrize(
    ("error", "type_name", "message"),
    [
        (DBAPIError("SELECT 1", {}, errors.CheckViolation("wrong\nDETAIL: x")), "CheckViolation", "wrong"),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates"), "UnicodeEncodeError", "surrogates"),
        (ValueError("a\x00b"), "ValueError", "a\N{REPLACEMENT CHARACTER}b"),
        (ValueError(), "ValueError", "ValueError"),
    ],
)
def test_a_refusal_is_told_by_its_reason(error: Exception, type_name: str, message: str) -> None:
    """A refusal of the database is told by its reason, without the statement."""
    reason = reason_of(error)
    assert reason.type == type_name
    assert message in reason.message
    assert "SELECT" not in reason.message


def test_what_is_written_instead_is_storable() -> None:
    """What is written instead of a refused outcome can always be stored."""
    outcome = Outcome(Fence(uuid4(), 1), "failed", "w", 1, failure=Failure("E\x00", "\ud800", "x", {"a": "\x00"}))
    instead = instead_of(outcome, ValueError("no"))
    assert instead.failure == Failure("E\N{REPLACEMENT CHARACTER}", "?")
    assert (instead.kind, instead.attempt) == ("failed", 1)
