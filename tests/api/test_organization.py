"""Limits and pauses by the API: who may, what they change, and that waiting jobs are sent at once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete

from tests.api.calling import MANAGING, Api, Caller, problem
from tests.live import eventually
from tracking.admission import circuits
from tracking.schema import circuits as table
from tracking.schema import pauses

NO_BODY: list[Any] = [None, {}]


@pytest.fixture(autouse=True)
def _as_before(api: Api) -> Iterator[None]:
    """What concerns all organizations is not left behind."""
    yield
    with api.database.autocommit() as connection:
        connection.execute(delete(pauses).where(pauses.c.organization_id.is_(None)))
        connection.execute(delete(table))


def job_type(caller: Caller, name: str = "open") -> dict[str, Any]:
    """What the caller is told about a type."""
    types: list[dict[str, Any]] = caller.get("/v1/job-types").json()["jobTypes"]
    return next(entry for entry in types if entry["jobType"] == name)


def is_sent(caller: Caller, job_id: str) -> bool:
    """Whether the broker has the job's message."""
    return caller.find(job_id).dispatched_at is not None


# limits


def test_an_organization_has_the_platforms_limit(caller: Caller) -> None:
    """An organization without a limit of its own has the platform's limit."""
    assert caller.get("/v1/organization").json() == {
        "id": caller.organization,
        "limit": 5,
        "isDefaultLimit": True,
        "executing": 0,
        "inLine": 0,
        "weight": 1,
        "waitingLimit": 0,
        "pauses": [],
    }


def test_jobs_that_execute_and_that_stand_in_line_are_counted(caller: Caller) -> None:
    """The counts of executing and waiting jobs are those of this organization, of all its users."""
    caller.but(user="u2").job("running")
    caller.job("succeeded")
    caller.api.caller().job("running")
    for _ in range(6):
        caller.create()
    body = caller.get("/v1/organization").json()
    assert (body["executing"], body["inLine"]) == (5, 2)


def test_a_higher_limit_lets_jobs_through_at_once(caller: Caller) -> None:
    """A higher limit lets jobs through at once, without a worker that looks after them."""
    last = [caller.create().json()["jobId"] for _ in range(6)][-1]
    assert caller.find(last).hold == "organization_limit"
    body = caller.put(f"/v1/organizations/{caller.organization}/limit", {"limit": 6}).json()
    assert (body["limit"], body["isDefaultLimit"]) == (6, False)
    assert eventually(lambda: is_sent(caller, last))


def test_a_lower_limit_puts_jobs_that_have_not_started_back_into_the_line(caller: Caller) -> None:
    """A lower limit puts jobs that have not started back into the line; running ones go on."""
    running, waiting = caller.job("running"), caller.create().json()["jobId"]
    body = caller.put(f"/v1/organizations/{caller.organization}/limit", {"limit": 1}).json()
    assert (body["executing"], body["inLine"]) == (1, 1)
    assert (caller.find(running.id).status, caller.find(waiting).hold) == ("running", "organization_limit")


def test_without_a_limit_of_its_own_the_default_counts_again(caller: Caller) -> None:
    """After a reset to the default, jobs that were sent above it go back into the line."""
    path = f"/v1/organizations/{caller.organization}/limit"
    assert caller.put(path, {"limit": 0}).json()["limit"] == 0
    for _ in range(7):
        caller.create()
    body = caller.put(path, {"limit": None}).json()
    assert (body["limit"], body["isDefaultLimit"]) == (5, True)
    assert (body["executing"], body["inLine"]) == (5, 2)


@pytest.mark.parametrize(
    "body", [{}, {"limit": -1}, {"limit": 100_001}, {"limit": "5"}, {"limit": 5.5}, {"limit": True}]
)
def test_a_limit_is_a_number_up_to_100000_or_null(caller: Caller, body: dict[str, Any]) -> None:
    """A limit is a number from 0 to 100,000 or null; everything else is refused."""
    path = f"/v1/organizations/{caller.organization}/limit"
    problem(caller.put(path, body), 422, "invalid_request")
    assert caller.get("/v1/organization").json()["isDefaultLimit"] is True


