"""Which of the jobs behind a circuit tries, where very many wait."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, text

from tests.crowded import as_superuser
from tracking.admission import circuits
from tracking.admission.rule import Limits

BEHIND = 20_000  # jobs of one circuit

OPEN = """
    INSERT INTO circuits (job_type, organization_id, key, failures, pause, probe_at)
    VALUES ('broken', 'acme', '', 5, '1 minute', now() - interval '1 second')"""
HELD = """
    INSERT INTO jobs (id, organization_id, user_id, job_type, status, hold, queue, max_retries)
    SELECT gen_random_uuid(), 'acme', 'user-1', 'broken', 'queued', 'circuit', 'default', 3
    FROM generate_series(1, :count)"""
RUN = """
    INSERT INTO jobs (id, organization_id, user_id, job_type, status, queue, max_retries, started_at, created_at)
    SELECT gen_random_uuid(), 'acme', 'user-1', 'other', 'running', 'default', 3, now(), now()
    FROM generate_series(1, :count)"""
CALLS = "SELECT sum(calls) FROM pg_stat_xact_user_functions WHERE funcname IN ('room_in', 'free_in')"


@pytest.mark.parametrize(("running", "tries"), [(0, 1), (5, 0)], ids=["room", "no room"])
def test_whether_a_job_behind_a_circuit_has_room_is_asked_once_for_all_of_its_queue(
    database_url: str, running: int, tries: int
) -> None:
    """Of very many jobs behind one circuit one is named to try, or none: room is not looked for of each of them."""

    def probe(connection: Connection) -> None:
        connection.execute(text("SET track_functions = 'pl'"))
        connection.execute(text(OPEN))
        connection.execute(text(HELD), {"count": BEHIND})
        connection.execute(text(RUN), {"count": running})
        connection.execute(text("BEGIN"))
        assert len(circuits.probe(connection, Limits(5))) == tries
        assert calls(connection) == 1

    as_superuser(database_url, probe)


def calls(connection: Connection) -> int:
    return int(connection.execute(text(CALLS)).scalar_one())
