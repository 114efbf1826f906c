"""Lists of jobs: their order, their filters, their pages by number and by cursor."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.api.calling import Caller, problem
from tests.api.test_reading import STATES, ids


def test_a_list_is_newest_first_with_its_total(caller: Caller) -> None:
    """A list is newest first with its total, and its pages count from 1."""
    created = [str(caller.job().id) for _ in range(5)]
    body = caller.get("/v1/jobs", page=2, pageSize=2).json()
    assert ids(body["jobs"]) == [created[2], created[1]]
    assert (body["total"], body["page"], body["pageSize"], body["totalPages"]) == (5, 2, 2, 3)
    assert body["totalIsCapped"] is False


def test_known_jobs_are_listed_at_once(caller: Caller) -> None:
    """`ids` takes up to 100 ids, with commas or one by one, and all of these jobs are on the first page."""
    wanted = [str(caller.job().id) for _ in range(3)]
    caller.job()
    for given in (",".join(wanted), wanted):
        assert sorted(ids(caller.get("/v1/jobs", ids=given).json()["jobs"])) == sorted(wanted)
    many = [str(caller.job().id) for _ in range(100 - len(wanted))] + wanted
    assert sorted(ids(caller.get("/v1/jobs", ids=",".join(many)).json()["jobs"])) == sorted(many)
    assert caller.get("/v1/jobs", ids=",".join(many), pageSize=2).json()["totalPages"] == 50
    problem(caller.get("/v1/jobs", ids=",".join([wanted[0]] * 101)), 422, "invalid_request")
    problem(caller.get("/v1/jobs", ids="nonsense"), 422, "invalid_request")


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"status": "failed"}, {"failed"}),
        ({"status": "queued,running"}, {"queued", "running"}),
        ({"status": ["queued", "failed"]}, {"queued", "failed"}),
        ({"jobType": "type-running"}, {"running"}),
        ({"projectId": "project-cancelled"}, {"cancelled"}),
        ({"userId": "u1"}, set(STATES)),
        ({"userId": "u2"}, set()),
        ({"q": "TYPE-SUCC"}, {"succeeded"}),
        ({"q": "broken"}, {"retrying", "failed"}),
        ({"q": "type:type-failed error:broken"}, {"failed"}),
        ({"createdFrom": "2999-01-01T00:00:00Z"}, set()),
        ({"createdTo": "2999-01-01T00:00:00Z"}, set(STATES)),
        ({"completedFrom": "2020-01-01T00:00:00Z"}, {"succeeded", "failed", "cancelled"}),
        ({"completedTo": "2020-01-01T00:00:00Z"}, set()),
        ({"q": "payload.state:failed queue:default priority:0"}, {"failed"}),
    ],
    ids=lambda value: str(sorted(value)) if isinstance(value, set) else str(value),  # a set has no order to rely on
)
def test_a_list_can_be_narrowed(caller: Caller, params: dict[str, Any], expected: set[str]) -> None:
    """A list can be narrowed by status, type, project, user, time and words."""
    for state in STATES:
        caller.job(state, job_type=f"type-{state}", project_id=f"project-{state}", payload={"state": state})
    body = caller.get("/v1/jobs", **params).json()
    assert {job["status"] for job in body["jobs"]} == expected
    assert body["total"] == len(expected)


def test_words_are_taken_literally(caller: Caller) -> None:
    """A search takes %, _ and a backslash literally."""
    for name in ("100%", "100x", "a_b", "axb", "c\\d", "cd"):
        caller.job(job_type=name)
    for words in ("100%", "a_b", "c\\d"):
        found = caller.get("/v1/jobs", q=words).json()["jobs"]
        assert [job["jobType"] for job in found] == [words]


def test_a_user_filter_does_not_widen_what_is_seen(caller: Caller) -> None:
    """A filter by user shows another user's jobs only with jobs.view_all."""
    other = caller.but(user="u2")
    job = other.job()
    assert caller.get("/v1/jobs", userId="u2").json()["jobs"] == []
    chief = caller.but(permissions=("jobs.view_jobs", "jobs.view_all"))
    assert ids(chief.get("/v1/jobs", userId="u2").json()["jobs"]) == [str(job.id)]


@pytest.mark.parametrize(
    "params",
    [
        {"page": "0"},
        {"page": "10001"},
        {"page": "1" + "0" * 23},
        {"pageSize": "101"},
        {"pageSize": "0"},
        {"status": "done"},
        {"q": ""},
        {"q": "x" * 201},
        {"q": "status:done"},
        {"cursor": "nonsense"},
        {"cursor": "WyIiLCIiXQ"},
        {"cursor": "W" * 200},
        {"createdFrom": "yesterday"},
        {"createdFrom": "2026-01-01"},
        {"sort": "id"},
        {"jobType": "x" * 256},
    ],
    ids=str,
)
def test_a_list_query_that_means_nothing_is_refused(caller: Caller, params: dict[str, Any]) -> None:
    """A list query without a meaning is 422."""
    problem(caller.get("/v1/jobs", **params), 422, "invalid_request")


def test_pages_by_cursor_are_the_set_while_others_insert(caller: Caller) -> None:
    """Reading by cursor shows each job that was there at the beginning once, while others are inserted."""
    there = {str(caller.job().id) for _ in range(60)}
    done = threading.Event()

    def insert() -> None:
        while not done.is_set():
            caller.job()

    inserting = threading.Thread(target=insert)
    inserting.start()
    try:
        read, cursor = [], ""
        while cursor is not None:
            body = caller.get("/v1/jobs", cursor=cursor, pageSize=7).json()
            assert body.keys() == {"jobs", "pageSize", "nextCursor"}
            read += ids(body["jobs"])
            cursor = body["nextCursor"]
    finally:
        done.set()
        inserting.join(10)
    assert len(read) == len(set(read))
    assert there <= set(read)


def test_a_numbered_page_says_where_reading_by_cursor_goes_on(caller: Caller) -> None:
    """The nextCursor of a numbered page leads to the next page, and the last page has none."""
    created = [str(caller.job().id) for _ in range(3)]
    first = caller.get("/v1/jobs", pageSize=2).json()
    rest = caller.get("/v1/jobs", pageSize=2, cursor=first["nextCursor"]).json()
    assert ids(first["jobs"]) + ids(rest["jobs"]) == created[::-1]
    assert rest["nextCursor"] is None
