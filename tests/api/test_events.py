"""Live events: what they say, who hears them, and that a stream which was interrupted goes on without a gap."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text
from websockets.exceptions import ConnectionClosed

from tests.api.calling import Api, Caller, problem
from tests.api.conftest import serving
from tests.api.listening import Listener, Told, conversing, listening, received
from tests.live import eventually, is_alive
from tracking import jobs
from tracking.admission import holds
from tracking.admission.rule import UNLIMITED
from tracking.db import Database
from tracking.models import Claim, Failure, JobRecord, Outcome


@pytest.fixture
def listener(caller: Caller) -> Iterator[Listener]:
    """A stream of all that the caller sees."""
    with listening(caller) as listener:
        yield listener


def run(caller: Caller, job: JobRecord, *kinds: Any) -> None:
    """Attempts of a job that end like this."""
    for kind in kinds:
        with caller.api.database.autocommit() as connection:
            current = caller.find(job.id)
            jobs.claim(connection, [Claim(current.fence, uuid4(), "worker-1", None)])
            caller.report(caller.find(job.id), percent=40, message="Half", current_step=2, total_steps=5)
            failure = None if kind == "succeeded" else Failure("ValueError", "broken", "Traceback ...")
            jobs.settle(connection, [Outcome(current.fence, kind, "worker-1", failure=failure)])
            connection.execute(text("UPDATE jobs SET hold = NULL, due_at = NULL WHERE id = :id"), {"id": job.id})


def test_the_life_of_a_job_is_told_as_the_contract_has_it(caller: Caller, listener: Listener) -> None:
    """A job's events have the names and the fields of the contract, in the order in which they happened."""
    job = caller.job(priority=7)
    run(caller, job, "retry", "succeeded")
    told = listener.take(7)
    mine, typed = {"jobId": str(job.id)}, {"jobId": str(job.id), "type": "open"}
    progress = {"current": 2, "total": 5, "percentage": 40, "message": "Half", "detail": None}
    failed, completed = told[3].data.pop("duration"), told[6].data.pop("duration")
    assert [(event.name, event.data) for event in told] == [
        ("job:created", {**typed, "priority": 7}),
        ("job:started", {**typed, "priority": 7, "attempt": 1, "worker": "worker-1"}),
        ("job:progress", {**mine, "progress": progress}),
        ("job:failed", {**typed, "error": "broken", "willRetry": True}),
        ("job:started", {**typed, "priority": 7, "attempt": 2, "worker": "worker-1"}),
        ("job:progress", {**mine, "progress": progress}),
        ("job:completed", typed),
    ]
    assert all(isinstance(duration, int) and 0 <= duration < 10_000 for duration in (failed, completed))
    assert [event.id for event in told] == [entry.id for entry in caller.timeline(job.id)]


def test_cancel_and_retry_are_told_with_who_did_it(caller: Caller, listener: Listener) -> None:
    """A cancel and a retry are told, with the user who asked for them."""
    job = caller.job()
    caller.post(f"/v1/jobs/{job.id}/cancel")
    caller.post(f"/v1/jobs/{job.id}/retry")
    _, cancelled, retried = listener.take(3)
    assert (cancelled.name, cancelled.data) == ("job:cancelled", {"jobId": str(job.id), "type": "open", "by": "u1"})
    assert (retried.name, retried.data) == ("job:retried", {"jobId": str(job.id), "by": "u1"})


def test_what_a_job_waits_for_is_told_when_it_changes(caller: Caller, listener: Listener) -> None:
    """What a waiting job waits for next is told when that changes; so is a job that its worker gives back."""
    job = caller.job(delay=timedelta(hours=1))
    with caller.api.database.autocommit() as connection:
        connection.execute(text("UPDATE jobs SET due_at = now() WHERE id = :id"), {"id": job.id})
        holds.lift_due(connection, UNLIMITED, 1000)
        waits_for = caller.find(job.id).hold
        connection.execute(text("UPDATE jobs SET hold = NULL WHERE id = :id"), {"id": job.id})
        jobs.claim(connection, [Claim(job.fence, uuid4(), "worker-1", None)])
        jobs.settle(connection, [Outcome(job.fence, "released", "worker-1")])
    told = listener.take(4)
    assert [event.name for event in told] == ["job:created", "job:held", "job:started", "job:held"]
    assert [event.data["hold"] for event in told if event.name == "job:held"] == [waits_for, None]


def test_a_stream_tells_of_the_callers_own_jobs_alone(api: Api, caller: Caller) -> None:
    """Of two users each hears of their own jobs; who may see all hears of both; another organization of neither."""
    other = caller.but(user="u2")
    everybody = caller.but(user="boss", permissions=(*caller.permissions, "jobs.view_all"))
    stranger = api.caller()
    with (
        listening(caller) as mine,
        listening(other) as others,
        listening(everybody) as all_of_them,
        listening(stranger) as elsewhere,
    ):
        first, second, last = caller.job(), other.job(), stranger.job()
        assert [told.data["jobId"] for told in mine.take(1)] == [str(first.id)]
        assert [told.data["jobId"] for told in others.take(1)] == [str(second.id)]
        assert [told.data["jobId"] for told in all_of_them.take(2)] == [str(first.id), str(second.id)]
        assert [told.data["jobId"] for told in elsewhere.take(1)] == [str(last.id)]


