"""A successor that cannot be sent has a row that says why, and takes no other successor along."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import select

from tests.live import LivePlatform, eventually
from tests.servers import Servers, new_database
from tracking import jobs as verbs
from tracking.admission.rule import UNLIMITED
from tracking.errors import IllegalMove
from tracking.models import JobRecord, Scope
from tracking.schema import jobs
from tracking.sql import record

HANDLERS = "from celery import chain, chord, group; from tests.succession_handlers import *; import json\n"

DEPENDENT = "text.si().set(depends_on=['019aa0f3-7c1e-7d5a-9f57-3a1f6a0c9d11'])"
# Calls that are refused when their job is to follow another one, and what the row says of each.
REFUSED = {
    "number.s()": "valid",  # a text is no payload
    "text.s(1, 2)": "positional argument",
    "text.si().set(que='default')": "did you mean 'queue'",
    "text.si().set(priority=77)": "priority must be a whole number",
    "text.si().set(organization='a' * 2000)": "organization is 2000 bytes long",
    "text.si().set(headers={'id': 'x'})": "headers must not set 'id'",
    DEPENDENT: "there is no job",
}


SETTINGS = {"CELERIAC_IMPORTS": "tests.succession_handlers"}
# What a producer can see is refused at the submit already, for the steps of a chain and for a chord's body.
LATE = ["number.s()", "text.s(1, 2)", "text.si().set(que='default')", DEPENDENT]


@pytest.fixture(scope="module")
def platform(servers: Servers, broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePlatform]:
    """A platform with a worker."""
    directory = tmp_path_factory.mktemp("refused")
    with (
        new_database(servers) as url,
        LivePlatform(url, broker_url, directory, CELERIAC_IMPORTS="tests.succession_handlers") as running,
    ):
        running.start_worker()
        yield running


def ask(platform: LivePlatform, code: str) -> list[UUID]:
    """The ids that a producer's code puts into `ids`."""
    return [UUID(each) for each in json.loads(platform.run(f"{HANDLERS}{code}\nprint(json.dumps(ids))"))]


def children(platform: LivePlatform, parent: UUID, count: int) -> list[JobRecord]:
    """The jobs that a job has sent, when there are so many and all have ended; failed ones first."""

    def ended() -> list[JobRecord] | None:
        with platform.database.autocommit() as connection:
            rows = connection.execute(select(jobs).where(jobs.c.parent_id == parent).order_by(jobs.c.status)).all()
        found = [record(row) for row in rows]
        return found if len(found) == count and all(job.completed_at for job in found) else None

    return eventually(ended, what=f"the end of {count} children")  # type: ignore[no-any-return]


@pytest.mark.parametrize("link", REFUSED, ids=str)
def test_a_link_that_is_refused_has_a_row_with_the_reason(platform: LivePlatform, link: str) -> None:
    """A refused link without an id has a failed row, and the job beside it and before it succeed."""
    [sent] = ask(platform, f"ids = [text.apply_async(link=[{link}, text.si()]).id]")
    refused, other = children(platform, sent, 2)
    assert (refused.status, refused.attempt, refused.parent_id) == ("failed", 0, sent)
    assert REFUSED[link] in (refused.error_message or "")
    assert other.status == platform.job(sent).status == "succeeded"


def test_a_link_with_an_id_has_its_row_under_that_id(platform: LivePlatform) -> None:
    """The id of a refused link leads to its row."""
    linked, sent = ask(platform, "link = number.s(); ids = [link.freeze().id, text.apply_async(link=link).id]")
    [refused] = children(platform, sent, 1)
    assert refused.id == linked
    assert "valid" in (refused.error_message or "")


def test_a_link_whose_id_is_another_jobs_has_a_row_of_its_own(platform: LivePlatform) -> None:
    """A link with the id of another job fails under a new id, and the other job stays as it is."""
    other, sent = ask(
        platform,
        "other = text.delay(3); other.get()\n"
        "ids = [other.id, text.apply_async(link=text.si(4).set(task_id=other.id)).id]",
    )
    [refused] = children(platform, sent, 1)
    assert refused.id != other
    assert "was used for another job" in (refused.error_message or "")
    assert platform.job(other).result == "xxx"


