"""The HTTP client with many jobs: creating them at once, bulk operations, and retries with another payload."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from api.schemas import answers as contract
from api.schemas import bulk, operations
from celeriac.client import ApiError, answers
from tests.api.calling import EVERYTHING, Caller
from tests.api.test_operations import worked
from tests.celeriac.test_client import client_of, meanwhile
from tests.project.test_handler_docs import blocks
from tracking.states import Status


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (answers.Operation, operations.Operation),
        (answers.Counts, operations.Counts),
        (answers.Preview, operations.Preview),
        (answers.JobResult, operations.JobResult),
        (answers.CreatedJobs, bulk.CreatedJobs),
        (answers.CreatedOne, bulk.BulkAnswer),
        (answers.Refused, bulk.Refusal),
    ],
)
def test_answers_about_many_jobs_have_the_fields_of_the_contract(
    ours: type[answers.Answer], theirs: type[contract.Answered]
) -> None:
    """The client's answers about many jobs have the fields that the API answers."""
    assert set(ours.model_fields) == set(theirs.model_fields)


def test_many_jobs_are_created_at_once(caller: Caller) -> None:
    """The client's create_all() accepts many jobs, answers for each, and makes none twice under the same key."""
    with client_of(caller) as calling:
        jobs = [{"job_type": "open", "payload": {"n": n}, "priority": n} for n in range(3)]
        created = calling.create_all(jobs, idempotency_key="k")  # type: ignore[arg-type]
        again = calling.create_all(jobs, idempotency_key="k")  # type: ignore[arg-type]
        assert [each.job_id for each in created.jobs] == [each.job_id for each in again.jobs]
        each = calling.create_all([{"job_type": "open"}, {"job_type": "nonsense"}], mode="each")
    assert [caller.find(str(one.job_id)).priority for one in created.jobs] == [0, 1, 2]
    assert (each.accepted, each.jobs[1].refusal and each.jobs[1].refusal.code) == (1, "unknown_job_type")


def test_an_operation_is_previewed_begun_and_read(caller: Caller) -> None:
    """The client previews an operation, begins it, waits for its end and reads what became of each job."""
    found = {caller.job("failed").id for _ in range(3)}
    caller.job("succeeded")
    with client_of(caller) as calling:
        preview = calling.preview("retry", status=[Status.FAILED])
        assert (preview.matched, {job.id for job in preview.sample}) == (3, found)
        begun = calling.begin("retry", status=[Status.FAILED], priority=3)
        with pytest.raises(ApiError, match="has done 0 of 3 jobs"):
            calling.wait_for(begun.id, within=0)
        worked(caller, {"id": str(begun.id)})
        ended = calling.wait_for(begun.id, within=10)
        assert (ended.state, ended.counts.succeeded, ended.progress) == ("completed", 3, 100)
        assert [result.job_id for result in calling.results(begun.id, outcome=["succeeded"])] == sorted(found)
        assert [each.id for each in calling.operations(state=["completed"])] == [begun.id]
        assert {caller.find(job_id).priority for job_id in found} == {3}


def test_no_status_is_not_every_status(caller: Caller) -> None:
    """A list of statuses that turned out empty is refused, instead of touching jobs in all of them."""
    caller.job("failed")
    with client_of(caller) as calling:
        for ask in (calling.preview, calling.begin):
            with pytest.raises(ApiError, match="status"):
                ask("retry", status=[])
        assert list(calling.operations()) == []


def test_an_operation_is_aborted(caller: Caller) -> None:
    """The client's abort() ends an operation on jobs that are named by their ids; a second one is an error."""
    job = caller.job()
    with client_of(caller) as calling:
        begun = calling.begin("cancel", ids=[job.id])
        assert calling.abort(begun.id).state == "aborted"
        with pytest.raises(ApiError, match="operation_ended"):
            calling.abort(begun.id)
        with pytest.raises(ValueError, match="either ids"):
            calling.begin("cancel", ids=[job.id], job_type="open")
        with pytest.raises(ApiError, match="operation_not_found"):
            calling.operation(uuid4())
    assert caller.find(job.id) == job


def test_a_retry_with_a_payload_names_the_new_job(caller: Caller) -> None:
    """The client's retry_with() a payload returns the id of the job that repeats the old one."""
    job = caller.job("failed", job_type="guarded", payload={"kind": "small"})
    with client_of(caller) as calling:
        anew = calling.retry_with(job.id, {"kind": "large"}, priority=2)
        assert (calling.get(anew).retry_of, calling.get(anew).payload["kind"]) == (job.id, "large")


def test_a_waiting_job_is_edited(caller: Caller) -> None:
    """The client's edit() changes a job that waits, and leaves what is not named as it is."""
    job = caller.job(job_type="guarded", payload={"kind": "small"}, priority=4)
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    with client_of(caller.but(permissions=EVERYTHING)) as calling:
        edited = calling.edit(job.id, payload={"kind": "large"}, scheduled_at=later).job
    assert (edited.payload["kind"], edited.priority, edited.scheduled_at) == ("large", 4, later)


def test_a_list_takes_what_an_operation_takes(caller: Caller) -> None:
    """The list takes the same filters as an operation, read page by page."""
    mine = [caller.job("failed", project_id="p").id for _ in range(2)]
    caller.job("failed")
    with client_of(caller) as calling:
        assert [job.id for job in calling.jobs(status=[Status.FAILED], project_id="p", page_size=1)] == mine[::-1]


def test_the_example_runs(caller: Caller, capsys: pytest.CaptureFixture[str]) -> None:
    """The example of docs/bulk.md previews an operation, begins it, and prints what was refused."""
    gone = caller.job("failed", job_type="export_report", max_retries=0)
    (example,) = blocks("bulk.md", "python")

    def work() -> None:
        (operation,) = caller.get("/v1/bulk").json()["operations"]
        worked(caller, operation)

    token = caller.headers["Authorization"].removeprefix("Bearer ")
    with meanwhile(work, after=1):
        exec(example.replace("http://127.0.0.1:8000", caller.api.url), {"token": token})  # noqa: S102 - our own text
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "1"
    assert printed[1].startswith(f"{gone.id} the job {gone.id} has used 0 of 0 retries")