@pytest.mark.parametrize("narrowed", ["type", "projectId", "jobId"])
def test_a_stream_can_be_narrowed(caller: Caller, narrowed: str) -> None:
    """A stream tells of one type, one project, or one job, when it is asked to."""
    wanted = caller.job(job_type="guarded", project_id="p1")
    query: dict[str, Any] = {narrowed: {"type": "guarded", "projectId": "p1"}.get(narrowed, str(wanted.id))}
    with listening(caller, **query) as listener:
        caller.job(project_id="p2")
        run(caller, wanted, "succeeded")
        told = listener.take(3)
    assert [event.name for event in told] == ["job:started", "job:progress", "job:completed"]
    assert {event.data["jobId"] for event in told} == {str(wanted.id)}


def workflow(caller: Caller) -> str:
    """A workflow that was cancelled before anything of it began."""
    made = caller.post(
        "/v1/workflows", {"name": "nightly", "jobs": {"a": {"jobType": "open", "scheduledAt": "2999-01-01T00:00:00Z"}}}
    )
    workflow_id: str = made.json()["workflowId"]
    assert caller.post(f"/v1/workflows/{workflow_id}/cancel", {"reason": "not today"}).status_code == 200
    return workflow_id


def schedule(caller: Caller) -> tuple[str, str]:
    """A schedule that somebody has run, and the job that it made."""
    made = caller.post("/v1/schedules", {"name": str(uuid4()), "jobType": "open", "everySeconds": 3600})
    schedule_id: str = made.json()["id"]
    return schedule_id, caller.post(f"/v1/schedules/{schedule_id}/run").json()["jobId"]


def test_a_stream_tells_of_workflows_and_schedules(api: Api, caller: Caller) -> None:
    """Their owner and who may see all hear of them, another user and another organization of nothing."""
    caller = caller.but(permissions=(*caller.permissions, "jobs.manage_schedules"))
    everybody = caller.but(user="boss", permissions=(*caller.permissions, "jobs.view_all"))
    other, stranger = caller.but(user="u2"), api.caller()
    with (
        listening(caller) as mine,
        listening(everybody) as all_of_them,
        listening(other) as others,
        listening(stranger) as elsewhere,
    ):
        workflow_id = workflow(caller)
        schedule_id, job_id = schedule(caller)
        own, strange = other.job(), stranger.job()
        told = mine.take(5)
        assert [event.name for event in told] == [
            "job:created", "job:cancelled", "workflow:cancelled", "job:created", "schedule:fired",
        ]  # fmt: skip
        assert told[2].data == {
            "workflowId": workflow_id, "name": "nightly", "run": 1, "duration": None, "jobs": {"cancelled": 1},
            "by": "u1", "reason": "not today",
        }  # fmt: skip
        fired = told[4].data
        assert (fired["scheduleId"], fired["jobId"], fired["type"], fired["by"]) == (schedule_id, job_id, "open", "u1")
        assert told_ids(all_of_them.take(5)) == told_ids(told)
        assert others.take(1)[0].data["jobId"] == str(own.id)
        assert elsewhere.take(1)[0].data["jobId"] == str(strange.id)
    with listening(caller, headers={"Last-Event-ID": str(told[0].id)}) as resumed:
        assert told_ids(resumed.take(4)) == told_ids(told)[1:], "it resumes without a gap"
    with conversing(caller, f"?lastEventId={told[2].id}") as socket:
        assert [received(socket).name for _ in range(2)] == ["job:created", "schedule:fired"]


def test_a_stream_of_a_type_tells_of_its_schedules(caller: Caller) -> None:
    """Narrowed to a type a stream tells of schedules that make such jobs, and of no workflow."""
    caller = caller.but(permissions=(*caller.permissions, "jobs.manage_schedules"))
    with listening(caller, type="open") as open_jobs, listening(caller, type="guarded") as others:
        workflow(caller)
        schedule(caller)
        caller.job(job_type="guarded")
        names = [event.name for event in open_jobs.take(4)]
        assert names == ["job:created", "job:cancelled", "job:created", "schedule:fired"]
        assert others.take(1)[0].name == "job:created"


def test_a_stream_of_somebody_elses_job_is_refused(api: Api, caller: Caller) -> None:
    """A stream of a job that the caller does not see is answered as that of a job that does not exist."""
    job = api.caller().job()
    for job_id in (job.id, uuid4()):
        problem(caller.get("/v1/events", jobId=str(job_id)), 404, "job_not_found")


def told_ids(told: list[Told]) -> list[int | None]:
    return [event.id for event in told]


