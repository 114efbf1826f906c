"""The bound of what an organization may have waiting, at the doors of code and of schedules."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery import chain, group

from tasks import app, submission, workflows
from tasks.crowding import Crowding
from tasks.leader.schedules import Scheduling
from tests import sample_handlers
from tests.handling import workplace
from tests.racing import THREADS
from tests.scheduled import U1, Scheduled
from tests.servers import Servers
from tests.tracked import ACME, Tracked, new_job
from tests.workflowing import made, node
from tracking import acting_as, jobs
from tracking.admission import waiting
from tracking.db import Database
from tracking.errors import TooManyWaiting, TrackingError
from tracking.models import NewJob, Owner, Submitted
from tracking.schedules.values import Overlap
from tracking.workflows.values import NewWorkflow

MOST = 5
PASSED = timedelta(minutes=1, seconds=1)
WORDS = {"payload": {"words": ["a"]}}
count_words: Any = sample_handlers.count_words


@pytest.fixture
def bounded(pool: Database, tracked: Tracked, servers: Servers, tmp_path: Path) -> Iterator[Tracked]:
    """Acme may have five jobs waiting, other organizations any number."""
    waiting.set_limit(tracked.connection, "acme", MOST, actor="admin", origin=None)
    url = pool.engine.url.render_as_string(hide_password=False)
    with workplace(url, tmp_path, BROKER_URL=servers.valkey_url), acting_as("acme", "u1"):
        yield tracked


def send(**options: Any) -> Any:
    """Send a job from code."""
    return count_words.apply_async(kwargs=WORDS, **options)


def test_code_is_refused_beyond_the_bound(bounded: Tracked) -> None:
    """One more than may wait raises an error that says when to come back; another organization has its own bound."""
    for _ in range(MOST):
        send()
    with pytest.raises(TooManyWaiting, match="5 jobs of the organization wait, and 5 may") as raised:
        send()
    assert raised.value.retry_after == 5
    again = pickle.loads(pickle.dumps(raised.value))  # noqa: S301 - our own
    assert (str(again), again.retry_after) == (str(raised.value), 5)
    assert len(bounded.all()) == MOST
    send(organization="globex", user="u1")
    jobs.cancel(bounded.connection, bounded.all()[0].id, ACME, actor="u1")
    send()


def test_what_is_known_needs_no_room(bounded: Tracked) -> None:
    """A job that is sent again, by its id or by its key, is the same job however many wait."""
    keyed, named = send(idempotency_key="k"), send(task_id=str(uuid4()))
    for _ in range(MOST - 2):
        send()
    assert send(idempotency_key="k").id == keyed.id
    assert send(task_id=named.id).id == named.id
    with pytest.raises(TooManyWaiting):
        send(idempotency_key="other")


def test_a_canvas_counts_with_all_its_jobs(bounded: Tracked) -> None:
    """Of a group or a chain that is more than may wait nothing is written; one that fits is accepted whole."""
    signature = count_words.si(**WORDS)
    for canvas in (group(signature for _ in range(MOST + 1)), chain(*[signature] * (MOST + 1))):
        with pytest.raises(TooManyWaiting):
            canvas.apply_async()
        assert bounded.all() == []
    chain(*[signature] * MOST).apply_async()
    assert len(bounded.all()) == MOST


def test_what_follows_an_accepted_job_and_a_retry_are_not_refused(bounded: Tracked) -> None:
    """A failed job is retried however many wait: it was accepted."""
    failed = bounded.end(bounded.start(bounded.submit()), "failed")
    for _ in range(MOST):
        send()
    assert bounded.retry(failed).status == "queued"


def test_a_due_time_beyond_the_bound_fails_with_the_reason(bounded: Tracked, pool: Database) -> None:
    """A schedule of an organization that has no room has the outcome failed, and makes a job when there is room."""
    scheduled = Scheduled(pool)
    schedule = scheduled.create(payload={"words": ["a"]})
    for _ in range(MOST):
        send()
    Scheduling(app.platform).turn()
    scheduled.let_pass(schedule, PASSED)
    Scheduling(app.platform).turn()
    assert scheduled.told(schedule) == [
        ("failed", 1, "5 jobs of the organization wait, and 5 may: there is no room for 1 more")
    ]
    jobs.cancel(bounded.connection, bounded.all()[0].id, ACME, actor="u1")
    scheduled.let_pass(schedule, timedelta(minutes=1))
    Scheduling(app.platform).turn()
    assert [became for became, _, _ in scheduled.told(schedule)] == ["failed", "job"]


def test_the_earlier_job_of_a_schedule_leaves_its_room_to_the_next_one(bounded: Tracked, pool: Database) -> None:
    """With `cancel_previous` a due time without room cancels the job of before, which waits, and makes its own."""
    scheduled = Scheduled(pool)
    schedule = scheduled.create(payload={"words": ["a"]}, overlap=Overlap.CANCEL_PREVIOUS)
    scheduled.let_pass(schedule, PASSED)
    Scheduling(app.platform).turn()
    for _ in range(MOST - 1):
        send()
    scheduled.let_pass(schedule, timedelta(minutes=1))
    Scheduling(app.platform).turn()
    assert [became for became, _, _ in scheduled.told(schedule)] == ["job"] * 2
    assert [str(job.status) for job in bounded.all()] == ["cancelled", *["queued"] * MOST]


def test_an_earlier_job_stays_when_it_leaves_no_room(bounded: Tracked, pool: Database) -> None:
    """With `cancel_previous` the job of before goes on when its end would leave no room for the next one either."""
    scheduled = Scheduled(pool)
    schedule = scheduled.create(payload={"words": ["a"]}, overlap=Overlap.CANCEL_PREVIOUS)
    scheduled.let_pass(schedule, PASSED)
    Scheduling(app.platform).turn()
    running = bounded.start(bounded.all()[0])
    for _ in range(MOST):
        send()
    scheduled.let_pass(schedule, timedelta(minutes=1))
    Scheduling(app.platform).turn()
    assert [became for became, _, _ in scheduled.told(schedule)] == ["job", "failed"]
    assert bounded.get(running.id).status == "running"


def test_a_workflow_counts_with_all_its_jobs(bounded: Tracked) -> None:
    """A workflow that is more than may wait is refused whole."""

    def begin(number: int) -> None:
        workflow_id = uuid4()
        nodes = [node(f"n{each}") for each in range(number)]
        new = NewWorkflow(workflow_id, Owner("acme", "u1"), "nightly", made(workflow_id, nodes, {}))
        workflows.create(app.platform, new, by=U1)

    with pytest.raises(TooManyWaiting):
        begin(MOST + 1)
    assert bounded.all() == []
    begin(MOST)
    assert len(bounded.all()) == MOST


@pytest.mark.parametrize("size", [1, 2])
def test_creates_at_the_same_moment_do_not_go_beyond_it_together(bounded: Tracked, size: int) -> None:
    """Of many that create at once, each by a transaction of its own, as many are accepted as may wait."""

    def create(number: int) -> int:
        new = [new_job(idempotency_key=f"{number}/{each}") for each in range(size)]
        try:
            if size == 1:
                submission.submit(app.platform, new[0], ACME)
            else:
                submission.submit_many(app.platform, new, ACME, together=number % 2 == 0)
        except TooManyWaiting:
            return 0
        return size

    with ThreadPoolExecutor(THREADS) as threads:
        accepted = sum(threads.map(create, range(40)))
    assert accepted == len(bounded.all()) == MOST - MOST % size


def test_when_others_take_the_room_the_rest_is_refused_one_by_one(
    bounded: Tracked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of jobs that are accepted in parts those behind are answered with the error when the room has gone meanwhile."""
    monkeypatch.setattr(submission, "BATCH", 2)
    looks: list[int] = []

    class Coming(Crowding):
        """Others create jobs before the second look."""

        def require_room(self, connection: Any, jobs: Sequence[NewJob]) -> None:
            if len(looks) == 1:
                for _ in range(2):
                    bounded.submit()
            looks.append(len(jobs))
            super().require_room(connection, jobs)

    monkeypatch.setitem(vars(app.platform), "crowding", Coming(app.platform.database, 0))
    answers = submission.submit_many(app.platform, [new_job() for _ in range(4)], ACME, together=False)
    assert looks == [4, 2]
    kinds: list[type[Submitted | TrackingError]] = [type(answer) for answer in answers]
    assert kinds == [Submitted, Submitted, TooManyWaiting, TooManyWaiting]


def test_deliveries_and_work_done_elsewhere_need_no_room(bounded: Tracked) -> None:
    """Whatever the bound by default is, deliveries of webhooks are made; what is only tracked waits for nobody."""
    crowding = Crowding(app.platform.database, default=1)
    others = [new_job(owner=Owner("webhooks:acme", "u1")), new_job(external=True)]
    assert not crowding.is_bounded(others)
    assert crowding.is_bounded([new_job(owner=Owner("globex", "u1"))])