@pytest.mark.parametrize(("name", "status"), [("%00", 400), ("x" * 256, 422), ("%ff", 400), ("..%2f", 404)])
def test_a_name_that_no_organization_can_have_is_refused(caller: Caller, name: str, status: int) -> None:
    """An impossible name of an organization is refused, and is not taken for a path."""
    assert caller.put(f"/v1/organizations/{name}/limit", {"limit": 1}).status_code == status


def test_only_operators_set_limits(caller: Caller) -> None:
    """Setting a limit needs jobs.manage_platform, also for the own organization."""
    manager = caller.but(permissions=("jobs.manage_jobs",))
    problem(manager.put(f"/v1/organizations/{caller.organization}/limit", {"limit": 9}), 403, "permission_missing")


# pauses


@pytest.mark.parametrize("path", ["/v1/organization", "/v1/job-types/open"])
def test_what_is_paused_is_held_until_it_is_resumed(caller: Caller, path: str) -> None:
    """A paused job is held, and sent at once after the resume."""
    assert caller.post(f"{path}/pause", {"reason": "moving"}).status_code == 200
    job_id = caller.create().json()["jobId"]
    assert caller.find(job_id).hold == "paused"
    assert caller.post(f"{path}/resume").json()["pauses"] == []
    assert eventually(lambda: is_sent(caller, job_id))


def test_a_pause_says_by_whom_why_and_since_when(caller: Caller) -> None:
    """The answer, the list of types and the organization show who paused, why and since when."""
    (pause,) = caller.post("/v1/job-types/open/pause", {"reason": "moving"}).json()["pauses"]
    assert (pause["jobType"], pause["everywhere"], pause["pausedBy"], pause["reason"]) == (
        *("open", False),
        *(caller.user, "moving"),
    )
    assert job_type(caller)["pauses"] == caller.get("/v1/organization").json()["pauses"] == [pause]
    assert job_type(caller, "guarded")["pauses"] == []


def test_pausing_and_resuming_twice_is_the_same_as_once(caller: Caller) -> None:
    """A second pause leaves the first one as it was, and a second resume changes nothing."""
    for path in ("/v1/organization", "/v1/job-types/open"):
        first = caller.post(f"{path}/pause", {"reason": "first"}).json()
        assert caller.but(user="u2").post(f"{path}/pause", {"reason": "second"}).json() == first
        answers = [caller.post(f"{path}/resume") for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 200]


@pytest.mark.parametrize("body", NO_BODY)
def test_a_reason_is_not_needed(caller: Caller, body: Any) -> None:
    """A pause needs neither a reason nor a body."""
    (pause,) = caller.post("/v1/organization/pause", body).json()["pauses"]
    assert pause["reason"] is None


def test_a_pause_is_of_one_organization(caller: Caller) -> None:
    """A pause of one organization holds no job of another one, and is not shown to it."""
    other = caller.api.caller()
    caller.post("/v1/job-types/open/pause")
    assert other.find(other.create().json()["jobId"]).hold is None
    assert job_type(other)["pauses"] == []
    other.post("/v1/job-types/open/resume")
    assert len(job_type(caller)["pauses"]) == 1


def test_the_pause_of_an_organization_holds_every_type(caller: Caller) -> None:
    """A pause of an organization holds all its types, and a resume of one type does not end it."""
    caller.post("/v1/organization/pause")
    assert len(job_type(caller)["pauses"]) == 1
    (pause,) = caller.post("/v1/job-types/open/resume").json()["pauses"]
    assert pause["jobType"] is None


def test_an_operator_pauses_a_type_everywhere(caller: Caller) -> None:
    """A pause everywhere shows its reason to all, and its author to none; only such a resume ends it."""
    other = caller.api.caller()
    caller.post("/v1/job-types/noop/pause", {"everywhere": True, "reason": "broken"})
    (pause,) = job_type(other, "noop")["pauses"]
    assert (pause["everywhere"], pause["pausedBy"], pause["reason"]) == (True, None, "broken")
    assert other.post("/v1/job-types/noop/resume").json()["pauses"] == [pause]
    assert other.find(other.create("noop").json()["jobId"]).hold == "paused"
    assert caller.post("/v1/job-types/noop/resume", {"everywhere": True}).json()["pauses"] == []


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_only_operators_pause_everywhere(caller: Caller, verb: str) -> None:
    """Pausing everywhere needs jobs.manage_platform."""
    manager = caller.but(permissions=MANAGING[:1])
    problem(manager.post(f"/v1/job-types/open/{verb}", {"everywhere": True}), 403, "permission_missing")
    assert manager.post(f"/v1/job-types/open/{verb}").status_code == 200


