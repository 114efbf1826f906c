"""The HTTP client: typed answers, one error, repetitions that are safe, and a deadline for every wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from api.live.hub import EACH_USERS
from api.schemas import answers as contract
from api.schemas import explanation, job_types, organization
from celeriac.client import ApiError, Client, answers
from tests.api.calling import Api, Caller
from tests.live import eventually
from tests.tracked import accepted
from tracking.models import Fence, Outcome
from tracking.states import Status


@pytest.fixture
def calling(caller: Caller) -> Iterator[Client]:
    """The client of that caller."""
    with client_of(caller) as connected:
        yield connected


def client_of(caller: Caller, **options: Any) -> Client:
    """A client with this caller's token."""
    token = caller.headers["Authorization"].removeprefix("Bearer ")
    return Client(caller.api.url, token, **options)


def is_stream(answer: httpx2.Response) -> bool:
    """Whether it is one of events."""
    return bool(answer.headers.get("content-type", "").startswith("text/event-stream"))


def settle(caller: Caller, job_id: UUID, result: Any = 1) -> None:
    """Let a running job succeed."""
    with caller.api.database.autocommit() as connection:
        assert accepted(connection, [Outcome(Fence(job_id, 1), "succeeded", "worker-1", result=result)])


@contextmanager
def meanwhile(act: Callable[[], None], *, after: float = 0.3) -> Iterator[None]:
    """Do something in another thread soon."""
    timer = threading.Timer(after, act)
    timer.start()
    yield
    timer.join()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (answers.Created, contract.Created),
        (answers.Job, contract.Job),
        (answers.ProgressDetail, contract.ProgressDetail),
        (answers.JobStatus, contract.JobStatus),
        (answers.Stats, contract.JobStats),
        (answers.JobType, job_types.JobType),
        (answers.Circuit, job_types.Circuit),
        (answers.Pause, organization.Pause),
        (answers.Explanation, explanation.Explanation),
    ],
)
def test_answers_have_the_fields_of_the_contract(ours: type[answers.Answer], theirs: type[contract.Answered]) -> None:
    """The client's answers have the fields that the API answers, but for a create's fixed message."""
    assert set(ours.model_fields) == set(theirs.model_fields) - ({"message"} if theirs is contract.Created else set())


def test_create_carries_all_its_fields(calling: Client) -> None:
    """Every field that the client's create is given is in the job that the API returns."""
    created = calling.create(
        "open", {"a": 1}, priority=7, max_retries=2, project_id="p", message="soon", metadata={"for": "me"}
    )
    job = calling.get(created.job_id)
    assert (job.status, job.payload, job.metadata) == (Status.QUEUED, {"a": 1}, {"for": "me"})
    assert (job.priority, job.max_retries, job.project_id, job.message) == (7, 2, "p", "soon")


def test_create_again_under_its_key_is_the_same_job(calling: Client) -> None:
    """A create under an earlier request's key is that request's job."""
    first, second = (calling.create("open", {}, idempotency_key="42") for _ in range(2))
    assert first.job_id == second.job_id


def test_creates_without_a_key_are_different_jobs(calling: Client) -> None:
    """The client makes a new key for each create without one."""
    assert calling.create("open", {}).job_id != calling.create("open", {}).job_id


def test_jobs_are_read_across_pages(caller: Caller, calling: Client) -> None:
    """The client's jobs() reads all pages: all jobs, newest first, each once."""
    made = [caller.job().id for _ in range(5)]
    assert [job.id for job in calling.jobs(page_size=2)] == made[::-1]


def test_jobs_are_read_page_by_page(caller: Caller, calling: Client) -> None:
    """The client asks for the second page only when the first one was read."""
    for _ in range(3):
        caller.job()
    asked: list[httpx2.Request] = []
    calling._http.event_hooks = {"request": [asked.append]}
    found = calling.jobs(page_size=1)
    assert (next(found).status, len(asked)) == ("queued", 1)
    assert (next(found).status, len(asked)) == ("queued", 2)


def test_jobs_are_filtered(caller: Caller, calling: Client) -> None:
    """The client's jobs() filters by status, type, project, user and time."""
    wanted = caller.job("running", project_id="p")
    caller.job("failed", project_id="p")
    caller.job("running")
    found = calling.jobs(
        status=[Status.RUNNING, Status.QUEUED],
        job_type="open",
        project_id="p",
        user_id=caller.user,
        created_from=wanted.created_at - timedelta(seconds=1),
        created_to=wanted.created_at + timedelta(minutes=1),
        search=str(wanted.id),
    )
    assert [job.id for job in found] == [wanted.id]


