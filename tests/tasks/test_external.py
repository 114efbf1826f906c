"""`celeriac.track`: code that does the work of a job itself, and says how far it is."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import pytest
from celery import chain
from pydantic import BaseModel, SecretStr, ValidationError
from sqlalchemy import text

from bench.chaos.proxy import Mode, Proxy
from tasks.app import JobApp
from tasks.external import Tracked as Elsewhere
from tasks.persistence import DatabaseAway
from tasks.platform import Platform
from tasks.progress import JobCancelled
from tests.behind import database_behind
from tests.tracked import ACME, Tracked, check_rows
from tracking import acting_as, external_types, jobs
from tracking.errors import ConfigurationError, IllegalMove, InvalidValue
from tracking.external_types import BUILT_IN, ExternalType
from tracking.models import JobRecord
from tracking.settings import settings
from tracking.states import Hold, Status


class Inspection(BaseModel):
    """What an inspection is about."""

    plate: str


@pytest.fixture
def own(app: JobApp, database_url: str) -> Iterator[JobApp]:
    """An app of acme's u1 with a type of work that is done elsewhere, and one that workers run."""

    @app.task(pydantic=True, name="inspection", external=True, external_timeout=600)
    def inspection(payload: Inspection) -> None:
        """Not run by any worker."""

    @app.task(name="count")
    def count(number: int) -> int:
        return number

    app.platform = Platform(app, settings().model_copy(update={"database_url": SecretStr(database_url)}))
    with acting_as("acme", "u1"):
        yield app
    app.platform.close(timeout=5)


def row(tracked: Tracked, job: Elsewhere) -> JobRecord:
    return tracked.get(job.id)


def test_a_block_runs_and_succeeds(own: JobApp, tracked: Tracked) -> None:
    """A job that is tracked by a block runs from its beginning, shows what is said, and succeeds with the result."""
    with own.track("document_analysis", message="Reading", metadata={"file": "a.pdf"}, priority=3) as job:
        assert row(tracked, job).status is Status.RUNNING
        job.update(39.9, "Page 4", detail={"page": 4})
        now = row(tracked, job)
        assert (now.progress, now.message, now.progress_detail) == (39, "Page 4", {"page": 4})
        job.complete({"documentId": "d"})
    ended = row(tracked, job)
    assert (ended.status, ended.result, ended.metadata, ended.priority) == (
        *(Status.SUCCEEDED, {"documentId": "d"}),
        *({"file": "a.pdf"}, 3),
    )
    assert (ended.organization_id, ended.user_id, ended.worker) == ("acme", "u1", "u1")
    check_rows(tracked)


def test_the_end_of_a_block_is_its_success(own: JobApp, tracked: Tracked) -> None:
    """A block that says nothing of its end has succeeded, without a result."""
    with own.track() as job:
        pass
    assert (row(tracked, job).status, row(tracked, job).result, row(tracked, job).job_type) == (
        *(Status.SUCCEEDED, None),
        "generic",
    )


def test_an_exception_is_its_failure_and_goes_on(own: JobApp, tracked: Tracked) -> None:
    """An exception fails the job with its class and text, and goes on to the caller."""
    with pytest.raises(KeyError), own.track() as job:
        raise KeyError("page")
    assert (row(tracked, job).status, row(tracked, job).error_message) == (Status.FAILED, "KeyError: 'page'")


class _Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_an_exception_without_words_goes_on_too(own: JobApp, tracked: Tracked) -> None:
    """An exception whose text cannot be made fails the job with its class, and goes on."""
    with pytest.raises(_Mute), own.track() as job:
        raise _Mute
    assert (row(tracked, job).status, row(tracked, job).error_message) == (Status.FAILED, "_Mute: <_Mute>")


def _raise_when_cancelled(tracked: Tracked, job: Elsewhere) -> None:
    with job:
        jobs.cancel(tracked.connection, job.id, ACME, actor="u2")
        raise KeyError("page")