@pytest.mark.parametrize("step", LATE, ids=str)
def test_a_step_of_a_chain_that_is_refused_fails_with_the_reason(platform: LivePlatform, step: str) -> None:
    """The row of a refused step of a chain fails with the reason, and the steps after it fail with it."""
    first, second, third = ask(
        platform,
        f"result = chain(text.si(), {step}, text.si()).delay()\n"
        "ids = [result.parent.parent.id, result.parent.id, result.id]",
    )
    assert platform.wait_for(third).status == "failed"
    assert REFUSED[step] in (platform.job(second).error_message or "")
    assert platform.job(first).status == "succeeded"
    assert [job.id for job in children(platform, first, 1)] == [second]


@pytest.mark.parametrize("body", LATE, ids=str)
def test_the_body_of_a_chord_that_is_refused_fails_with_the_reason(
    platform: LivePlatform, body: str, tmp_path: Path
) -> None:
    """The row of a refused body fails with the reason, and its errback is called."""
    path = tmp_path / "note"
    errback = f"note.s(path={str(path)!r})"
    [last] = ask(platform, f"ids = [chord([text.si(), text.si()], {body}.on_error({errback})).delay().id]")
    failed = platform.wait_for(last)
    assert (failed.status, failed.attempt) == ("failed", 0)
    assert REFUSED[body] in (failed.error_message or "")
    assert eventually(lambda: path.exists() and path.read_text(), what="the call of the errback") == str(last)


@pytest.mark.parametrize("errback", [*REFUSED][1:], ids=str)  # Celery calls the first as a function
def test_an_errback_that_is_refused_has_a_row_with_the_reason(
    platform: LivePlatform, errback: str, tmp_path: Path
) -> None:
    """A refused errback has a failed row, and the errback beside it is called."""
    path = tmp_path / "note"
    [sent] = ask(
        platform,
        f"ids = [needs.apply_async(('/nowhere',), link_error=[{errback}, note.s(path={str(path)!r})]).id]",
    )
    refused, other = children(platform, sent, 2)
    assert (refused.status, refused.attempt) == ("failed", 0)
    assert REFUSED[errback] in (refused.error_message or "")
    assert other.status == "succeeded"
    assert path.read_text() == str(sent)


def test_a_link_that_is_a_chain_has_rows_for_all_its_steps(platform: LivePlatform) -> None:
    """When the first step of a linked chain is refused, every step has a failed row."""
    last, sent = ask(
        platform,
        "link = chain(number.s(), text.si()); ids = [link.freeze().id, text.apply_async(link=link).id]",
    )
    [first] = children(platform, sent, 1)
    assert "valid" in (first.error_message or "")
    assert "valid" in (platform.wait_for(last).error_message or "")


def test_a_link_that_is_a_chord_has_a_row_for_its_body(platform: LivePlatform) -> None:
    """When a member of a linked chord's header is refused, its body fails."""
    body, sent = ask(
        platform,
        "link = chord([number.s(), text.si()], count.s())\nids = [link.freeze().id, text.apply_async(link=link).id]",
    )
    assert [job.status for job in children(platform, sent, 2)] == ["failed", "succeeded"]
    assert platform.wait_for(body).status == "failed"


def test_a_refused_successor_cannot_be_retried(platform: LivePlatform) -> None:
    """A retry by hand of a job whose call was refused is refused, and names the reason of that."""
    [sent] = ask(platform, "ids = [text.apply_async(link=number.s()).id]")
    [refused] = children(platform, sent, 1)
    owner = Scope(refused.organization_id, None)
    with platform.database.autocommit() as connection, pytest.raises(IllegalMove, match="valid"):
        verbs.retry(connection, refused.id, owner, actor="u1", force=True, limits=UNLIMITED)
