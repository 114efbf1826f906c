"""The HTTP client with jobs that failed alike."""

from __future__ import annotations

from datetime import timedelta

import pytest

from api.schemas import errors as contract
from celeriac.client import ApiError, failures
from tests.api.calling import OF_GUARDED, Caller
from tests.celeriac.test_client import client_of


@pytest.mark.parametrize("name", ["ErrorGroup", "ErrorGroups", "ErrorMark"])
def test_these_answers_have_the_fields_of_the_contract(name: str) -> None:
    """The client's answers about failures have the fields that the API answers."""
    answered = getattr(contract, name).model_json_schema(mode="serialization")["properties"]
    mine = getattr(failures, name).model_json_schema()["properties"]
    assert set(mine) == set(answered)


def test_groups_are_listed_marked_and_retried(caller: Caller) -> None:
    """The client lists groups and the jobs of one, says what is known of it, and has it retried."""
    jobs = [caller.job("failed", job_type="guarded") for _ in range(2)]
    with client_of(caller) as calling:
        [group] = calling.errors(window=timedelta(hours=1), job_type="guarded").errors
        assert (group.fingerprint, group.count, group.sample_job_id) == (OF_GUARDED, 2, jobs[1].id)
        assert [job.id for job in calling.jobs(error=OF_GUARDED)] == [jobs[1].id, jobs[0].id]
        assert calling.preview("retry", error=OF_GUARDED).matched == 2
        assert calling.mark_error(OF_GUARDED, "ignored").marked_by == caller.user
        assert calling.errors().errors == ()
        assert [each.count for each in calling.errors(state="ignored").errors] == [2]
        with pytest.raises(ApiError, match="error_not_found"):
            calling.mark_error("0123456789abcdef", "open")
