"""What every answer has in common, and how the server fails."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest
from sqlalchemy import text

from api.problems import Code
from tests.api.calling import PLAIN, Caller, as_bytes, problem
from tests.api.conftest import serving
from tests.api.dashboard.conftest import link
from tests.live import eventually
from tracking.db import Database

DOCUMENT = Path(__file__).parents[2] / "docs" / "errors.md"
NO_DATABASE = "postgresql://postgres@127.0.0.1:1/none"


def test_every_code_is_documented_with_its_status_and_no_other_is() -> None:
    """docs/errors.md has a row for each code, in the order of their definition, and no other."""
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", DOCUMENT.read_text(), re.MULTILINE)
    assert rows == [(str(code), str(int(code.value.status))) for code in Code]


def test_a_problem_has_the_members_of_rfc_9457(caller: Caller) -> None:
    """A problem has type, title, status and detail, and our code and errors."""
    body = problem(caller.create(priority=10), 422, "invalid_request")
    assert body == {
        "type": "urn:celeriac:error:invalid_request",
        "title": "The request is not valid",
        "status": 422,
        "detail": "priority: Input should be less than or equal to 9",
        "code": "invalid_request",
        "errors": [{"field": "priority", "message": "Input should be less than or equal to 9"}],
    }


@pytest.mark.parametrize(
    ("path", "status", "code"), [("/nothing", 404, "not_found"), ("/healthz", 405, "method_not_allowed")]
)
def test_the_frameworks_own_errors_are_problems_too(caller: Caller, path: str, status: int, code: str) -> None:
    """Unknown routes and unsupported methods are answered with problems."""
    problem(caller.post(path), status, code)


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/v1/jobs", "/v1/jobs?page=0", "/nothing", "/docs"])
def test_head_is_answered_as_get_without_a_body(caller: Caller, path: str) -> None:
    """HEAD, by which probes and load balancers ask, has the status and the headers of GET, and no body."""
    asked = caller.api.client.get(path, headers=caller.headers)
    answer = caller.api.client.head(path, headers=caller.headers)
    assert (answer.status_code, answer.content) == (asked.status_code, b"")
    assert answer.headers["content-type"] == asked.headers["content-type"]


def test_head_opens_no_stream(caller: Caller) -> None:
    """HEAD of the live events, which do not end, is refused."""
    refused = caller.api.client.head("/v1/events", headers=caller.headers)
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET")


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs?page=0", "/nothing", "/healthz", "/openapi.json"])
def test_every_answer_has_safe_headers_and_an_id(caller: Caller, path: str) -> None:
    """Every answer has headers against sniffing, framing and storing, and an id."""
    headers = caller.api.client.get(path, headers=caller.headers).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cache-control"] == "no-store"
    assert headers["x-request-id"]


def test_a_client_may_choose_the_id_and_the_log_has_it(caller: Caller) -> None:
    """The log has one line a request, with its id, method, path and status, and no query, token or payload."""
    request_id, canary = f"id-{uuid4()}", f"canary{uuid4().hex}"
    response = caller.post(
        f"/v1/jobs?canary={canary}", {"jobType": "open", "payload": {"a": canary}}, headers={"X-Request-Id": request_id}
    )
    assert response.headers["x-request-id"] == request_id
    eventually(lambda: request_id in caller.api.log.read_text(), what="a line of the log")
    log = caller.api.log.read_text()
    line = next(line for line in log.splitlines() if request_id in line)
    assert "POST" in line
    assert "/v1/jobs" in line
    assert "status=422" in line
    assert canary not in log
    assert caller.headers["Authorization"][7:60] not in log


def test_the_log_has_the_status_as_a_number(caller: Caller) -> None:
    """The status of an answer stands in the log as a number, of whichever type the route has given it."""
    job_id = caller.create().json()["jobId"]
    path = f"/v1/jobs/{job_id}"
    caller.get(path)
    eventually(lambda: path in caller.api.log.read_text(), what="a line of the log")
    line = next(line for line in caller.api.log.read_text().splitlines() if path in line)
    assert line.endswith("status=200")


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "ü"])
def test_an_id_that_could_spoil_the_log_is_replaced(caller: Caller, given: str) -> None:
    """A request id with characters that could spoil the log is replaced by a new one."""
    response = caller.api.client.get("/healthz", headers=as_bytes({"X-Request-Id": given}))
    assert re.fullmatch(r"[0-9a-f]{32}", response.headers["x-request-id"])


def test_a_path_cannot_forge_a_line_of_the_log(caller: Caller) -> None:
    """Line breaks in a path stay escaped in the log."""
    canary = uuid4().hex
    caller.api.client.get(f"/%0a2026-01-01%20forged%20{canary}")
    eventually(lambda: canary in caller.api.log.read_text(), what="a line of the log")
    assert f"/%0a2026-01-01%20forged%20{canary}" in caller.api.log.read_text()


def test_connections_that_the_database_has_dropped_are_replaced_unnoticed(caller: Caller) -> None:
    """After a restart of the database the next requests are answered, however many connections it had."""
    job = caller.job()
    with ThreadPoolExecutor(20) as threads:
        list(threads.map(lambda _: caller.create(), range(40)))  # each connection of the pool is open
    with caller.api.database.autocommit() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'celeriac'"
            )
        )
    caller.api.database.close()  # the idle ones of this process are gone as well, and nothing here replaces them
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: caller.create(), range(20)))
    assert {answer.status_code for answer in answers} == {202}, [answer.text for answer in answers]
    assert caller.get(f"/v1/jobs/{job.id}").status_code == 200


def test_without_its_database_the_server_starts_and_says_so(api_broker_url: str, tmp_path: Path) -> None:
    """Without a database the server starts, and answers 503 with Retry-After within 5 s."""
    with serving(NO_DATABASE, api_broker_url, tmp_path) as broken:
        caller = broken.caller()
        job = f"/v1/jobs/{uuid4()}"
        began = time.monotonic()
        responses = [
            *(caller.get(path) for path in ("/v1/jobs", "/v1/jobs/recent", "/v1/jobs/stats", job, f"{job}/status")),
            *(caller.post(path) for path in (f"{job}/cancel", f"{job}/retry")),
            caller.create(),
        ]
        assert time.monotonic() - began < 5
        for response in responses:
            problem(response, 503, "database_unavailable")
            assert int(response.headers["retry-after"]) > 0
            assert "127.0.0.1" not in response.text
        assert broken.client.get("/healthz").json() == {"status": "ok"}


def test_a_defect_is_a_problem_that_tells_nothing_but_where_to_look(
    database_url: str, database: Database, api_broker_url: str, tmp_path: Path
) -> None:
    """An internal error shows only the id of the request, under which the log has the trace."""
    with serving(database_url, api_broker_url, tmp_path) as broken:
        with database.autocommit() as connection:
            connection.execute(text("ALTER TABLE jobs RENAME TO gone"))
        response = broken.caller().get("/v1/jobs")
        body = problem(response, 500, "internal_error")
        assert response.headers["x-request-id"] in body["detail"]
        for secret in ("Traceback", "SELECT", "jobs.id", "psycopg", "ProgrammingError"):
            assert secret not in response.text
        assert "ProgrammingError" in broken.log.read_text()
        assert "SELECT" not in broken.log.read_text()
        ticket = {"ticket": link(broken.caller()).partition("ticket=")[2]}
        with httpx2.Client(verify=PLAIN, base_url=broken.url, headers={"Accept": "text/html"}) as client:
            client.post("/sign-in", data=ticket, headers={"Sec-Fetch-Site": "same-origin"})
            page = client.get("/")
        assert (page.status_code, page.headers["content-type"]) == (500, "text/html; charset=utf-8")
        assert page.headers["x-request-id"] in page.text
