"""Limits and weights over HTTP, as operators set them."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.api.calling import Caller, problem
from tests.live import eventually

ORGANIZATION = {"per": "organization", "jobType": "open"}


def own(caller: Caller, **said: Any) -> dict[str, Any]:
    """A limit of this caller's organization."""
    return {**ORGANIZATION, "organization": caller.organization, **said}


def test_a_limit_is_set_listed_replaced_and_removed(caller: Caller) -> None:
    """A limit takes the place of the one for the same, keeps its id then, and is gone when it is removed."""
    first = caller.put("/v1/limits", own(caller, concurrency=3)).json()
    assert {name: first[name] for name in ("per", "organization", "jobType", "key", "concurrency", "rate")} == {
        "per": "organization", "organization": caller.organization, "jobType": "open", "key": None, "concurrency": 3,
        "rate": None,
    }  # fmt: skip
    again = caller.put("/v1/limits", own(caller, rate={"jobs": 100, "per": "minute"})).json()
    assert (again["id"], again["concurrency"], again["rate"]) == (first["id"], None, {"jobs": 100, "per": "minute"})
    keyed = caller.put("/v1/limits", own(caller, per="key", key="payload.account.id", concurrency=1)).json()
    assert (keyed["key"], keyed["changedBy"]) == ("account.id", caller.user)
    mine = [each for each in caller.get("/v1/limits").json()["limits"] if each["organization"] == caller.organization]
    assert sorted(each["id"] for each in mine) == sorted([again["id"], keyed["id"]])
    removed = caller.delete(f"/v1/limits/{keyed['id']}")
    assert (removed.status_code, removed.json()) == (200, keyed)
    problem(caller.delete(f"/v1/limits/{keyed['id']}"), 404, "limit_not_found")
    problem(caller.delete(f"/v1/limits/{uuid4()}"), 404, "limit_not_found")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"per": "platform", "jobType": "open", "organization": "a"}, "of no organization"),
        ({"per": "platform"}, "say jobType"),
        ({"per": "key", "key": "a"}, "say jobType"),
        ({"per": "key", "jobType": "open", "concurrency": 1}, "names a concurrency_key"),
        ({**ORGANIZATION, "key": "a"}, "Only a limit per key"),
        ({"per": "organization", "concurrency": 1}, "limit of the organization"),
        ({**ORGANIZATION, "concurrency": 0}, "greater than or equal to 1"),
        ({**ORGANIZATION, "rate": {"jobs": 0, "per": "second"}}, "greater than or equal to 1"),
        ({**ORGANIZATION, "rate": {"jobs": 1, "per": "day"}}, "'second', 'minute' or 'hour'"),
        ({**ORGANIZATION, "per": "user"}, "'platform', 'organization' or 'key'"),
        ({"per": "key", "jobType": "open", "key": "a..b"}, "match"),
        ({"per": "key", "jobType": "open", "key": ""}, "match"),
        ({"per": "platform", "jobType": "open"}, "A limit has a number"),
        ({"per": "key", "jobType": "open", "key": "a"}, "A limit has a number"),
        (ORGANIZATION, "A limit has a number"),
        ({"per": "organization"}, "A limit has a number"),
        ({**ORGANIZATION, "concurrency": 1, "organization": "*"}, "name one"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_reason(caller: Caller, said: dict[str, Any], words: str) -> None:
    """A limit that nothing can be counted by is answered with 422, which says what is wrong."""
    assert words in caller.put("/v1/limits", said).text
    problem(caller.put("/v1/limits", said), 422, "invalid_request")


def test_a_type_that_nobody_knows_is_no_slip(caller: Caller) -> None:
    """A type without a handler and without jobs is answered as one that is misspelt."""
    problem(caller.put("/v1/limits", {**ORGANIZATION, "jobType": "opne", "concurrency": 1}), 422, "unknown_job_type")


def test_a_job_says_which_limit_it_waits_for(caller: Caller) -> None:
    """A job of a limited type waits with the hold `limit`, and explain names what is taken."""
    assert caller.put("/v1/limits", own(caller, per="key", key="account", concurrency=1)).status_code == 200
    first, second = (caller.create(payload={"account": "a"}).json()["jobId"] for _ in range(2))
    free = caller.create(payload={}).json()["jobId"]
    for job_id, hold in ((first, None), (second, "limit"), (free, None)):
        eventually(lambda: caller.get(f"/v1/jobs/{job_id}").json()["hold"] == hold, what=str(hold))  # noqa: B023 - at once
    reasons = caller.get(f"/v1/jobs/{second}/explain").json()["reasons"]
    reason = next(each for each in reasons if each["kind"] == "limit")
    assert {name: reason[name] for name in ("kind", "per", "jobType", "key", "concurrency", "executing", "rate")} == {
        "kind": "limit", "per": "key", "jobType": "open", "key": "a", "concurrency": 1, "executing": 1, "rate": None,
    }  # fmt: skip
    assert reason["sentence"] == ("Waiting for the limit of open jobs with the key a: 1 may execute at once, and 1 do.")
    assert caller.get("/v1/jobs", q=f"id:{second}").json()["jobs"][0]["hold"] == "limit"


def test_an_organization_is_weighed(caller: Caller) -> None:
    """A weight is between 1 and 100, shown with the organization, and null takes it back."""
    path = f"/v1/organizations/{caller.organization}/weight"
    assert caller.put(path, {"weight": 3}).json()["weight"] == 3
    assert caller.get("/v1/organization").json()["weight"] == 3
    assert caller.put(path, {"weight": None}).json()["weight"] == 1
    for weight in (0, 101, 1.5, "3", True):
        problem(caller.put(path, {"weight": weight}), 422, "invalid_request")


def test_all_organizations_are_no_organization(caller: Caller) -> None:
    """The word for all organizations is refused as the name of one, which would be limited without any effect."""
    for what, said in (("limit", {"limit": 1}), ("waiting-limit", {"limit": 1}), ("weight", {"weight": 2})):
        refused = problem(caller.put(f"/v1/organizations/*/{what}", said), 422, "invalid_request")
        assert "* stands for all organizations: name one" in refused["detail"]