def test_an_exception_goes_on_when_the_job_cannot_be_told(own: JobApp, tracked: Tracked) -> None:
    """What a block raises after its job was cancelled reaches the caller, with a note of why the job has not failed."""
    job = own.track()
    with pytest.raises(KeyError) as raised:
        _raise_when_cancelled(tracked, job)
    assert raised.value.__notes__ == [f"The job {job.id} could not be told so: JobCancelled"]
    assert row(tracked, job).status is Status.CANCELLED


@pytest.fixture
def network(app: JobApp, database_url: str) -> Iterator[Proxy]:
    """What is between an app of acme's u1 and the database."""
    with database_behind(database_url) as (url, proxy), acting_as("acme", "u1"):
        patient = {"database_url": SecretStr(url), "claim_patience": 30.0}
        app.platform = Platform(app, settings().model_copy(update=patient))
        yield proxy
        proxy.switch(Mode.OPEN)
        app.platform.close(timeout=5)


def test_the_work_goes_on_while_the_database_is_away(app: JobApp, tracked: Tracked, network: Proxy) -> None:
    """Progress is missed meanwhile, as that of a handler is, and the next report and the end are written."""
    with app.track() as job:
        network.switch(Mode.REFUSE)
        job.update(20, "missed")
        network.switch(Mode.OPEN)
        job.update(40, "written")
        assert (row(tracked, job).progress, row(tracked, job).message) == (40, "written")
    assert row(tracked, job).status is Status.SUCCEEDED


def test_an_end_is_written_when_the_database_is_back(app: JobApp, tracked: Tracked, network: Proxy) -> None:
    """The end of work waits for the database."""
    job = app.track()
    network.switch(Mode.REFUSE)
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(job.complete, {"pages": 3})
        assert not wait([ended], timeout=0.5).done
        network.switch(Mode.OPEN)
        ended.result(30)
    assert (row(tracked, job).status, row(tracked, job).result) == (Status.SUCCEEDED, {"pages": 3})


def test_an_end_that_cannot_be_written_says_so_in_one_line(app: JobApp, network: Proxy) -> None:
    """When the database stays away, the end of work raises an error without the statement that was not answered."""
    app.platform.close(timeout=5)
    app.platform = Platform(app, app.platform.settings.model_copy(update={"claim_patience": 0.0}))
    job = app.track()
    network.switch(Mode.REFUSE)
    with pytest.raises(DatabaseAway, match=r"^the database could not be reached in time$"):
        job.complete()


def test_an_end_whose_answer_was_lost_is_no_error(app: JobApp, tracked: Tracked, network: Proxy) -> None:
    """A report that is repeated, because the answer to it was lost after its commit, finds what it has done."""
    job = app.track()
    network.drop_replies()
    job.complete({"pages": 3})
    assert network.dropped == 1
    assert (job.status, row(tracked, job).result) == (Status.SUCCEEDED, {"pages": 3})


def _complete_and_raise(job: Elsewhere) -> None:
    with job:
        job.complete()
        raise RuntimeError("afterwards")


def test_what_was_ended_in_the_block_stays_so(own: JobApp, tracked: Tracked) -> None:
    """A job that was failed in its block stays failed, also when the block ends well or with an exception."""
    with own.track() as job:
        job.fail("no paper")
    other = own.track()
    with pytest.raises(RuntimeError):
        _complete_and_raise(other)
    assert [row(tracked, each).status for each in (job, other)] == [Status.FAILED, Status.SUCCEEDED]


def test_a_cancelled_one_stops_its_block(own: JobApp, tracked: Tracked) -> None:
    """After a cancel every report raises JobCancelled, which ends the block and leaves the job cancelled."""
    job = own.track()
    jobs.cancel(tracked.connection, job.id, ACME, actor="u2")
    with pytest.raises(JobCancelled), job:
        pass
    with pytest.raises(JobCancelled):
        job.complete()
    assert (row(tracked, job).status, job.status) == (Status.CANCELLED, Status.CANCELLED)


def test_work_that_has_ended_begins_no_block(own: JobApp, tracked: Tracked) -> None:
    """A job of the same idempotency key that has ended, however, runs no second block: its work would be done twice."""
    for key, end in (("a", Elsewhere.complete), ("b", lambda job: job.fail("no"))):
        end(own.track("generic", idempotency_key=key))
        with pytest.raises(IllegalMove, match="it is finished"), own.track("generic", idempotency_key=key):
            pytest.fail("the block has begun")
    cancelled = own.track("generic", idempotency_key="c")
    tracked.cancel(row(tracked, cancelled))
    with pytest.raises(JobCancelled), own.track("generic", idempotency_key="c"):
        pytest.fail("the block has begun")