def test_jobs_are_found_by_their_end_and_their_payload(caller: Caller, calling: Client) -> None:
    """The client's jobs() takes the time of the end, and qualifiers such as a value in the payload."""
    jobs = [caller.job("succeeded", payload={"account": {"id": number}}) for number in (1, 2)]
    caller.job(payload={"account": {"id": 2}})
    ended = jobs[0].completed_at
    assert ended is not None
    before, after = ended - timedelta(minutes=1), ended + timedelta(minutes=1)
    found = calling.jobs(completed_from=before, completed_to=after, search="payload.account.id:2")
    assert [job.id for job in found] == [jobs[1].id]
    assert list(calling.jobs(completed_to=before)) == []
    with pytest.raises(ApiError, match="a priority is 0 to 9"):
        list(calling.jobs(search="priority:high"))


def test_stats_count(caller: Caller, calling: Client) -> None:
    """The client's stats() counts over everything, one project, or a window of time."""
    caller.job("succeeded", project_id="a b/c")
    caller.job("cancelled")
    caller.job("running")
    stats = calling.stats(window=timedelta(days=7))
    assert (stats.completed, stats.cancelled, stats.running, stats.total_active, stats.finished) == (1, 1, 1, 1, 2)


def test_stats_of_a_project(caller: Caller, calling: Client) -> None:
    """The client's stats() of a project counts its jobs only, whatever characters its name has."""
    caller.job("succeeded", project_id="50 % ü?")
    caller.job("succeeded")
    assert calling.stats(project_id="50 % ü?").completed == 1


def test_a_job_may_depend_on_others(caller: Caller, calling: Client) -> None:
    """The client creates a job with dependencies and explains it in the API's own fields."""
    first = caller.job()
    job_id = calling.create("open", depends_on=[first.id]).job_id
    assert calling.get(job_id).depends_on == (first.id,)
    explanation = calling.explain(job_id)
    assert explanation.sentence == explanation.reasons[0].sentence
    assert (explanation.hold, explanation.reasons[0].kind) == ("dependency", "dependency")
    assert explanation.reasons[0].fields["jobs"] == [{"jobId": str(first.id), "status": "queued", "when": "succeeded"}]


def test_job_types_name_their_steps(calling: Client) -> None:
    """The client's job_types() has the steps and permission of each type."""
    kinds = {kind.job_type: kind for kind in calling.job_types()}
    assert (kinds["guarded"].steps, kinds["guarded"].permission) == (("Look", "Do"), "tests.guarded")


def test_cancel_ends_a_job(caller: Caller, calling: Client) -> None:
    """The client's cancel() returns the new status."""
    job = caller.job()
    assert calling.cancel(job.id, reason="enough") is Status.CANCELLED
    assert caller.find(job.id).status == "cancelled"


def test_illegal_move_is_an_error_with_its_code(caller: Caller, calling: Client) -> None:
    """An illegal move raises an ApiError with the problem's code, title, detail and status."""
    job = caller.job("succeeded")
    with pytest.raises(ApiError) as raised:
        calling.cancel(job.id)
    error = raised.value
    assert (error.code, error.status, error.is_temporary) == ("illegal_move", 409, False)
    assert str(error) == f"{error.title}: {error.detail} (illegal_move)"


def test_retry_queues_a_failed_job(caller: Caller, calling: Client) -> None:
    """The client's retry() queues a failed job, and `force` lifts the limit of its retries."""
    job = caller.job("failed", max_retries=0)
    with pytest.raises(ApiError, match="illegal_move"):
        calling.retry(job.id)
    assert calling.retry(job.id, force=True) is Status.QUEUED


def test_unknown_job_is_an_error(calling: Client) -> None:
    """An unknown job raises an ApiError with the title of docs/errors.md."""
    with pytest.raises(ApiError, match=r"^There is no such job.*\(job_not_found\)$"):
        calling.get(uuid4())


def test_invalid_payload_names_the_field(calling: Client) -> None:
    """The errors of an ApiError say what is wrong with which field."""
    with pytest.raises(ApiError) as raised:
        calling.create("guarded", {"kind": "huge"})
    assert [entry["field"] for entry in raised.value.errors] == ["payload.kind"]


def test_wrong_token_is_an_error(api: Api) -> None:
    """A 401 is raised at once and not repeated."""
    with Client(api.url, "nonsense") as stranger, pytest.raises(ApiError, match="token_invalid"):
        stranger.stats()


def test_wait_returns_the_job_at_its_end(caller: Caller, calling: Client) -> None:
    """The client's wait() returns a job that ends meanwhile."""
    job = caller.job("running")
    with meanwhile(lambda: settle(caller, job.id)):
        assert calling.wait(job.id, within=20, every=0.05).status is Status.SUCCEEDED


