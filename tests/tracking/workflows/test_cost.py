"""What a look at a workflow reads."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Connection, text

from tests.crowded import QUIET, as_superuser, forget, look_at
from tests.servers import Servers, new_database, patient
from tests.tracked import ACME, Tracked
from tests.workflowing import create, node
from tracking.tenancy import confined_to
from tracking.workflows import reads
from tracking.workflows.values import MOST_JOBS

MOST_PAGES = 40_000  # of 8 KiB, for a thousand jobs; it read 150,000 and took a second
BESIDE = 30  # rows of the history of their organization for each row of theirs
OTHERS = """
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, to_status, attempt, dispatch, actor, at)
    SELECT gen_random_uuid(), organization_id, user_id, job_type, event, to_status, attempt, dispatch, actor, at
    FROM history CROSS JOIN generate_series(1, :beside)"""


@pytest.mark.parametrize("known", [forget, look_at], ids=["before the week is counted", "after it"])
def test_a_look_at_a_thousand_jobs_reads_nothing_of_others(
    servers: Servers, known: Callable[[Connection], None]
) -> None:
    """A workflow that goes on is shown from the history of its jobs, and not of all that its organization did."""
    with new_database(servers) as url:
        pool = patient(url)
        with pool.autocommit() as connection:
            connection.execute(text(QUIET))
            flow = create(pool, Tracked(connection), *(node(f"n{number}") for number in range(MOST_JOBS)))
            connection.execute(text(OTHERS), {"beside": BESIDE})
        as_superuser(url, known)
        with confined_to("acme"), pool.begin() as connection:
            explained = text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {reads.GET.text}")
            plan = connection.execute(explained, {"id": flow.id, **ACME.parameters}).scalar_one()[0]["Plan"]
        pool.close()
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < MOST_PAGES