def test_without_a_block_it_waits_until_something_is_said(own: JobApp, tracked: Tracked) -> None:
    """A tracked job without a block is queued; update begins it, complete ends it, and nothing follows its end."""
    job = own.track("file_processing", payload={"name": "a"})
    assert (row(tracked, job).status, row(tracked, job).hold) == (Status.QUEUED, Hold.EXTERNAL)
    assert row(tracked, job).payload == {"name": "a"}
    job.update(1)
    job.complete("done", message="All pages")
    assert (row(tracked, job).result, row(tracked, job).message) == ("done", "All pages")
    with pytest.raises(IllegalMove):
        job.update(2)
    with pytest.raises(InvalidValue):
        own.track().complete({"n": float("nan")})


def test_a_type_of_the_code_has_a_payload_that_is_checked(own: JobApp, tracked: Tracked) -> None:
    """A type with external=True takes the payload of its model, by track as by delay, and is sent by neither."""
    job = own.track("inspection", payload={"plate": "B 1"})
    own.tasks["inspection"].delay(Inspection(plate="B 2"))
    assert [(each.payload, each.hold) for each in tracked.all()] == [
        ({"plate": "B 1"}, Hold.EXTERNAL),
        ({"plate": "B 2"}, Hold.EXTERNAL),
    ]
    with pytest.raises(ValidationError):
        own.track("inspection", payload={"plates": []})
    job.complete()


@pytest.mark.parametrize("said", ["10m", 1e12, 0, -1, True, float("nan")], ids=str)
def test_a_time_of_the_code_that_is_none_is_refused_with_the_task(app: JobApp, said: Any) -> None:
    """A task whose external_timeout nobody can wait for cannot be registered: it would keep others from their end."""

    def waits() -> None:
        """Not run by any worker."""

    options: dict[str, Any] = {"external": True, "external_timeout": said}
    with pytest.raises(ConfigurationError, match="'waits' cannot be served: external_timeout is seconds"):
        app.task(name="waits", **options)(waits)  # type: ignore[no-untyped-call]


def test_what_workers_run_is_not_tracked_so(own: JobApp, tracked: Tracked) -> None:
    """A type that workers run cannot be tracked as work done elsewhere."""
    with pytest.raises(InvalidValue, match="workers run"):
        own.track("count")
    assert tracked.all() == []


@pytest.mark.parametrize("name", [*BUILT_IN, "inspection"])
@pytest.mark.parametrize("option", [{"countdown": 5}, {"depends_on": ["x"]}, {"link": "x"}], ids=str)
def test_it_can_wait_for_nothing(own: JobApp, tracked: Tracked, name: str, option: dict[str, Any]) -> None:
    """What would have to be started or called at a time is refused for a type of work done elsewhere."""
    with pytest.raises(InvalidValue, match="done elsewhere"):
        own.send_task(name, kwargs={"payload": {"plate": "B"}}, **option)
    assert tracked.all() == []


def test_it_is_no_part_of_a_canvas(own: JobApp, tracked: Tracked) -> None:
    """A chain that begins with work done elsewhere is refused, for nobody would call what follows."""
    with pytest.raises(InvalidValue, match="done elsewhere"):
        chain(own.signature("generic"), own.tasks["count"].si(1)).delay()
    assert tracked.all() == []


def test_a_producer_needs_only_the_name(own: JobApp, tracked: Tracked) -> None:
    """A program that sends by name makes an external job of a built-in type, or of one that an operator has named."""
    external_types.put(tracked.connection, ExternalType("ocr"), actor="operator")
    for name in ("llm_agent", "ocr", "unknown"):
        own.send_task(name)
    assert [each.external for each in tracked.all()] == [True, True, False]
    assert tracked.connection.execute(text("SELECT count(*) FROM jobs WHERE hold = 'external'")).scalar() == 2