def test_a_stream_resumes_behind_the_last_event(caller: Caller) -> None:
    """A client that comes back with its last id hears what it has missed and what follows, each event once."""
    with listening(caller) as listener:
        caller.job("succeeded")
        before = listener.take(2)
        last = str(before[-1].id)
    caller.job("failed")
    with listening(caller, headers={"Last-Event-ID": last}) as listener:
        caller.job()
        after = listener.take(5)
    ids = [entry.id for job in all_jobs(caller) for entry in caller.timeline(job["id"])]
    assert told_ids(before + after) == sorted(ids)
    with listening(caller, lastEventId=last) as listener:
        assert told_ids(listener.take(5)) == told_ids(after), "without a header"


def all_jobs(caller: Caller) -> list[dict[str, Any]]:
    """The jobs of a caller."""
    found: list[dict[str, Any]] = caller.get("/v1/jobs").json()["jobs"]
    return found


def test_a_stream_that_has_heard_nothing_resumes_from_its_beginning(caller: Caller) -> None:
    """A client has an id before the first event: what happens until it comes back is told."""
    with listening(caller) as listener:
        last = listener.last_id
    job = caller.job()
    with listening(caller, headers={"Last-Event-ID": str(last)}) as listener:
        assert [told.data["jobId"] for told in listener.take(1)] == [str(job.id)]


@pytest.mark.parametrize("last", [str(2**52), str(2**70), "no number", ""])
def test_an_unknown_last_event_is_answered_with_a_resync(caller: Caller, last: str) -> None:
    """A client that names an event of which nothing is known is told to read the jobs anew, and hears what follows."""
    with listening(caller, headers={"Last-Event-ID": last}) as listener:
        assert [told.name for told in listener.take(1)] == ["resync"]
        listener.begin()
        job = caller.job()
        assert [told.data["jobId"] for told in listener.take(1)] == [str(job.id)]


def test_a_stream_ends_when_its_token_does(api: Api, caller: Caller) -> None:
    """A stream is over, and not just silent, when the token expires with which it was opened."""
    token = api.token(sub=caller.user, org=caller.organization, exp=int(time.time()) + 2)
    began = time.monotonic()
    with listening(caller, headers={"Authorization": f"Bearer {token}"}) as listener:
        assert listener.next() is None
    assert time.monotonic() - began < 5


def test_a_user_has_so_many_streams_at_a_time(caller: Caller) -> None:
    """The twenty-first stream of a user is refused until one of the others is closed; another user has their own."""
    with listening(caller), listening(caller.but(user="u2")):
        opened = [listening(caller) for _ in range(19)]
        for each in opened:
            each.__enter__()
        refused = problem(caller.get("/v1/events"), 429, "too_many_streams")
        assert "20 streams" in refused["detail"]
        for each in opened:
            each.__exit__(None, None, None)
        eventually(lambda: reopened(caller), within=5, what="room for another stream")


def reopened(caller: Caller) -> bool:
    """Whether there is room for another stream."""
    try:
        with listening(caller):
            return True
    except AssertionError:
        return False


def test_streams_go_on_in_another_process_and_after_a_broken_connection(
    database_url: str, database: Database, api_broker_url: str, tmp_path: Path
) -> None:
    """What one process has told last another one goes on from; a reader whose connection breaks leaves nothing out."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with (
        serving(database_url, api_broker_url, tmp_path / "a") as first,
        serving(database_url, api_broker_url, tmp_path / "b") as second,
    ):
        caller, told = first.caller(), list[Told]()
        last: dict[str, str] = {}
        for round_ in range(6):
            with listening(caller, headers=last or None, api=(first, second)[round_ % 2]) as listener:
                caller.job("succeeded")
                if round_ == 2:
                    with database.autocommit() as connection:
                        connection.execute(BREAK)
                told += listener.take(3)
                last = {"Last-Event-ID": str(told[-1].id)}
            caller.job()
            with listening(caller, headers=last, api=(second, first)[round_ % 2]) as listener:
                told += listener.take(1)
                last = {"Last-Event-ID": str(told[-1].id)}
        with database.autocommit() as connection:
            assert told_ids(told) == connection.execute(text("SELECT id FROM history ORDER BY id")).scalars().all()


BREAK = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND query LIKE '%pg_locks%' AND pid <> pg_backend_pid()"
)


def test_streams_end_with_the_server(database_url: str, api_broker_url: str, tmp_path: Path) -> None:
    """A server that is told to stop ends streams and WebSockets at once, and so itself, and cuts nobody off."""
    with (
        serving(database_url, api_broker_url, tmp_path) as running,
        listening(running.caller()) as listener,
        conversing(running.caller()) as socket,
    ):
        assert received(socket).name == "ready"
        began = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        assert listener.next() is None
        with pytest.raises(ConnectionClosed):
            received(socket)
        eventually(lambda: not is_alive(running.process.pid), within=10, what="end of the server")
        assert time.monotonic() - began < 4
        assert "exceeded" not in running.log.read_text()


def test_a_stream_knows_its_caller_first(api: Api, caller: Caller) -> None:
    """A stream without a token, or without the permission to see jobs, is refused as every other read."""
    assert problem(api.client.get("/v1/events"), 401, "token_missing")
    assert problem(caller.but(permissions=()).get("/v1/events"), 403, "permission_missing")
    assert problem(caller.get("/v1/events", jobId="x"), 422, "invalid_request")
