"""What the users of the fleet assistant's tracking API rely on."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from tests.api.calling import Caller, problem
from tests.platform.contract.conftest import System
from tests.platform.contract.promises import shows
from tests.tracked import Tracked

SYSTEM = "fleet assistant's tracking API"


@shows(
    SYSTEM,
    "create with jobType, by default generic, message and metadata",
    "update with progress and message",
    "complete with a document id",
)
def test_work_that_is_done_elsewhere_is_made_updated_and_completed(someone: Caller) -> None:
    """A job is made as its assistant says, told how far it is, completed with a document id, and run by no worker."""
    generic = _made(someone)
    assert (generic["jobType"], generic["status"]) == ("generic", "queued")
    said = {"jobType": "document_analysis", "message": "Reading", "metadata": {"vehicle": "B-XY 1"}}
    job = _made(someone, **said)
    assert {name: job[name] for name in said} == said
    path = f"/v1/jobs/{job['id']}"
    begun = someone.patch(path, {"status": "processing"}).json()
    assert (begun["job"]["status"], begun["progress"]) == ("running", 0)
    further = someone.patch(path, {"progress": 40, "message": "Page 4 of 10"}).json()
    assert (further["progress"], further["progressDetail"]["message"]) == (40, "Page 4 of 10")
    ended = someone.patch(path, {"status": "completed", "result": {"documentId": "d-17"}})
    assert ended.status_code == 200
    status = someone.get(f"{path}/status").json()
    assert (status["job"]["status"], status["progress"], status["documentId"]) == ("succeeded", 100, "d-17")
    assert status["job"]["worker"] != ""
    assert someone.get(f"/v1/jobs/{generic['id']}").json()["attempt"] == 0


@shows(SYSTEM, "fail")
def test_work_that_is_done_elsewhere_fails_with_its_reason(someone: Caller) -> None:
    """A job whose assistant says that it has failed shows the error, and takes no report after that."""
    job = _made(someone, jobType="llm_agent")
    failed = someone.patch(f"/v1/jobs/{job['id']}", {"status": "failed", "error": "no such document"}).json()
    assert (failed["job"]["status"], failed["job"]["errorMessage"]) == ("failed", "no such document")
    problem(someone.patch(f"/v1/jobs/{job['id']}", {"progress": 50}), 409, "illegal_move")


@shows(SYSTEM, "cleaned up 5 minutes after the end")
def test_it_is_gone_five_minutes_after_its_end(system: System, someone: Caller) -> None:
    """A job whose work was done elsewhere is there four minutes after its end, and gone after six."""
    young, old = _made(someone), _made(someone)
    for job, minutes in ((young, 4), (old, 6)):
        someone.patch(f"/v1/jobs/{job['id']}", {"status": "succeeded"})
        with system.platform.database.autocommit() as connection:
            tracked = Tracked(connection)
            tracked.finished_ago(tracked.get(UUID(job["id"])), timedelta(minutes=minutes))
    assert system.platform.start("celeriac", "prune", log="prune.log").wait(30) == 0, system.platform.log("prune.log")
    assert someone.get(f"/v1/jobs/{young['id']}").status_code == 200
    problem(someone.get(f"/v1/jobs/{old['id']}"), 404, "job_not_found")


def _made(caller: Caller, **said: Any) -> dict[str, Any]:
    answer = caller.post("/v1/jobs", said)
    assert answer.status_code == 202, answer.text
    return dict(caller.get(f"/v1/jobs/{answer.json()['jobId']}").json())