@pytest.mark.parametrize("verb", ["pause", "resume"])
@pytest.mark.parametrize("name", ["nothing", "celery.backend_cleanup"])
def test_an_unknown_job_type_is_refused(caller: Caller, verb: str, name: str) -> None:
    """Pausing an unknown job type is refused as creating a job of it is."""
    problem(caller.post(f"/v1/job-types/{name}/{verb}"), 422, "unknown_job_type")


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_a_type_that_only_other_workers_have_is_known_by_its_jobs(caller: Caller, verb: str) -> None:
    """A type without a handler here can be paused when the organization has jobs of it."""
    caller.job("queued", job_type="elsewhere")
    assert caller.post(f"/v1/job-types/elsewhere/{verb}").status_code == 200
    assert caller.post(f"/v1/job-types/elsewhere/{verb}", {"everywhere": True}).status_code == 200
    other = caller.api.caller()
    problem(other.post(f"/v1/job-types/elsewhere/{verb}"), 422, "unknown_job_type")


@pytest.mark.parametrize("path", ["/v1/job-types/open/pause", "/v1/job-types/open/resume", "/v1/organization/pause"])
@pytest.mark.parametrize("body", [{"more": 1}, {"everywhere": "yes"}, {"reason": 5}, []])
def test_a_pause_takes_only_what_it_knows(caller: Caller, path: str, body: object) -> None:
    """A pause with an unknown field is 422 and changes nothing."""
    problem(caller.post(path, body), 422, "invalid_request")
    assert caller.get("/v1/organization").json()["pauses"] == []


# circuits


def test_a_closed_circuit_tells_when_it_would_open(caller: Caller) -> None:
    """A closed circuit shows the number of failures and the pause that its handler declares."""
    closed = {"state": "closed", "everywhere": False, "openUntil": None, "keys": []}
    assert job_type(caller)["circuit"] == {**closed, "failures": 5, "pauseSeconds": 60.0}


def test_an_open_circuit_tells_until_when(caller: Caller) -> None:
    """An open circuit shows until when, and is half open afterwards."""
    opened = break_circuit(caller)
    circuit = job_type(caller, "fail")["circuit"]
    assert (circuit["state"], circuit["openUntil"][:19]) == ("open", f"{opened.probe_at:%Y-%m-%dT%H:%M:%S}")
    with caller.api.database.autocommit() as connection:
        connection.execute(table.update().values(probe_at=table.c.opened_at))
    assert job_type(caller, "fail")["circuit"]["state"] == "half_open"


def test_nobody_sees_the_circuit_of_another_organization(caller: Caller) -> None:
    """An organization sees no other one's circuit or key, only whether the circuit is open for all."""
    first, second = (caller.but(organization=f"{caller.organization}-{number}") for number in range(2))
    for key in ("", "their-host"):
        break_circuit(first, key)
    assert job_type(caller, "fail")["circuit"]["state"] == "closed"
    assert [each["key"] for each in job_type(first, "fail")["circuit"]["keys"]] == ["their-host"]
    for key in ("", "their-host"):
        break_circuit(second, key)
    circuit = job_type(caller, "fail")["circuit"]
    assert (circuit["state"], circuit["everywhere"], circuit["keys"]) == ("open", True, [])


def break_circuit(caller: Caller, key: str = "") -> circuits.Circuit:
    """Let the circuit of the caller's organization open."""
    for _ in range(2):
        job = caller.job("failed", job_type="fail", circuit_key=key)
    with caller.api.database.autocommit() as connection:
        opened = circuits.trip(connection, job.id, failures=2, pause=timedelta(minutes=1))
    assert opened is not None
    return opened
