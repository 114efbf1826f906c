"""How an attempt ended, as a value: what a body returns or raises, without a database or a broker."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from celery.app.task import Context
from celery.exceptions import Ignore, MaxRetriesExceededError, Reject, Retry

from tasks.attempt import outcomes
from tasks.attempt.outcomes import UnkeepableResult
from tasks.current import Asked, Running
from tasks.progress import JobCancelled, Reporter
from tests.tracked import new_job
from tracking.models import Attempt, Breaker, Failure, Fence, Owner, Progress

ATTEMPT = Attempt(Fence(uuid4(), 2), 3, Owner("acme", "u1"), None, "count", 1, 3, None, None)
NEWS = Progress(ATTEMPT.fence, ATTEMPT.attempt)
HANDLER = SimpleNamespace(
    blames_payload=lambda error: isinstance(error, KeyError), circuit_failures=5, circuit_pause=60.0
)
UNABLE = SimpleNamespace(circuit_failures=0)


def running(**known: Any) -> Running:
    """An attempt that has begun."""
    return Running(ATTEMPT, Reporter(ATTEMPT, lambda _: True), since=0.0, **known)


def request(**links: Any) -> Context:
    """Celery's request of that attempt."""
    return Context({"hostname": "worker-1", "children": [], **links})


def retry_in(seconds: Any) -> Retry:
    """What a body raises that wants another attempt."""
    return Retry(when=seconds)


def test_a_result_is_a_success_of_this_attempt_by_its_worker() -> None:
    """The outcome of a result has the fence, the attempt and the actor that the row expects."""
    ended = outcomes.of_result(request(), running(), {"a": 1}, is_kept=True).outcome
    assert (ended.kind, ended.fence, ended.attempt, ended.actor) == ("succeeded", ATTEMPT.fence, 3, "worker-1")
    assert (ended.result, ended.typed_result, ended.children) == ({"a": 1}, None, [])


def test_a_result_that_nobody_keeps_is_not_looked_at() -> None:
    """With `ignore_result` even a result that no row could keep is a success."""
    assert outcomes.of_result(request(), running(), object(), is_kept=False).outcome.result is None


def test_a_success_that_nothing_follows_is_plain() -> None:
    """A success without successors and links is plain: its outcome is all there is to write."""
    assert outcomes.of_result(request(), running(), 1, is_kept=True).is_plain


@pytest.mark.parametrize(
    ("links", "known"),
    [
        ({"chain": [{"task": "next"}]}, {}),
        ({"chord": {"task": "body"}}, {}),
        ({"errbacks": [{"task": "errback"}]}, {}),
        ({}, {"successors": [new_job()]}),
        ({}, {"uncalled": new_job(refused=Failure("TypeError", "no"))}),
        ({}, {"replacement": [new_job()]}),
    ],
    ids=["a chain", "a chord", "an errback", "a link", "a link that could not be called", "a replacement"],
)
def test_a_success_that_something_may_follow_is_not_plain(links: dict[str, Any], known: dict[str, Any]) -> None:
    """A success with a successor or a link of any kind is not plain: it is written together with that."""
    end = outcomes.of_result(request(**links), running(**known), 1, is_kept=True)
    assert (end.is_plain, end.may_be_followed) == (False, True)


def test_a_success_with_news_that_nobody_has_written_is_plain() -> None:
    """A success with unwritten progress is plain: nothing follows from it, and it has the news with it."""
    end = outcomes.of_result(request(), running(), 1, is_kept=True).with_news(NEWS)
    assert (end.is_plain, end.may_be_followed, end.outcome.last_news) == (True, False, NEWS)


def test_a_result_that_no_row_can_keep_says_why() -> None:
    """A result that no row can keep fails the attempt with the reason, and its payload is not blamed."""
    with pytest.raises(UnkeepableResult) as raised:
        outcomes.of_result(request(), running(), float("nan"), is_kept=True)
    failure = outcomes.of_error(request(), running(), raised.value, HANDLER).outcome.failure
    assert failure is not None
    assert (failure.type, failure.blames_payload) == (type(raised.value.__cause__).__name__, False)


