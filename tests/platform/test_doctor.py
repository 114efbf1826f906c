"""The doctor proves on a live platform that it works, and names what does not, with a mend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from kombu import Connection, Queue
from sqlalchemy import create_engine, text

from tests.commands import PROGRAM, Ended, run_in
from tests.conftest import _rabbitmqctl
from tests.live import LivePlatform
from tests.servers import Servers, new_database
from tracking.exit_status import Exit

Found = dict[str, dict[str, Any]]
CHECKS = {
    *("database", "migrations", "tenants", "clock", "tail", "disk", "broker", "confirms", "priority"),
    *("acknowledgement", "workers", "versions", "prefetch", "revocation", "secrets", "passwords"),
    *("queue default", "queue maintenance"),
}


def examined(platform: LivePlatform, directory: Path, **environment: str) -> tuple[Ended, Found]:
    """How `celeriac doctor` ended, and what it has found, by check."""
    variables = {**platform.environment, **environment}
    ended = run_in(directory, variables, PROGRAM, "doctor", "--json", within=120)
    assert ended.out, ended
    return ended, {each["check"]: each for each in json.loads(ended.out)["findings"]}


def health(found: Found) -> dict[str, str]:
    """The health that each check has found."""
    return {check: finding["health"] for check, finding in found.items()}


def test_a_platform_that_works_is_healthy(platform: LivePlatform, tmp_path: Path) -> None:
    """On either broker all checks are well, but for what the broker cannot tell; a canary leaves nothing behind."""
    platform.start_worker(queues="default,maintenance,webhooks")
    ended, found = examined(platform, tmp_path)
    assert found.keys() == {*CHECKS, "queue webhooks"}
    assert {check for check, state in health(found).items() if state != "ok"} <= {"acknowledgement"}, found
    assert ended.status == Exit.FINE
    assert found["priority"]["reason"] == "sent as 5 0 9 3 7 1, received as 9 7 5 3 1 0"
    assert found["revocation"]["reason"].endswith("(interrupted)")
    assert "a canary started after" in found["queue default"]["reason"]
    assert platform.jobs() == []


def test_a_queue_without_a_worker_is_found(platform: LivePlatform, tmp_path: Path) -> None:
    """A queue that no living worker consumes has failed, with the command that starts one."""
    platform.start_worker()
    ended, found = examined(platform, tmp_path)
    missing = found["queue webhooks"]
    assert (ended.status, missing["health"]) == (Exit.FAILED, "failed")
    assert missing["mend"] == "start one: `celeriac worker --queues webhooks`"
    assert health(found)["queue default"] == "ok"


def test_a_worker_at_another_broker_is_found(platform: LivePlatform, tmp_path: Path, servers: Servers) -> None:
    """Workers that live and get no message are told from workers that are busy."""
    platform.start_worker()
    other = servers.valkey_url.rpartition("/")[0] + "/7"
    _, found = examined(platform, tmp_path, BROKER_URL=other)
    assert health(found)["queue default"] == "failed"
    assert "BROKER_URL" in found["queue default"]["mend"]
    assert health(found)["versions"] == "warning"


@pytest.fixture
def alone(database_url: str, servers: Servers, tmp_path: Path) -> LivePlatform:
    """Settings of a platform of which nothing runs."""
    return LivePlatform(database_url, servers.valkey_url, tmp_path)


def test_a_database_that_is_away_is_found(alone: LivePlatform, tmp_path: Path) -> None:
    """Without its database the doctor says so from the host, and skips what needs it; the password is not told."""
    ended, found = examined(alone, tmp_path, DATABASE_URL="postgresql://u:hunter2@127.0.0.1:1/d")
    assert (ended.status, health(found)["database"]) == (Exit.FAILED, "failed")
    assert {health(found)[check] for check in ("migrations", "clock", "tail", "workers", "revocation")} == {"skipped"}
    assert health(found)["priority"] == "ok"
    assert "hunter2" not in ended.out + ended.err


def test_a_broker_that_is_away_is_found(alone: LivePlatform, tmp_path: Path) -> None:
    """Without its broker the doctor says so, and that no worker is there."""
    ended, found = examined(alone, tmp_path, BROKER_URL="redis://:hunter2@127.0.0.1:1/0")
    assert (health(found)["broker"], health(found)["priority"]) == ("failed", "skipped")
    assert (health(found)["workers"], health(found)["migrations"]) == ("failed", "ok")
    assert (ended.status, "hunter2" in ended.out + ended.err) == (Exit.FAILED, False)


def test_wrong_migrations_are_found(alone: LivePlatform, servers: Servers, tmp_path: Path) -> None:
    """An older schema, and a database without one, have failed with the command that mends it."""
    with new_database(servers) as url:
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '0005'"))
        engine.dispose()
        for wrong in (url, servers.database("postgres")):
            _, found = examined(alone, tmp_path, DATABASE_URL=wrong)
            assert (health(found)["migrations"], health(found)["workers"]) == ("failed", "skipped")
            assert "celeriac migrate" in found["migrations"]["mend"]


def test_a_weak_secret_is_found(alone: LivePlatform, tmp_path: Path) -> None:
    """A secret that is too short has failed, and is not told."""
    ended, found = examined(alone, tmp_path, CELERIAC_JWT_SECRET="hunter2")
    assert health(found)["secrets"] == "failed"
    assert "hunter2" not in ended.out + ended.err


def test_who_holds_the_tail_is_named(alone: LivePlatform, database_url: str, tmp_path: Path) -> None:
    """A transaction that has written history and does not end is named with its process, and how to end it."""
    engine = create_engine(database_url, connect_args={"application_name": "a forgotten session"})
    with engine.connect() as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        connection.execute(text("LOCK TABLE history IN ROW EXCLUSIVE MODE"))
        connection.execute(text("SELECT nextval(pg_get_serial_sequence('history', 'id'))"))
        _, found = examined(alone, tmp_path)
    engine.dispose()
    assert health(found)["tail"] == "failed"
    assert f"process {pid} of" in found["tail"]["reason"]
    assert "a forgotten session" in found["tail"]["reason"]
    assert f"pg_terminate_backend({pid})" in found["tail"]["mend"]


@pytest.fixture
def on_rabbitmq(database_url: str, rabbitmq_url: str, tmp_path: Path) -> LivePlatform:
    """The same with RabbitMQ."""
    return LivePlatform(database_url, rabbitmq_url, tmp_path)


def test_a_queue_without_priorities_is_found(on_rabbitmq: LivePlatform, rabbitmq_url: str, tmp_path: Path) -> None:
    """A queue that somebody has made without priorities is named: canaries of a queue of their own pass it by."""
    with Connection(rabbitmq_url) as connection:
        plain = Queue("maintenance", durable=True)(connection.default_channel)
        plain.delete()
        plain.declare()
        try:
            _, found = examined(on_rabbitmq, tmp_path)
        finally:
            plain.delete()
    assert health(found)["priority"] == "failed", found["priority"]
    assert "the queue maintenance was made otherwise" in found["priority"]["reason"]
    assert "rabbitmqctl delete_queue maintenance" in found["priority"]["mend"]


def test_a_broker_that_refuses_messages_is_found(on_rabbitmq: LivePlatform, rabbitmq_url: str, tmp_path: Path) -> None:
    """A policy by which RabbitMQ refuses every message is found by the check of confirms; priorities are skipped."""
    host = urlsplit(rabbitmq_url).path.removeprefix("/")
    refusing = '{"max-length": 0, "overflow": "reject-publish"}'
    if not _rabbitmqctl("set_policy", "-p", host, "--apply-to", "queues", "refuse", "^celeriac-doctor", refusing):
        pytest.skip("no policy can be set here")
    try:
        _, found = examined(on_rabbitmq, tmp_path)
    finally:
        _rabbitmqctl("clear_policy", "-p", host, "refuse")
    assert (health(found)["confirms"], health(found)["priority"]) == ("failed", "skipped")
    assert "list_policies" in found["confirms"]["mend"]
