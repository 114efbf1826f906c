"""How long each read of the API takes, alone and beside another tenant who reads the worst."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx2
from sqlalchemy import text

from bench.api import Callers, serving
from bench.scale.fill import LARGE, SMALL
from bench.servers import Servers
from tracking.db import Database

ANSWER = 30.0  # seconds that any answer may take here
PERMISSIONS = ("jobs.view_jobs", "jobs.view_all", "jobs.manage_jobs", "jobs.manage_platform")
NOISY = 12  # clients of the tenant who reads the worst
LEAST = 10  # answers to each of its questions, however slow the machine is
QUIET = 2  # clients of the other one

# What a page, a poller or an operator asks for; `{last}`, `{first}`: of the large organization's line.
ROUTES = {
    "status": "/v1/jobs/{last}/status",
    "job with its history": "/v1/jobs/{last}?include=attempts,history",
    "list, page 1 with its total": "/v1/jobs",
    "list, page 100": "/v1/jobs?page=100",
    "list by cursor": "/v1/jobs?cursor=",
    "list of failed": "/v1/jobs?status=failed",
    "list of a type that failed": "/v1/jobs?status=failed&jobType=type-1",
    "list of a project": "/v1/jobs?projectId=project-3",
    "list of a user": "/v1/jobs?userId=user-3",
    "list of a day": "/v1/jobs?createdFrom={day}&createdTo={today}",
    "search": "/v1/jobs?q=zzz",
    "recent": "/v1/jobs/recent",
    "stats of an hour": "/v1/jobs/stats",
    "stats of a day": "/v1/jobs/stats?window=P1D",
    "history": "/v1/jobs/history",
    "history of failed": "/v1/jobs/history?status=failed",
    "explain, last in line": "/v1/jobs/{last}/explain",
    "organization": "/v1/organization",
}
PAGES = {
    "dashboard, jobs": "/",
    "dashboard, jobs of a type that failed": "/?q=status:failed+type:type-1",
    "dashboard, a job": "/jobs/{last}",
    "dashboard, types": "/types",
}
# Of all organizations at once.
OPERATORS = {
    "operator, list by cursor": "/v1/jobs?organization=*&cursor=",
    "operator, page 1 with its total": "/v1/jobs?organization=*",
    "operator, list of failed": "/v1/jobs?organization=*&status=failed&cursor=",
    "operator, recent": "/v1/jobs/recent?organization=*",
    "operator, stats of an hour": "/v1/jobs/stats?organization=*",
    "operator, history": "/v1/jobs/history?organization=*",
    "operator, overview": "/v1/overview",
}
WORST = ("search", "list of failed", "list, page 1 with its total", "recent", "stats of a day")


@dataclass
class Answers:
    """Milliseconds of the answers to one question, and the statuses of those that were none."""

    milliseconds: list[float] = field(default_factory=list)
    failures: dict[int, int] = field(default_factory=dict)

    def ask(self, client: httpx2.Client, path: str) -> None:
        began = time.perf_counter()
        response = client.get(path)
        self.milliseconds.append(1000 * (time.perf_counter() - began))
        if response.status_code != httpx2.codes.OK:
            self.failures[response.status_code] = self.failures.get(response.status_code, 0) + 1


class Api:
    """The API of a filled database; `paths` are ROUTES with their values."""

    def __init__(self, url: str, callers: Callers, values: Mapping[str, str]) -> None:
        self._url = url
        self._callers = callers
        self.paths = {name: path.format(**values) for name, path in {**ROUTES, **PAGES, **OPERATORS}.items()}

    @contextmanager
    def client(self, organization: str) -> Iterator[httpx2.Client]:
        """One who sees all of an organization, by a token and, on the pages, by the cookie of a session."""
        rights = self._callers.rights(organization, "user-1", PERMISSIONS)
        with httpx2.Client(base_url=self._url, headers=rights, timeout=ANSWER) as client:
            client.post("/sign-in", data={"token": rights["Authorization"]}, headers={"Sec-Fetch-Site": "same-origin"})
            yield client

    def alone(self, samples: int, show: Callable[[int], None]) -> dict[str, Answers]:
        """Each route for the large organization, one question after the other."""
        found = {}
        with self.client(LARGE) as client:
            for done, (name, path) in enumerate(self.paths.items()):
                found[name] = Answers()
                client.get(path)
                for _ in range(samples):
                    found[name].ask(client, path)
                show(done + 1)
        return found

    def beside(self, seconds: float) -> dict[str, Answers]:
        """The statuses, lists and stats of a small organization while the large one reads the worst."""
        asked = ("list by cursor", "stats of an hour", "recent")
        found = {name: Answers() for name in asked}
        end = time.monotonic() + seconds
        noise = [threading.Thread(target=self._disturb, args=(number, end)) for number in range(NOISY)]
        quiet = [threading.Thread(target=self._keep_asking, args=(found, end)) for _ in range(QUIET)]
        for thread in (*noise, *quiet):
            thread.start()
        for thread in (*noise, *quiet):
            thread.join()
        return found

    def _disturb(self, number: int, end: float) -> None:
        path = self.paths[WORST[number % len(WORST)]]
        with self.client(LARGE) as client:
            while time.monotonic() < end:
                if client.get(path).status_code != httpx2.codes.OK:
                    time.sleep(0.05)  # an impatient client, not a flood

    def _keep_asking(self, found: Mapping[str, Answers], end: float) -> None:
        with self.client(SMALL) as client:
            while time.monotonic() < end or len(next(iter(found.values())).milliseconds) < LEAST:
                for name, answers in found.items():
                    answers.ask(client, self.paths[name])


@contextmanager
def filled_api(servers: Servers, database: Database) -> Iterator[Api]:
    """One API process on the filled database."""
    callers = Callers()
    environment = {
        "DATABASE_URL": servers.tracked_url,
        "BROKER_URL": servers.valkey.url,
        "CELERIAC_DATA_DIR": str(servers.directory),
        "CELERIAC_LOG_LEVEL": "WARNING",
    }
    with serving(callers, environment, servers.directory / "scale-api.log", _is_ready) as url:
        yield Api(url, callers, _values(database))


def _values(database: Database) -> dict[str, str]:
    with database.autocommit() as connection:
        row = connection.execute(text(LAST_IN_LINE), {"organization": LARGE}).one()
    return {"last": str(row.id), "day": row.day, "today": row.today}


def _is_ready(url: str) -> bool:
    try:
        return bool(httpx2.get(f"{url}/readyz").json()["checks"]["database"] == "ok")
    except httpx2.TransportError:  # not yet serving
        return False


LAST_IN_LINE = """
    SELECT id, to_char(now() AT TIME ZONE 'UTC' - interval '1 day', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS day,
           to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS today
    FROM jobs WHERE organization_id = :organization AND hold = 'organization_limit'
    ORDER BY priority, created_at DESC, id DESC LIMIT 1"""
