"""What needs somebody, on the pages of the jobs and of the types: in words that are true of each state."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from html import unescape
from uuid import uuid4

import pytest
from sqlalchemy import text

from tests.api.calling import Api, Caller
from tests.api.dashboard.conftest import SignIn
from tracking import workers
from tracking.admission import queue_pauses
from tracking.admission.rule import EVERYBODY
from tracking.models import Scope
from tracking.reads import unserved

LEASE_TIMEOUT = timedelta(seconds=20)
OPEN = """
    INSERT INTO circuits (job_type, organization_id, key, failures, pause, opened_at, probe_at, probe_id)
    VALUES (:job_type, :whose, :key, 5, interval '1 minute', now(), now() + CAST(:left AS interval), :probe)"""


@pytest.fixture
def served(api: Api) -> Iterator[str]:
    """A queue that a worker consumes, as long as the test runs."""
    name, lease = f"queue-{uuid4().hex[:8]}", uuid4()
    with api.database.autocommit() as connection:
        workers.beat(connection, lease, name=f"w-{name}", pid=42, queues=[name], concurrency=3)
        yield name
        workers.leave(connection, lease)


def needed(client: object, path: str = "/?part=overview") -> str:
    """The words of the box that says what needs somebody."""
    page = client.get(path).text  # type: ignore[attr-defined]  # httpx2.Client
    box = re.search(r'aria-label="What needs somebody">(.*?)</section>', page, re.DOTALL)
    assert box is not None
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", box[1])).split())


def test_a_queue_without_a_worker_needs_somebody(caller: Caller, served: str, reading: SignIn) -> None:
    """While some worker lives, each queue without one in which a visitor's jobs wait is told, and leads to these."""
    empty, others = f"deserted <b> {uuid4().hex[:8]}", f"others-{uuid4().hex[:8]}"
    for queue in (served, empty, empty):
        caller.job(queue=queue)
    caller.but(user="u2").job(queue=others)
    client = reading(caller.but(permissions=("jobs.view_jobs",)))
    said = needed(client)
    assert f"Queue {empty}" in said.replace("\N{ZERO WIDTH SPACE}", "")
    assert "2 jobs in this queue can run, and no living worker consumes it." in said
    assert others not in said
    assert served not in said
    address = re.search(r'href="(/\?q=queue[^"]*)">Its jobs', client.get("/?part=overview").text)
    assert address is not None
    page = client.get(unescape(address[1])).text
    assert "2 jobs" in page
    assert page.count("No living worker consumes the queue deserted") == 2
    assert "the workers are busy" not in page


def test_no_worker_at_all_is_told_once(caller: Caller, reading: SignIn) -> None:
    """While no worker lives at all, one line says so, with the queues in which jobs wait."""
    caller.job(queue="one")
    caller.job(queue="two")
    assert "No worker is alive, and jobs that can run wait: 1 job in one, 1 job in two." in needed(reading(caller))


def test_a_type_whose_queue_has_no_worker_is_not_ready(caller: Caller, served: str, reading: SignIn) -> None:
    """The page of the types says that jobs of a type wait in a queue that nobody consumes."""
    caller.job(job_type="guarded", queue=served)
    client = reading(caller)
    assert "no living worker" not in client.get("/types").text
    caller.job(job_type="guarded", queue="deserted")
    line = client.get("/types").text.split("guarded</b>")[1].split("</tr>")[0]
    assert "no living worker consumes the queue deserted" in line


def test_a_paused_queue_needs_somebody(caller: Caller, served: str, reading: SignIn) -> None:
    """A pause of a queue is told to whoever has jobs that wait for its end, without the name of who has paused."""
    client = reading(caller)
    with caller.api.database.autocommit() as connection:
        queue_pauses.pause(connection, queue=served, actor="somebody", reason="a new disk")
    try:
        assert "a new disk" not in needed(client)
        caller.job(queue=served)
        said = needed(client)
        assert re.search(r"Queue queue- \w+ Paused by an operator of the platform at \d\d:\d\d UTC: a new disk\.", said)
        assert "somebody" not in said.replace("needs somebody", "")
    finally:
        with caller.api.database.autocommit() as connection:
            queue_pauses.resume(connection, queue=served, actor="somebody")


@pytest.mark.parametrize(
    ("left", "is_tried", "said"),
    [
        ("1 minute", False, r"none starts until \d\d:\d\d:\d\d UTC, then one tries"),
        ("-1 s", False, "the next job tries, others wait for its success"),
        ("-1 s", True, "one job tries now, the others wait for its success"),
    ],
)
def test_a_circuit_says_whether_a_job_tries(
    left: str, is_tried: bool, said: str, caller: Caller, reading: SignIn  # noqa: FBT001
) -> None:  # fmt: skip
    """The sentence of a circuit that is not closed is true whether it is open, waits for a job, or one tries."""
    given = {"job_type": "guarded", "whose": caller.organization, "key": "", "left": left}
    with caller.api.database.autocommit() as connection:
        connection.execute(text(OPEN), {**given, "probe": uuid4() if is_tried else None})
        keyed = {"job_type": "guarded", "key": "hook.example", "left": left, "probe": None}
        connection.execute(text(OPEN), {**keyed, "whose": caller.organization})
    client = reading(caller)
    assert re.search(f"The last 5 attempts have failed; {said}", needed(client))
    assert "The last 5 attempts for hook.example have failed; " in needed(client)
    line = client.get("/types").text.split("guarded</b>")[1].split("</tr>")[0]
    assert re.search(f"keeps failing: {said}", line)


def test_a_circuit_of_all_organizations_says_so(caller: Caller, reading: SignIn) -> None:
    """Beside the circuit of an organization that of all is another sentence, not the same one again."""
    job_type = f"type{uuid4().hex[:6]}"
    given = {"job_type": job_type, "key": "", "left": "1 minute", "probe": None}
    with caller.api.database.autocommit() as connection:
        for whose in (caller.organization, EVERYBODY):
            connection.execute(text(OPEN), {**given, "whose": whose})
    try:
        told = needed(reading(caller))
    finally:
        with caller.api.database.autocommit() as connection:
            connection.execute(text("DELETE FROM circuits WHERE job_type = :job_type"), {"job_type": job_type})
    assert f"{job_type} The last 5 attempts have failed; " in told
    assert f"{job_type} Jobs of several organizations keep failing; " in told


def test_the_queues_without_a_worker_are_counted_to_a_bound(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many jobs in a queue without a worker so many are counted as are quick to count, and that is told."""
    monkeypatch.setattr(unserved, "MOST_COUNTED", 2)
    for _ in range(3):
        caller.job(queue="deserted")
    with caller.api.database.autocommit() as connection:
        [found] = unserved.queues(connection, Scope(caller.organization, None), LEASE_TIMEOUT)
    assert (found.waiting, found.is_capped, found.types) == (2, True, ["open"])
