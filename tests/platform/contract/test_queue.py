"""What the users of the queue architecture rely on."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from uuid import UUID

from sqlalchemy import text

from tests.api.calling import Caller
from tests.live import eventually
from tests.platform.contract.conftest import System, created, job_of, reached, succeeded
from tests.platform.contract.promises import shows
from tests.tracked import Tracked
from tracking.models import Scope
from tracking.reads import lists
from tracking.states import Status, is_legal

SYSTEM = "queue architecture"
NEVER = "2100-01-01T00:00:00Z"
FINISHED = 10_000  # what is more takes longer than a statement may, on a busy machine

MANY = """
    INSERT INTO jobs (id, organization_id, user_id, job_type, queue, status, attempt, progress, max_retries,
                      created_at, started_at, completed_at, updated_at)
    SELECT gen_random_uuid(), :organization, 'u1', 'noop', 'default', 'succeeded', 1, 100, 0, at, at, at, at
    FROM generate_series(1, :number), (SELECT now() - interval '2 days' AS at) AS moment"""
ROWS_READ = "SELECT idx_tup_fetch + seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'jobs'"


@shows(SYSTEM, "the states and their moves")
def test_a_job_moves_along_the_states(someone: Caller) -> None:
    """A job's history is a path from created to its end, each move one that the table of states has."""
    later = created(someone, "noop", scheduledAt=NEVER)
    assert (job_of(someone, later)["status"], job_of(someone, later)["hold"]) == ("queued", "schedule")
    someone.post(f"/v1/jobs/{later}/cancel")
    someone.post(f"/v1/jobs/{later}/retry", {"force": True})
    again = created(someone, "flaky", {"failures": 1})
    failed = created(someone, "flaky", {"failures": 9}, maxRetries=0)
    ways = {later: ["queued", "cancelled", "queued", "running", "succeeded"],
            again: ["queued", "running", "retrying", "running", "succeeded"],
            failed: ["queued", "running", "failed"]}  # fmt: skip
    for job_id, way in ways.items():
        reached(someone, job_id, way[-1])
        history = someone.get(f"/v1/jobs/{job_id}", include="history").json()["history"]
        moves = [entry["to"] for entry in history if entry["event"] == "created" or entry["from"] != entry["to"]]
        assert moves == way
        assert all(is_legal(Status(source), Status(target)) for source, target in pairwise(moves))
        assert all(earlier["to"] == later["from"] for earlier, later in pairwise(history))


@shows(SYSTEM, "active rows small and fast whatever the history holds", "stats with the oldest waiting age")
def test_active_jobs_are_read_without_the_history(system: System, someone: Caller) -> None:
    """With 10,000 finished jobs beside them the active ones are listed and counted without reading those."""
    someone.put(f"/v1/organizations/{someone.organization}/limit", {"limit": 1})
    first = created(someone, "nap", {"seconds": 60})
    reached(someone, first, "running")
    waiting = created(someone, "noop")
    database = system.platform.database
    with database.begin() as connection:
        connection.execute(text(MANY), {"organization": someone.organization, "number": FINISHED})
    with database.autocommit() as connection:
        connection.execute(text("ANALYZE jobs"))
    scope = Scope(someone.organization, None)
    with database.begin() as connection:
        lists.recent(connection, scope, limit=100)
        lists.stats(connection, scope)
        assert connection.execute(text(ROWS_READ)).scalar_one() < 100
    recent = someone.get("/v1/jobs/recent").json()["jobs"]
    stats = someone.get("/v1/jobs/stats").json()
    assert {job["id"] for job in recent} == {first, waiting}
    assert (stats["totalActive"], stats["pending"], stats["running"], stats["total"]) == (2, 1, 1, 2)
    assert 0 < stats["oldestPendingAgeMs"] < 60_000
    assert someone.get("/v1/jobs/stats", window="all").json()["completed"] == FINISHED
    someone.post(f"/v1/jobs/{first}/cancel")
    succeeded(someone, waiting)
    assert someone.get("/v1/jobs/stats").json()["oldestPendingAgeMs"] is None


@shows(SYSTEM, "stalled jobs reset")
def test_a_job_whose_process_died_runs_again(someone: Caller, tmp_path: Path) -> None:
    """A job whose process is killed is queued again, runs once more, and says so."""
    witness = tmp_path / "starts"
    job = succeeded(someone, created(someone, "die", {"witness": str(witness)}))
    assert (job["attempt"], len(witness.read_text().split())) == (2, 2)
    attempts = someone.get(f"/v1/jobs/{job['id']}", include="attempts").json()["attempts"]
    assert [attempt["outcome"] for attempt in attempts] == ["released", "completed"]


@shows(SYSTEM, "clean-up by age and status")
def test_jobs_are_cleaned_up_by_age_and_status(system: System, someone: Caller) -> None:
    """A bulk delete removes the finished jobs of a status from before a time, and no others."""
    old, young, failed = created(someone, "noop"), created(someone, "noop"), created(someone, "fail")
    for job_id in (old, young, failed):
        reached(someone, job_id)
    with system.platform.database.autocommit() as connection:
        tracked = Tracked(connection)
        for job_id in (old, failed):
            tracked.finished_ago(tracked.get(UUID(job_id)), timedelta(days=3))
    before = job_of(someone, young)["createdAt"]
    asked = {"action": "delete", "filter": {"status": ["completed"], "createdTo": before}}
    begun = someone.post("/v1/bulk", asked).json()
    ended = eventually(
        lambda: next(
            filter(lambda it: it["state"] == "completed", [someone.get(f"/v1/bulk/{begun['id']}").json()]), None
        ),
        what="the end of the operation",
    )
    assert ended["counts"]["succeeded"] == 1
    assert [someone.get(f"/v1/jobs/{job_id}").status_code for job_id in (old, young, failed)] == [404, 200, 200]


@shows(SYSTEM, "handlers registered by type")
def test_the_types_are_those_that_have_a_handler(someone: Caller) -> None:
    """The list of types has each registered handler with the schema of its payload, and no other type is taken."""
    types = {each["jobType"]: each for each in someone.get("/v1/job-types").json()["jobTypes"]}
    assert {"count_words", "process_upload", "export_report"} <= set(types)
    assert types["process_upload"]["payloadSchema"]["required"] == ["name"]
    answer = someone.create("nobody_knows_it")
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_job_type")


@shows(SYSTEM, "no handler: a failed job with that reason")
def test_a_job_without_a_handler_fails_with_that_reason(system: System, someone: Caller) -> None:
    """A job that a program sends to a worker without its handler has failed, and says why."""
    sent = system.platform.submit("nobody_knows_it", organization=someone.organization, user=someone.user)
    job = reached(someone, str(sent))
    assert job["status"] == "failed"
    assert "nobody_knows_it" in job["errorMessage"]
    assert "handler" in job["errorMessage"]
