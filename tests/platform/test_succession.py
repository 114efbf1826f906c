"""What follows from the end of an attempt, with a worker: successors, chords, errbacks, the next attempt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.live import LivePlatform, eventually
from tests.servers import Servers, new_database
from tracking.models import JobRecord

HANDLERS = "from celery import chain, chord, group; from tests.succession_handlers import *; import json\n"


@pytest.fixture(scope="module")
def platform(servers: Servers, broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePlatform]:
    """A platform whose worker serves two queues, and where the first loss of a worker ends a job."""
    directory = tmp_path_factory.mktemp("succession")
    settings = {"CELERIAC_IMPORTS": "tests.succession_handlers", "CELERIAC_MAX_LOSSES": "1"}
    with new_database(servers) as url, LivePlatform(url, broker_url, directory, **settings) as running:
        running.start_worker()
        yield running


def ask(platform: LivePlatform, code: str) -> list[UUID]:
    """The ids that a producer's code puts into `ids`."""
    return [UUID(each) for each in json.loads(platform.run(f"{HANDLERS}{code}\nprint(json.dumps(ids))"))]


def by_hand(platform: LivePlatform, verb: str, job_id: UUID) -> None:
    """A person's request, as the API fulfils it; its log, of other threads too, does not go to the answer's pipe."""
    scope = f"Scope({platform.job(job_id).organization_id!r}, None)"
    platform.run(
        "from uuid import UUID; from tasks import app, verbs; from tracking.logs import configure_logging\n"
        "from tracking.models import Scope; from tracking.settings import settings; configure_logging(settings())\n"
        f"verbs.{verb}(app.platform, UUID('{job_id}'), {scope}, actor='u1')"
    )


def test_the_id_of_a_chain_is_known_at_once_and_ends_with_a_cancel(platform: LivePlatform) -> None:
    """The last job of a chain is queued from the submit on, and cancelled with its predecessor."""
    first, last = ask(
        platform,
        "result = chain(text.si().set(countdown=600), text.si(), text.si()).delay()\n"
        "ids = [result.parent.parent.id, result.id]",
    )
    job = platform.job(last)
    assert (job.status, job.hold, job.attempt) == ("queued", "dependency", 0)
    by_hand(platform, "cancel", first)
    cancelled = platform.wait_for(last)
    assert cancelled.status == "cancelled"
    assert str(first) in (cancelled.error_message or "")


def test_a_retry_by_hand_lets_the_successors_run_after_all(platform: LivePlatform, tmp_path: Path) -> None:
    """After a retry by hand of a failed job its successors run once each."""
    path = tmp_path / "file"
    first, last = ask(
        platform,
        f"result = chain(needs.si({str(path)!r}), text.si(), count.s()).delay()\n"
        "ids = [result.parent.parent.id, result.id]",
    )
    assert platform.wait_for(first).status == "failed"
    assert platform.wait_for(last).status == "failed"
    path.touch()
    by_hand(platform, "retry", first)
    assert platform.wait_for(last, "succeeded").result == 1
    assert platform.events(last) == ["created", "failed", "retried", "started", "completed"]


def test_a_successor_that_cannot_be_called_fails_alone(platform: LivePlatform) -> None:
    """A successor that cannot be called fails with the reason, and its predecessor has succeeded."""
    first, second, third = ask(
        platform,
        "result = chain(text.si(), number.s(), text.si()).delay()\n"
        "ids = [result.parent.parent.id, result.parent.id, result.id]",
    )
    failed = platform.wait_for(second)
    assert platform.job(first).status == "succeeded"
    assert (failed.status, platform.wait_for(third).status) == ("failed", "failed")
    assert "valid" in (failed.error_message or "")


def test_results_that_are_too_long_for_a_body_fail_the_body(platform: LivePlatform) -> None:
    """Results that are too long together fail the body of a chord, and no member."""
    *members, body = ask(
        platform,
        "result = chord([text.s(950_000)] * 9, count.s()).delay()\n"
        "ids = [*(member.id for member in result.parent.results), result.id]",
    )
    failed = platform.wait_for(body, within=40)
    assert (failed.status, failed.attempt) == ("failed", 0)
    assert "bytes of JSON" in (failed.error_message or "")
    assert {platform.job(member).status for member in members} == {"succeeded"}


@pytest.mark.parametrize(
    "end", ["die.si()", "sleep.si(30).set(time_limit=1)", "sleep.si(30).set(soft_time_limit=1)"], ids=str
)
def test_an_end_that_the_body_did_not_see_ends_the_chord_and_calls_its_errback(
    platform: LivePlatform, end: str, tmp_path: Path
) -> None:
    """A chord whose member died or ran out of time fails and calls its errback."""
    path = tmp_path / "note"
    member, last = ask(
        platform,
        f"body = count.s().on_error(note.s(path={str(path)!r}))\n"
        f"result = chain(chord([text.si(), {end}], body), text.si()).delay()\n"
        "ids = [result.parent.parent.results[1].id, result.id]",
    )
    assert platform.wait_for(last).status == "failed"
    assert platform.job(member).status == "failed"
    assert eventually(lambda: path.exists() and path.read_text(), what="the call of the errback")


