"""Liveness and readiness."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from tests.api.calling import problem
from tests.api.conftest import serving
from tracking import workers
from tracking.db import Database


def test_the_platform_is_ready_when_database_broker_and_a_worker_are_there(
    database_url: str, database: Database, api_broker_url: str, tmp_path: Path
) -> None:
    """Without a worker it is not, and says so."""
    with serving(database_url, api_broker_url, tmp_path) as running:
        body = problem(running.client.get("/readyz"), 503, "not_ready")
        assert body["checks"] == {"database": "ok", "worker": "none", "broker": "ok"}
        with database.autocommit() as connection:
            workers.beat(connection, uuid4(), name="w", pid=1, queues=["default"], concurrency=1)
        ready = running.client.get("/readyz")
        assert (ready.status_code, ready.json()) == (
            200,
            {"status": "ready", "checks": {"database": "ok", "worker": "ok", "broker": "ok"}},
        )


def test_without_a_broker_the_platform_is_not_ready(database_url: str, tmp_path: Path) -> None:
    """Jobs are accepted, but none would start."""
    with serving(database_url, "redis://127.0.0.1:1/0", tmp_path) as lonely:
        assert problem(lonely.client.get("/readyz"), 503, "not_ready")["checks"]["broker"] == "away"
