"""POST /v1/jobs: what is accepted, what is refused, and what 202 means."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import delete

from tests.api.calling import Caller, as_bytes, problem
from tests.api.conftest import serving
from tests.live import eventually
from tracking.schema import jobs

NO_BROKER = "redis://127.0.0.1:1/0"


def test_an_accepted_job_has_its_row_and_its_first_history_row(caller: Caller) -> None:
    """When 202 is answered, the job has its row and its first history row."""
    job = caller.find(caller.create("open", payload={"a": [1, "ü", None]}, priority=7).json()["jobId"])
    assert (job.status, job.payload, job.priority) == ("queued", {"a": [1, "ü", None]}, 7)
    assert (job.organization_id, job.user_id) == (caller.organization, caller.user)
    assert [(entry.event, entry.actor) for entry in caller.timeline(job.id)] == [("created", caller.user)]


def test_the_answer_has_the_shape_of_the_contract(caller: Caller) -> None:
    """A create answers 202 with jobId, status, message and timestamp, and a Location."""
    response = caller.create()
    body = response.json()
    assert response.status_code == 202
    assert body.keys() == {"jobId", "status", "message", "timestamp"}
    assert (body["status"], body["message"]) == ("queued", "Job created successfully")
    assert datetime.fromisoformat(body["timestamp"]).tzinfo == UTC
    assert caller.get(response.headers["location"]).json()["id"] == body["jobId"]


def test_what_is_left_out_has_its_default(caller: Caller) -> None:
    """By default a job has priority 0, the handler's max_retries, an empty payload and no project, and is due."""
    job = caller.find(caller.create().json()["jobId"])
    assert (job.priority, job.max_retries, job.payload, job.metadata) == (0, 1, {}, {})
    assert (job.project_id, job.message, job.scheduled_at, job.hold) == (None, None, None, None)


def test_everything_that_a_request_may_say_is_kept(caller: Caller) -> None:
    """Every field of a create request reaches the row."""
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    response = caller.create(
        priority=9,
        maxRetries=100,
        scheduledAt=due.isoformat(),
        projectId="p1",
        message="waiting",
        metadata={"source": "test"},
    )
    job = caller.find(response.json()["jobId"])
    assert (job.priority, job.max_retries, job.project_id, job.message) == (9, 100, "p1", "waiting")
    assert (job.scheduled_at, job.hold, job.metadata) == (due, "schedule", {"source": "test"})


def test_the_handlers_payload_model_decides(caller: Caller) -> None:
    """The handler's model names what is wrong by its place in the payload, and fills in defaults."""
    body = problem(caller.create("guarded", payload={"kind": "odd", "count": "x", "more": 1}), 422, "invalid_request")
    assert {error["field"] for error in body["errors"]} == {"payload.kind", "payload.count", "payload.more"}
    accepted = caller.create("guarded", payload={"kind": "small"}).json()
    assert caller.find(accepted["jobId"]).payload == {"kind": "small", "count": 1, "since": None}


def test_an_unknown_job_type_is_refused(caller: Caller) -> None:
    """A create with an unknown job type, or one of Celery's own tasks, is refused."""
    problem(caller.create("nothing"), 422, "unknown_job_type")
    problem(caller.create("celery.backend_cleanup"), 422, "unknown_job_type")


@pytest.mark.parametrize(
    "field",
    [
        {"dependsOn": "x"},
        {"dependsOn": [str(UUID(int=number)) for number in range(101)]},
        {"status": "succeeded"},
        {"id": "0199d0b6-0000-7000-8000-000000000000"},
        {"organizationId": "other"},
        {"userId": "other"},
        {"priority": 10},
        {"priority": -1},
        {"priority": "5"},
        {"priority": True},
        {"priority": 5.5},
        {"maxRetries": 101},
        {"maxRetries": -1},
        {"scheduledAt": "2026-01-01T00:00:00"},
        {"scheduledAt": "tomorrow"},
        {"scheduledAt": 1767225600},
        {"scheduledAt": "9999-12-31T23:59:59-01:00"},
        {"scheduledAt": "0001-01-01T00:00:00+01:00"},
        {"scheduledAt": "1969-12-31T23:59:59Z"},
        {"scheduledAt": "3000-01-01T00:00:00Z"},
        {"projectId": ""},
        {"projectId": "x" * 256},
        {"projectId": "a/b"},
        {"projectId": ".."},
        {"payload": []},
        {"payload": None},
        {"metadata": "text"},
        {"message": "x" * 1001},
        {"jobType": None},
    ],
    ids=lambda field: f"{next(iter(field))}={str(next(iter(field.values())))[:12]}",
)
def test_a_field_that_is_unknown_or_out_of_range_is_refused(caller: Caller, field: dict[str, Any]) -> None:
    """A field that is unknown or out of range is answered with 422 that names it, and nothing is written."""
    body = problem(caller.create(**{"job_type": "open", **field}), 422, "invalid_request")
    assert body["errors"][0]["field"] == next(iter(field))
    assert caller.get("/v1/jobs").json()["total"] == 0


def test_a_job_waits_for_those_that_it_depends_on(caller: Caller) -> None:
    """Row and JSON list dependencies in the order of the request; succeeded ones are not waited for."""
    waiting, done = caller.job(), caller.job("succeeded")
    job = caller.find(caller.create(dependsOn=[str(waiting.id), str(done.id)]).json()["jobId"])
    assert (job.hold, job.depends_on) == ("dependency", [waiting.id, done.id])
    assert caller.get(f"/v1/jobs/{job.id}").json()["dependsOn"] == [str(waiting.id), str(done.id)]
    assert caller.find(caller.create(dependsOn=[str(done.id)]).json()["jobId"]).depends_on == [done.id]