@pytest.mark.parametrize("end", ["die", "sleep"])
def test_a_job_that_did_not_see_its_end_has_its_own_errbacks_called(
    platform: LivePlatform, end: str, tmp_path: Path
) -> None:
    """The errbacks of a job that died or ran out of time are called."""
    path = tmp_path / "note"
    options = f"link_error=note.s(path={str(path)!r}), time_limit=1"
    [job_id] = ask(platform, f"ids = [{end}.apply_async({'(30,)' if end == 'sleep' else '()'}, {options}).id]")
    assert platform.wait_for(job_id).status == "failed"
    assert eventually(lambda: path.exists() and path.read_text(), what="the call of the errback") == str(job_id)


def test_a_signature_that_was_frozen_once_runs_once(platform: LivePlatform) -> None:
    """A signature that was frozen once runs once, in the canvas that it was sent with first."""
    first, second, shared = ask(
        platform,
        "shared = text.si(5)\nshared.freeze()\n"
        "one, two = (chain(text.si(), shared).delay() for _ in range(2))\n"
        "ids = [one.parent.id, two.parent.id, one.id]",
    )
    assert platform.wait_for(first).status == platform.wait_for(second).status == "succeeded"
    assert platform.wait_for(shared).result == "xxxxx"
    assert platform.events(shared).count("started") == 1


def test_what_follows_waits_for_a_retry_that_was_asked_for_without_an_exception(platform: LivePlatform) -> None:
    """A successor is called once, after the retry that a body asked for without an exception."""
    first, last = ask(
        platform, "result = chain(return_and_retry.si(), text.s()).delay(); ids = [result.parent.id, result.id]"
    )
    assert platform.wait_for(last).status == "succeeded"
    job = platform.job(first)
    assert (job.status, job.attempt, job.retry_count, job.result) == ("succeeded", 2, 1, 1)
    assert platform.events(last).count("started") == 1


# the options of a retry change the next attempt


def retried(platform: LivePlatform, options: dict[str, Any], **arguments: Any) -> JobRecord:
    """A job whose first attempt asked for another one with these options, at its end."""
    call = ", ".join([repr(options), *(f"{name}={value!r}" for name, value in arguments.items())])
    [job_id] = ask(platform, f"ids = [retry_with.delay({call}).id]")
    return platform.wait_for(job_id)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"queue": "maintenance"}, {"queue": "maintenance"}),
        ({"priority": 7}, {"priority": 7}),
        ({"time_limit": 50, "soft_time_limit": 40}, {"limits": [50, 40]}),
        ({}, {"queue": "default", "retries": 1}),
    ],
    ids=str,
)
def test_an_option_of_a_retry_is_one_of_the_next_attempt(
    platform: LivePlatform, options: dict[str, Any], expected: dict[str, Any]
) -> None:
    """Options of `self.retry` are those of the next attempt, as its worker sees it."""
    job = retried(platform, options)
    assert {name: job.result[name] for name in expected} == expected


def test_a_soft_time_limit_of_a_retry_ends_the_next_attempt(platform: LivePlatform) -> None:
    """A soft time limit of `self.retry` ends the next attempt."""
    job = retried(platform, {"soft_time_limit": 1}, seconds=20)
    assert (job.status, job.error_type, job.attempt) == ("failed", "SoftTimeLimitExceeded", 2)


def test_a_retry_that_expires_before_it_is_due_does_not_run(platform: LivePlatform) -> None:
    """A retry that expires before it is due does not run."""
    job = retried(platform, {"expires": 0.2, "countdown": 1})
    assert (job.status, job.attempt) == ("cancelled", 1)


def test_a_limit_of_a_retry_goes_before_the_handlers_own(platform: LivePlatform) -> None:
    """max_retries of `self.retry` goes before the handler's own, smaller or larger."""
    assert retried(platform, {"max_retries": 0}).error_type == "ValueError"
    job = retried(platform, {"max_retries": 5}, times=5)
    assert (job.status, job.result["retries"], job.max_retries) == ("succeeded", 5, 5)


@pytest.mark.parametrize("option", ["countdown", "eta"])
def test_a_retry_waits_as_long_as_it_says(platform: LivePlatform, option: str) -> None:
    """A retry waits in its row as long as countdown or eta say."""
    job = retried(platform, {option: 1.5})
    moves = [entry for entry in platform.history(job.id) if entry.event in ("failed", "started")]
    _, failed, started = moves
    assert 1.4 <= (started.at - failed.at).total_seconds() < 10
