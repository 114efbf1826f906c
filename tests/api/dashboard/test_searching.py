"""The search of the page of the jobs: what it finds, and what it says of what it does not understand."""

from __future__ import annotations

import re

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.dashboard.searching import understood
from tests.api.calling import Caller
from tests.api.dashboard.conftest import SignIn
from tracking.reads.matching import LOOKED_AT

MANY = """
    INSERT INTO jobs (id, organization_id, user_id, job_type, status, progress, queue, max_retries, created_at,
                      started_at, completed_at)
    SELECT gen_random_uuid(), %s, %s, 'noop', 'succeeded', 100, CASE n WHEN most THEN 'rare' ELSE 'default' END, 3,
           at, at, at
    FROM (SELECT %s::int AS most) AS given, generate_series(1, most) AS n,
         LATERAL (SELECT now() - n * interval '1 second' AS at) AS made"""


def test_a_search_by_qualifiers_finds_what_the_api_finds(caller: Caller, reading: SignIn) -> None:
    """Qualifiers narrow as the filters of the API do, and add up; words are looked for."""
    failed = caller.job("failed", job_type="sync", project_id="p1", payload={"text": "hello"})
    caller.job("failed", job_type="other")
    caller.job(job_type="sync")
    client = reading(caller)
    same = (
        "status:failed type:sync",
        "status:error project:p1",
        f"id:{failed.id}",
        "sync status:failed",
        "broken project:p1",
        "error:broken status:failed,cancelled type:sync",
        f"queue:default priority:<5 payload.text:hello status:failed id:{failed.id}",
        "ended:2026-01-01..2999-01-01 type:sync",
        "ended:2026-01-01 type:sync",
        "ended:..2999-01-01 type:sync",
        "ended:2026-01-01T12:00..2999-01-01T00:00:00.5+02:00 from:2026-01-01 to:2999-01-01T10:00 type:sync",
    )
    for text in same:
        assert re.findall(r'id="job-([\w-]+)"', client.get("/", params={"q": text}).text) == [str(failed.id)], text
    page = client.get("/", params={"q": "status:nonsense"}).text
    assert 'role="alert"' in page
    assert "No job matches" in page


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("stauts:failed", "There is no qualifier stauts:, so it was looked for as a word. Is status: meant?"),
        ("colour:red", "There are status:, type:, user:, project:"),
        ("payload:42", "A value in the payload has its place: payload.customer.id:42."),
        ("priority:high", "a priority is 0 to 9, several (7,8) or a bound (&gt;=7), not &#39;high&#39;"),
        ("ended:yesterday..", "ended: "),
        ("ended:", "No job matches"),
    ],
)
def test_a_search_that_seems_to_be_meant_otherwise_is_told(reader: httpx2.Client, typed: str, said: str) -> None:
    """A qualifier that there is none of, or a value that it does not take, is told on the page with what there is."""
    answer = reader.get("/", params={"q": typed})
    assert answer.status_code == 200
    assert said in answer.text


def test_a_look_that_ends_early_leads_further(caller: Caller, reading: SignIn) -> None:
    """Where no index has what is searched for, the page says how far back it looked, and a link goes on."""
    with caller.api.database.autocommit() as connection:
        connection.exec_driver_sql(MANY, (caller.organization, caller.user, LOOKED_AT + 1))
        connection.exec_driver_sql("ANALYZE jobs")  # as it is done by itself, a minute after so many are new
    client = reading(caller)
    page = client.get("/", params={"q": "queue:rare"}).text
    assert "None of the newest jobs matches" in page, re.findall(r"<main.*</main>", page, re.DOTALL)[0][-3000:]
    assert "looked through the jobs back to" in page
    further = re.search(r'href="([^"]+)">Look further</a>, or', page)
    assert further
    assert page.count('id="job-') == 0
    assert client.get(further[1].replace("&amp;", "&")).text.count('id="job-') == 1


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=80) | st.from_regex(r"(status|type|user|id|from|to|q|x):\S* ?\w*", fullmatch=True))
def test_any_search_is_understood_or_said_to_be_wrong(text: str) -> None:
    """Whatever is typed into the search either narrows the list or is answered with what is wrong with it."""
    search = understood(text)
    assert (search.filters is None) == (search.why_not is not None)
    again = search.with_status("failed")
    assert understood(again).statuses in ((), ("failed",))