@pytest.mark.parametrize(("error", "blamed"), [(KeyError("x"), True), (ValueError("x"), False)])
def test_an_error_fails_the_attempt_and_its_handler_says_whose_fault_it_was(error: Exception, *, blamed: bool) -> None:
    """An error fails the attempt; whether its payload caused it is what the handler says."""
    end = outcomes.of_error(request(), running(), error, HANDLER)
    assert end.outcome.failure is not None
    assert (end.outcome.kind, end.how, end.outcome.failure.blames_payload) == ("failed", "interrupted", blamed)
    assert end.outcome.breaker == (None if blamed else Breaker(5, timedelta(minutes=1)))


@pytest.mark.parametrize("error", [ValueError("x"), retry_in(5), Reject("no", requeue=False)], ids=repr)
def test_a_failure_that_nothing_follows_is_plain(error: Exception) -> None:
    """A failure, or a retry, is plain unless somebody waits to be called with its result or its error."""
    assert outcomes.of_error(request(), running(), error, HANDLER).is_plain
    for links in ({"errbacks": [{"task": "x"}]}, {"chord": {"task": "x"}}, {"chain": [{"task": "x"}]}):
        assert not outcomes.of_error(request(**links), running(), error, HANDLER).is_plain


def test_a_handler_that_cannot_judge_blames_no_payload() -> None:
    """A handler that raises when it is asked whose fault an error was blames no payload."""
    failure = outcomes.of_error(request(), running(), ValueError("x"), UNABLE).outcome.failure
    assert failure is not None
    assert not failure.blames_payload


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Reject("no", requeue=False), "failed"),
        (Reject("later", requeue=True), "returned"),
        (Ignore(), "cancelled"),
        (JobCancelled(), "cancelled"),
        (retry_in(5), "retry"),
    ],
    ids=repr,
)
def test_what_a_body_ends_its_job_by_has_an_outcome_of_its_own(error: Exception, kind: str) -> None:
    """Each of Celery's ways to end a body is an outcome of its own in the row."""
    assert outcomes.of_error(request(), running(), error, HANDLER).outcome.kind == kind


def test_a_replaced_job_ends_with_its_replacement() -> None:
    """A replaced job ends with its replacement, also if its body has caught Celery's Ignore."""
    now = running(replacement=[successor := new_job()])
    raised = outcomes.of_error(request(), now, Ignore(), HANDLER)
    returned = outcomes.of_result(request(), now, 1, is_kept=True)
    assert [(end.outcome.kind, end.replacement) for end in (raised, returned)] == [("replaced", [successor])] * 2


def test_a_retry_that_a_body_raises_itself_counts_against_the_jobs_limit() -> None:
    """A Retry that a body raises itself fails the last attempt; one that it has asked for is counted already."""
    last = Attempt(ATTEMPT.fence, 4, ATTEMPT.owner, None, "count", 3, 3, None, None)
    raised, asked = (Running(last, Reporter(last, lambda _: True), since=0.0) for _ in range(2))
    asked.retry = Asked({}, has_arguments=False, max_retries=None)
    ends = [outcomes.of_error(request(), now, retry_in(5), HANDLER).outcome for now in (raised, asked)]
    assert [(end.kind, end.delay) for end in ends] == [("failed", timedelta(0)), ("retry", timedelta(seconds=5))]
    assert ends[0].failure is not None
    assert ends[0].failure.type == MaxRetriesExceededError.__name__


def test_once_a_retry_is_asked_for_an_error_of_the_body_changes_nothing() -> None:
    """An error after a retry was asked for leaves its time as it is and is told as the failure."""
    end = outcomes.of_error(request(), running(again=retry_in(7)), ValueError("late"), HANDLER).outcome
    assert (end.kind, end.delay) == ("retry", timedelta(seconds=7))
    assert end.failure is not None
    assert end.failure.message == "late"
