"""The HTTP client with limits, weights and denied tokens."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from api.schemas import denied_tokens as denied_contract
from api.schemas import fleet
from api.schemas import limits as contract
from celeriac.client import ApiError, denied_tokens, limits, looking
from tests.api.calling import Caller
from tests.celeriac.test_client import client_of


def test_these_answers_have_the_fields_of_the_contract() -> None:
    """The client's answers about limits have the fields that the API answers."""
    assert set(limits.JobLimit.model_fields) == set(contract.JobLimit.model_fields)
    assert set(limits.Rate.model_fields) == set(contract.AnsweredRate.model_fields)


def test_limits_are_set_listed_and_removed(caller: Caller) -> None:
    """The client sets a limit with a rate, lists it, removes it, and weighs an organization."""
    with client_of(caller) as calling:
        made = calling.put_limit(
            "organization", job_type="open", organization=caller.organization, concurrency=2, rate=(10, "second")
        )
        assert (made.concurrency, made.rate) == (2, limits.Rate(jobs=10, per="second"))
        assert made in calling.limits()
        assert calling.remove_limit(made.id) == made
        with pytest.raises(ApiError, match="limit_not_found"):
            calling.remove_limit(made.id)
        calling.set_weight(caller.organization, 5)
    assert caller.get("/v1/organization").json()["weight"] == 5


def test_a_queue_is_paused_and_resumed(caller: Caller) -> None:
    """The client pauses a queue and resumes it; its answers have the fields of the API's."""
    for ours, theirs in ((looking.QueueHeld, fleet.QueueHeld), (looking.QueuePause, fleet.QueuePause)):
        assert set(ours.model_fields) == set(theirs.model_fields)
    queue = f"queue-{caller.organization}"
    caller.job(queue=queue)
    with client_of(caller) as calling:
        held = calling.pause_queue(queue, "moving")
        assert held.pause is not None
        assert (held.name, held.pause.reason, held.pause.paused_by) == (queue, "moving", caller.user)
        assert [each.pause for each in calling.queues() if each.name == queue] == [held.pause]
        assert calling.resume_queue(queue).pause is None
        with pytest.raises(ApiError, match="queue_not_found"):
            calling.pause_queue("nobody-has-it")


def test_tokens_are_denied_and_allowed_again(caller: Caller) -> None:
    """The client denies a user's older tokens, lists that, and takes it back; its answers have the API's fields."""
    assert set(denied_tokens.Denial.model_fields) == set(denied_contract.Denial.model_fields)
    before = datetime.now(UTC).replace(microsecond=0)
    with client_of(caller) as calling:
        made = calling.deny_tokens(user="ann", organization=caller.organization, issued_before=before, reason="left")
        assert (made.user, made.token, made.issued_before, made.reason) == ("ann", None, before, "left")
        assert made in calling.denied_tokens()
        assert calling.allow_tokens(made.id) == made
        with pytest.raises(ApiError, match="denial_not_found"):
            calling.allow_tokens(made.id)
