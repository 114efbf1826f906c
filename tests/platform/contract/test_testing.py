"""What the users of the test-automation jobs module rely on."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2

from tests.api.calling import Caller, problem
from tests.api.dashboard.conftest import link
from tests.api.listening import Listener
from tests.live import eventually
from tests.platform.contract.conftest import created, job_of, reached, succeeded
from tests.platform.contract.promises import shows

SYSTEM = "test-automation jobs module"
NEVER = "2100-01-01T00:00:00Z"
SAME = {"Sec-Fetch-Site": "same-origin"}
STATUSES = ("queued", "running", "retrying", "succeeded", "failed", "cancelled")
REFRESH = 5.0  # seconds


@shows(SYSTEM, "per-project lists and stats")
def test_a_project_has_its_own_list_and_stats(someone: Caller) -> None:
    """The list and the stats of a project have its jobs, and no others."""
    mine = [created(someone, "count_words", {"words": ["a"]}, projectId="p1") for _ in range(2)]
    waiting = created(someone, "noop", projectId="p1", scheduledAt=NEVER)
    created(someone, "noop", projectId="p2", scheduledAt=NEVER)
    for job_id in mine:
        succeeded(someone, job_id)
    page = someone.get("/v1/projects/p1/jobs", pageSize=2).json()
    assert (page["total"], page["page"], page["pageSize"], page["totalPages"]) == (3, 1, 2, 2)
    rest = someone.get("/v1/projects/p1/jobs", pageSize=2, page=2).json()["jobs"]
    assert {job["id"] for job in (*page["jobs"], *rest)} == {waiting, *mine}
    done = someone.get("/v1/projects/p1/jobs", status="completed").json()["jobs"]
    assert {job["id"] for job in done} == set(mine)
    stats = someone.get("/v1/projects/p1/jobs/stats").json()
    assert (stats["total"], stats["completed"], stats["scheduled"]) == (3, 2, 1)


@shows(SYSTEM, "cancel queued or running", "retry failed or cancelled")
def test_a_job_is_cancelled_and_retried_wherever_it_is(someone: Caller) -> None:
    """A queued and a running job are cancelled, a cancelled and a failed one are retried, and nothing else is."""
    waiting, running = created(someone, "noop", scheduledAt=NEVER), created(someone, "nap", {"seconds": 60})
    reached(someone, running, "running")
    for job_id in (waiting, running):
        assert someone.post(f"/v1/jobs/{job_id}/cancel").json() == {
            "message": "Job cancelled successfully", "status": "cancelled",
        }  # fmt: skip
        assert job_of(someone, job_id)["status"] == "cancelled"
        problem(someone.post(f"/v1/jobs/{job_id}/cancel"), 409, "illegal_move")
    failed = created(someone, "flaky", {"failures": 9}, maxRetries=0)
    assert reached(someone, failed)["status"] == "failed"
    problem(someone.post(f"/v1/jobs/{failed}/retry"), 409, "illegal_move")  # no retry is left
    for job_id in (waiting, failed):
        answer = someone.post(f"/v1/jobs/{job_id}/retry", {"force": True})
        assert answer.json() == {"message": "Job retry initiated successfully", "status": "queued"}
    done = succeeded(someone, waiting)
    problem(someone.post(f"/v1/jobs/{done['id']}/retry"), 409, "illegal_move")
    assert reached(someone, failed)["retryCount"] == 1


@shows(SYSTEM, "progress 0-100")
def test_progress_rises_to_a_hundred(someone: Caller) -> None:
    """Who polls a job sees a progress that begins at 0, never falls, and is 100 with its success."""
    job_id, seen = created(someone, "nap", {"seconds": 1, "steps": 5}), list[int]()
    deadline = time.monotonic() + 20
    while not seen or seen[-1] < 100:
        status = someone.get(f"/v1/jobs/{job_id}/status").json()
        assert status["progress"] == status["progressDetail"]["percentage"] == status["job"]["progress"]
        seen.append(status["progress"])
        assert time.monotonic() < deadline, seen
        time.sleep(0.05)
    assert (seen[0], seen) == (0, sorted(seen))
    assert len(set(seen)) > 2, "and some of what lies between"
    assert job_of(someone, job_id)["status"] == "succeeded"


@shows(SYSTEM, "a dashboard page: cards, filter, table, badges, progress bars, duration, buttons, errors, notices")
def test_the_dashboard_shows_and_does_all_that_the_page_of_before_did(someone: Caller) -> None:
    """The page has a card for each status, a filter, a table with all that is said of a job, and buttons that work."""
    failed = created(someone, "fail")
    reached(someone, failed)
    running = created(someone, "nap", {"seconds": 60, "steps": 600})
    eventually(lambda: job_of(someone, running)["progress"] > 0, what="progress")
    with _page(someone) as client:
        page = client.get("/").text
        counts = dict(re.findall(r'id="count-(\w+)".*?<strong>(\d+)</strong>', page))
        assert counts == dict.fromkeys(STATUSES, "0") | {"running": "1", "failed": "1"}
        for status in STATUSES:
            assert f"/?q=status%3A{status}" in page, "each card is the filter of its status"
        of_failed, of_running = (_row(page, job_id) for job_id in (failed, running))
        assert '<b class="type">fail</b>' in of_failed
        assert 'class="badge failed"' in of_failed
        assert re.search(r"\d+ ms|\d+\.\d s|0 s", of_failed), "how long it ran"
        assert "broken" in of_failed, "why it failed"
        assert re.search(r'class="badge running".*<progress max="100" value="[1-9]', of_running, re.DOTALL)
        assert f'action="/jobs/{running}/cancel"' in of_running
        only = client.get("/", params={"q": "status:failed"}).text
        assert re.findall(r'id="job-([\w-]+)"', only) == [failed]
        details = client.get(f"/jobs/{failed}").text
        assert "ValueError" in details
        assert "Traceback" in details
        notice = client.post(f"/jobs/{running}/cancel", headers=SAME, follow_redirects=True)
        assert (notice.status_code, job_of(someone, running)["status"]) == (200, "cancelled")
        told = client.post(f"/jobs/{running}/cancel", headers={**SAME, "Accept": "application/json"})
        assert (told.status_code, "cancelled" in told.json()["detail"]) == (409, True)
        again = client.post(f"/jobs/{running}/retry", headers={**SAME, "Accept": "application/json"})
        assert again.json() == {"message": "The job was queued again."}
    someone.post(f"/v1/jobs/{running}/cancel")


@shows(SYSTEM, "refresh within 5 s")
def test_an_open_page_hears_of_a_change_within_five_seconds(someone: Caller) -> None:
    """The stream that an open page listens to tells of a new job and of its end within five seconds."""
    with _page(someone) as client, client.stream("GET", "/v1/events", headers={"Accept": "text/event-stream"}) as told:
        listener = Listener(told)
        listener.begin()
        began = time.monotonic()
        job_id = created(someone, "noop")
        names: list[str] = []
        while names[-1:] != ["job:completed"]:
            names += [each.name for each in listener.take(1)]
        assert time.monotonic() - began < REFRESH
        names = [name for name in names if name != "job:progress"]  # of a look between a report and the end
        assert names == ["job:created", "job:started", "job:completed"]
        with _page(someone) as other:
            rows = other.get("/", params={"part": "rows", "ids": job_id}).text
        assert 'class="badge succeeded"' in _row(rows, job_id)


@contextmanager
def _page(caller: Caller) -> Iterator[httpx2.Client]:
    """A browser without a script in which the caller has signed in."""
    with httpx2.Client(base_url=caller.api.url, timeout=30, headers={"Accept": "text/html"}) as client:
        answer = client.post("/sign-in", data={"ticket": link(caller).partition("ticket=")[2]}, headers=SAME)
        assert answer.status_code == 303, answer.text
        yield client


def _row(page: str, job_id: str) -> str:
    found = re.search(rf'<tr id="job-{job_id}".*?</tr>', page, re.DOTALL)
    assert found is not None, page
    return found[0]