def test_wait_is_woken_by_an_event(caller: Caller, calling: Client) -> None:
    """The client's wait() ends when an event tells the end, long before the server's Retry-After."""
    job = caller.job("running")
    began = time.monotonic()
    with meanwhile(lambda: settle(caller, job.id)):
        calling.wait(job.id, within=20)
    assert time.monotonic() - began < 1.8


def test_those_who_wait_share_a_stream_that_ends_with_them(caller: Caller, calling: Client) -> None:
    """Ten threads that wait with a client have one stream of events, and none is open when they are done."""
    jobs = [caller.job("running") for _ in range(10)]
    opened: list[httpx2.Response] = []
    ears = calling.ears
    calling._http.event_hooks = {"response": [lambda answer: opened.append(answer) if is_stream(answer) else None]}
    with ThreadPoolExecutor(10) as pool:
        waiting = [pool.submit(calling.wait, job.id, within=30) for job in jobs]
        eventually(lambda: ears.hearing and len(ears.hearing.watchers) == 10, within=20, what="all of them")
        for job in jobs:
            settle(caller, job.id)
        assert {each.result().status for each in waiting} == {Status.SUCCEEDED}
    assert (len(opened), ears.hearing) == (1, None)
    eventually(lambda: opened[0].is_closed, within=10, what="the end of the stream")


def test_wait_follows_the_servers_pace_without_a_stream(caller: Caller, calling: Client) -> None:
    """Where no stream can be had, the client's wait() looks again after the server's Retry-After."""
    job = caller.job("running")
    with ExitStack() as open_until_the_end:
        other = open_until_the_end.enter_context(httpx2.Client(base_url=caller.api.url, headers=caller.headers))
        for _ in range(EACH_USERS):  # as many as one user may have
            open_until_the_end.enter_context(other.stream("GET", "/v1/events"))
        began = time.monotonic()
        with meanwhile(lambda: settle(caller, job.id)):
            calling.wait(job.id, within=20)
    assert 1.9 < time.monotonic() - began < 6


def test_wait_has_a_deadline(caller: Caller, calling: Client) -> None:
    """The client's wait() raises at its deadline with the job's state, and the job goes on."""
    job = caller.job("running")
    began = time.monotonic()
    with pytest.raises(ApiError, match=f"{job.id} is running after 0.5 s \\(too_late\\)$"):
        calling.wait(job.id, within=0.5)
    assert time.monotonic() - began < 2
    assert caller.find(job.id).status == "running"


def test_watch_tells_each_change_once(caller: Caller, calling: Client) -> None:
    """The client's watch() gives the status now and after each change, and the end last."""
    job = caller.job("running")
    seen = []
    for status in calling.watch(job.id, within=20, every=0.02):
        seen.append((status.job.status, status.progress))
        if len(seen) == 1:
            caller.report(job, percent=40)
        elif len(seen) == 2:
            settle(caller, job.id)
    assert seen == [("running", 0), ("running", 40), ("succeeded", 100)]


def test_download_fetches_the_file(caller: Caller, calling: Client, tmp_path: Path) -> None:
    """The client's download() writes the file byte by byte and leaves nothing beside it."""
    name, content = exported(caller)
    target = tmp_path / "report.csv"
    target.write_text("of yesterday")
    assert calling.download(f"/v1/exports/{name}", target, within=20) == len(content)
    assert (target.read_bytes(), list(tmp_path.iterdir())) == (content, [target])


def test_failed_download_leaves_the_old_file(calling: Client, tmp_path: Path) -> None:
    """A failed download leaves the old file as it was."""
    target = tmp_path / "report.csv"
    target.write_text("of yesterday")
    with pytest.raises(ApiError, match="export_not_found"):
        calling.download(f"/v1/exports/{uuid4()}-1.csv", target)
    assert (target.read_text(), list(tmp_path.iterdir())) == ("of yesterday", [target])


def exported(caller: Caller) -> tuple[str, bytes]:
    """The name and the content of an export of this caller."""
    job_id, content = uuid4(), b"id,\xc3\xbc\r\n" * 100_000
    name = f"{job_id}-1.csv"
    caller.job("succeeded", id=job_id, job_type="guarded", result={"downloadUrl": f"/v1/exports/{name}"})
    caller.api.exports.mkdir(parents=True, exist_ok=True)
    (caller.api.exports / name).write_bytes(content)
    return name, content


def test_a_token_from_a_file_may_end_with_a_line(caller: Caller) -> None:
    """The newline that a file or a command has behind a token is not sent: no header may have one."""
    token = caller.headers["Authorization"].removeprefix("Bearer ")
    with Client(caller.api.url, f"{token}\n") as client:
        assert client.stats().failed == 0