def test_a_job_that_depends_on_a_cancelled_one_ends_at_once(caller: Caller) -> None:
    """A job that depends on a cancelled one is cancelled at once, without any worker."""
    job_id = caller.create(dependsOn=[str(caller.job("cancelled").id)]).json()["jobId"]
    assert eventually(lambda: caller.find(job_id).status == "cancelled")


def test_an_unknown_dependency_is_named_with_its_place(caller: Caller) -> None:
    """A dependency that is unknown, or another user's, is named with its place, and nothing is written."""
    mine = str(caller.job().id)
    other_user, other_organization = caller.but(user="u2").job(), caller.api.caller().job()
    for unknown in (str(uuid4()), str(other_user.id), str(other_organization.id)):
        body = problem(caller.create(dependsOn=[mine, unknown]), 422, "unknown_dependency")
        assert body["errors"] == [{"field": "dependsOn.1", "message": "There is no such job"}]
        assert body["detail"] == f"There is no job {unknown}."
    assert caller.get("/v1/jobs").json()["total"] == 1


def test_whoever_sees_the_organization_may_depend_on_its_jobs(caller: Caller) -> None:
    """A caller with jobs.view_all may depend on jobs of any user of the organization."""
    other = caller.but(user="u2").job()
    everyone = caller.but(permissions=(*caller.permissions, "jobs.view_all"))
    assert everyone.create(dependsOn=[str(other.id)]).status_code == 202


def test_a_repeated_request_is_the_same_job_after_its_dependency_was_removed(caller: Caller) -> None:
    """A repeated create returns its job although a dependency that it names was removed meanwhile."""
    needed = caller.job("succeeded")
    first = caller.create(key="k", dependsOn=[str(needed.id)]).json()
    with caller.api.database.autocommit() as connection:
        connection.execute(delete(jobs).where(jobs.c.id == needed.id))
    again = caller.create(key="k", dependsOn=[str(needed.id)])
    assert (again.status_code, again.json()["jobId"]) == (202, first["jobId"])


def test_the_handlers_own_permission_is_needed(caller: Caller) -> None:
    """Creating a guarded job needs its handler's permission besides jobs.create_jobs."""
    limited = caller.but(permissions=("jobs.create_jobs",))
    problem(limited.create("guarded", payload={"kind": "small"}), 403, "permission_missing")
    assert limited.create("open").status_code == 202


def test_the_same_key_and_body_are_the_same_job(caller: Caller) -> None:
    """A repeated key and body return the same job, also with reordered fields or a default spelled out."""
    first = caller.create(key="k", payload={"a": 1, "b": 2}).json()
    again = caller.create(key="k", metadata={}, payload={"b": 2, "a": 1})
    assert (again.status_code, again.json()) == (202, first)
    assert caller.get("/v1/jobs").json()["total"] == 1


def test_a_replay_says_so_in_a_header(caller: Caller) -> None:
    """A replay is marked by a header, which neither a first answer nor a create without a key has."""
    answers = [caller.create(key="k"), caller.create(key="k"), caller.create(), caller.create(key="other")]
    assert [answer.headers.get("Idempotency-Replayed") for answer in answers] == [None, "true", None, None]


@pytest.mark.parametrize(
    "other", [{"payload": {"a": 2}}, {"priority": 1}, {"job_type": "open_too"}, {"projectId": "p"}]
)
def test_the_same_key_with_another_body_is_refused(caller: Caller, other: dict[str, Any]) -> None:
    """A used idempotency key with a different body is refused, whichever field differs."""
    caller.create(key="k", payload={"a": 1})
    problem(caller.create(**{"key": "k", "payload": {"a": 1}, **other}), 422, "idempotency_conflict")


def test_a_key_is_one_users_own(caller: Caller) -> None:
    """The same idempotency key may be used by another user and by another organization."""
    others = (caller.but(user="u2"), caller.but(organization=f"{caller.organization}-2"))
    ids = {who.create(key="k").json()["jobId"] for who in (caller, *others)}
    assert len(ids) == 3


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\tinside", "caf\xe9"])
def test_a_key_is_printable_ascii_of_255_characters_at_most(caller: Caller, key: str) -> None:
    """An idempotency key is printable ASCII of at most 255 characters; every other one is refused."""
    given = as_bytes({"Content-Type": "application/json", "Idempotency-Key": key.encode("latin-1")})
    headers = [*as_bytes(caller.headers), *given]
    response = caller.api.client.post("/v1/jobs", content=b'{"jobType": "open"}', headers=headers)
    problem(response, 422, "invalid_request")
    assert caller.create(key="x" * 255).status_code == 202


def test_twenty_requests_at_once_with_one_key_make_one_job(caller: Caller) -> None:
    """Twenty simultaneous creates with one key make one job, and all are answered with it."""
    with ThreadPoolExecutor(20) as threads:
        responses = list(threads.map(lambda _: caller.create(key="race", payload={"n": 1}), range(20)))
    assert {response.status_code for response in responses} == {202}
    assert len({response.json()["jobId"] for response in responses}) == 1
    assert caller.get("/v1/jobs").json()["total"] == 1


def test_without_a_broker_jobs_are_accepted_all_the_same(api_database_url: str, tmp_path: Path) -> None:
    """Without a broker creates are answered without a delay, and their rows wait for upkeep."""
    with serving(api_database_url, NO_BROKER, tmp_path) as lonely:
        caller = lonely.caller()
        began = datetime.now(UTC)
        ids = [caller.create().json()["jobId"] for _ in range(20)]
        assert datetime.now(UTC) - began < timedelta(seconds=10)  # a broker's silence would take 5 each
        assert {caller.find(job_id).dispatched_at for job_id in ids} == {None}
