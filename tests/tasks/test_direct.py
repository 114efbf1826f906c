"""Jobs that come to a worker without a message: it has given them the slots that its own jobs have left."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from celery.worker import state
from sqlalchemy import func, update

from tasks.app import JobApp
from tasks.current import CLAIMED
from tasks.worker import direct
from tasks.worker.direct import DirectMessage
from tests.ahead import SHORT, AskedDirectly, OwnWorld, a_world, events, status
from tests.live import eventually
from tests.tracked import Tracked, wish
from tracking import jobs, workers
from tracking.admission import line, pauses
from tracking.admission.line import NOBODY
from tracking.db import Database
from tracking.models import Fence, JobRecord, Owner
from tracking.schema import jobs as table
from tracking.states import Event, Hold


class Line(OwnWorld):
    """A worker that runs the only job of acme's slot; `waiting` are those in its line."""

    running: Any
    waiting: list[JobRecord]
    came: list[Any]

    @property
    def sent(self) -> list[UUID]:
        """The jobs that were to be sent by the broker."""
        return self.platform.dispatcher.sent

    def end(self, runtime: float = 0.1) -> None:
        """The body has ended after so many seconds, and its success is written."""
        self.ahead.ended(self.running, b"", runtime, lambda: None)
        self.turn(lambda: not self.ahead._ending, "the end")

    def end_and_begin(self, runtime: float = 0.1) -> None:
        """The same when the pool has said before that the process is free."""
        self.free_slot()
        self.end(runtime)

    def free_slot(self) -> None:
        """The pool says that a process is free."""
        self.semaphore.release()


NOBODY_LEAVES_THE_LINE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'nobody leaves the line'; END $$;
CREATE TRIGGER nobody_leaves_the_line BEFORE UPDATE ON jobs FOR EACH ROW
WHEN (OLD.hold = 'organization_limit' AND NEW.hold IS NULL) EXECUTE FUNCTION refuse()"""
AS_BEFORE = "DROP TRIGGER nobody_leaves_the_line ON jobs; DROP FUNCTION refuse"

GARBAGE: dict[str, Any] = {"delivery": {"headers": [1, 2]}}  # no headers


@pytest.fixture
def world(app: JobApp, database: Database) -> Iterator[Line]:
    """A worker with one slot, whose job is one of acme's, which may have one at once and has three in line."""
    with a_world(app, database, 1, kind=Line) as made, database.autocommit() as connection:
        acme = Tracked(connection)
        line.set_limit(connection, "acme", 1, actor="admin")
        first, *made.waiting = [acme.submit() for _ in range(4)]
        assert [acme.get(job.id).hold for job in made.waiting] == [Hold.ORGANIZATION_LIMIT] * 3
        [made.running] = made.take(first)
        [attempt] = jobs.claim(connection, [wish(first.fence, lease=made.lease)])
        made.running.attempt = attempt
        made.came = []

        def deliver(message: DirectMessage) -> None:
            request = AskedDirectly(message, acme.get(UUID(message.headers["id"])))
            state.task_reserved(request)
            made.came.append(request)
            made.ahead.take(request)

        made.ahead.direct.bind(deliver)
        yield made


@pytest.fixture
def closed_line(world: Line, database: Database) -> Iterator[Line]:
    """The same with a database that lets nobody leave the line."""
    with database.autocommit() as connection:
        connection.exec_driver_sql(NOBODY_LEAVES_THE_LINE)
        yield world
        connection.exec_driver_sql(AS_BEFORE)


def test_the_next_in_line_begins_where_a_job_has_ended_without_a_message(world: Line, database: Database) -> None:
    """The slot of a job that has ended is the next one's, which its worker claims and begins without the broker."""
    world.end()
    [request] = world.came
    assert request.fence == world.waiting[0].fence
    world.free_slot()
    world.turn(lambda: request in world.begun, "the next one")
    assert status(database, world.waiting[0])[:3] == ("running", 1, 1)
    assert world.sent == []
    assert events(database, world.waiting[0]) == [Event.CREATED, Event.DUE, Event.STARTED]
    assert [status(database, job)[0] for job in world.waiting[1:]] == ["queued", "queued"]


def test_with_a_free_process_the_next_in_line_is_claimed_in_the_commit_that_gives_it_the_slot(
    world: Line, database: Database
) -> None:
    """When the worker has nothing else to begin, end, slot and claim are one transaction, and then the body begins."""
    world.batcher._settling._meets_lines = True
    world.end_and_begin()
    [request] = world.came
    assert world.begun[1:] == [request]
    assert request.attempt.fence == world.waiting[0].fence
    assert request.request_dict[CLAIMED].opened() == request.attempt
    with database.autocommit() as connection:
        ended = "SELECT xmin FROM jobs WHERE id = %s OR id = %s"
        ids = (world.running.fence.job_id, world.waiting[0].id)
        assert len({row.xmin for row in connection.exec_driver_sql(ended, ids)}) == 1


def test_short_jobs_are_claimed_with_their_slots_as_far_as_the_limit_lets_them(world: Line, database: Database) -> None:
    """A worker of short jobs claims its organization's next two in the same transaction, and begins the first."""
    with database.begin() as connection:
        line.set_limit(connection, "acme", 2, actor="admin")
    world.end_and_begin(SHORT)
    assert [status(database, job)[0] for job in world.waiting] == ["running", "running", "queued"]
    assert [each.fence for each in world.begun[1:]] == [world.waiting[0].fence]
    assert world.ahead.held() == {world.waiting[1].id}
    world.free_slot()
    assert [each.fence for each in world.begun[2:]] == [world.waiting[1].fence]


def test_a_message_that_waits_here_keeps_others_from_being_claimed_with_their_slots(
    world: Line, database: Database
) -> None:
    """What waits here might be more urgent: then no job is claimed together with its slot, but by the worker's line."""
    with database.autocommit() as connection:
        line.set_limit(connection, "other", 0, actor="admin")
        [other] = [Tracked(connection).submit(owner=Owner("other", "u1"))]
    world.take(other)
    world.ahead.took(SimpleNamespace(task=SimpleNamespace(name="count_words")), SHORT)
    assert world.ahead._ahead() == NOBODY


def test_a_job_that_was_claimed_with_its_slot_is_released_by_a_worker_that_stops(
    world: Line, database: Database
) -> None:
    """A claim that reaches the event loop after the worker has begun to stop is handed back, without a loss."""

    def hear_too_late(*news: Any) -> None:
        world.ahead._is_closed = True  # what `close`, in the event loop, begins with
        world.ahead._news.append(news)

    world.batcher.told = hear_too_late
    world.end_and_begin()
    eventually(lambda: status(database, world.waiting[0])[:3] == ("queued", 2, 1), what="its release")
    assert world.came == []


def test_a_job_whose_dispatch_before_is_still_here_is_released(world: Line, database: Database) -> None:
    """Celery's worker has one request for each id: a job that is claimed again too soon goes the long way."""
    state.requests[str(world.waiting[0].id)] = world.running
    world.end_and_begin()
    eventually(lambda: status(database, world.waiting[0])[:3] == ("queued", 2, 1), what="its release")
    assert world.came == []


def test_a_claimed_job_whose_row_makes_no_message_is_released(world: Line, database: Database) -> None:
    """Garbage in a row ends no event loop: the job waits again, and who sends its message fails it."""
    with database.autocommit() as connection:
        connection.execute(update(table).where(table.c.hold.is_not(None)).values(GARBAGE))
    world.batcher._settling._meets_lines = True
    world.end_and_begin()
    assert world.came == []
    eventually(lambda: status(database, world.waiting[0])[0] == "queued", what="the release")


def test_a_pause_is_met_by_a_job_that_is_claimed_with_its_slot(world: Line, database: Database) -> None:
    """A paused organization's next job is held back by the same transaction, and nothing begins."""
    with database.autocommit() as connection:
        pauses.pause(connection, organization_id="acme", job_type=None, actor="admin", reason=None)
    world.end_and_begin()
    assert (world.came, world.sent) == ([], [])
    with database.autocommit() as connection:
        assert Tracked(connection).get(world.waiting[0].id).hold is Hold.PAUSED


@pytest.mark.parametrize("has_met_a_line", [True, False])
def test_a_commit_whose_answer_is_lost_is_found_by_asking_again(
    world: Line, database: Database, *, has_met_a_line: bool
) -> None:
    """The transaction is committed and the connection breaks: the next job runs here, once, and nothing is lost."""
    world.platform.breaking.breaks = True
    world.batcher._settling._meets_lines = has_met_a_line
    world.end_and_begin()
    world.turn(lambda: world.came, "the next one")
    assert world.platform.breaking.broken == 1
    assert world.begun[1:] == world.came
    assert status(database, world.waiting[0])[:3] == ("running", 1, 1)
    assert events(database, world.waiting[0]) == [Event.CREATED, Event.DUE, Event.STARTED]


@pytest.mark.parametrize("has_met_a_line", [True, False])
def test_a_job_whose_claim_may_be_committed_is_held_until_that_is_known(
    world: Line, database: Database, *, has_met_a_line: bool
) -> None:
    """While the database is away after such a commit, the worker holds the job: nobody counts it lost."""
    world.platform.breaking.breaks = world.platform.breaking.stays_away = True
    world.batcher._settling._meets_lines = has_met_a_line
    world.free_slot()
    world.ahead.ended(world.running, b"", 0.1, lambda: None)
    eventually(lambda: world.platform.breaking.broken > 1, what="a second try")
    assert status(database, world.waiting[0])[0] == "running"
    assert world.waiting[0].id in world.ahead.held()
    world.platform.breaking.is_away = False
    world.turn(lambda: world.came, "the next one")
    assert world.begun[1:] == world.came
    assert status(database, world.waiting[0])[:3] == ("running", 1, 1)


def test_what_celery_reads_of_it_is_what_its_message_would_have_said(world: Line) -> None:
    """A job without a message has the headers, body and priority that the dispatcher sends, and the same fence."""
    world.end()
    message = world.came[0].message
    assert message.headers["task"] == "count_words"
    assert Fence(UUID(message.headers["id"]), message.headers["dispatch"]) == world.waiting[0].fence
    assert message.payload[:2] == [[], {}]
    assert message.properties["priority"] == 0
    assert message.delivery_info["routing_key"] == "default"


def test_a_more_urgent_message_overtakes_a_job_without_one(world: Line, database: Database) -> None:
    """Both stand in one line by their priorities; the job without a message is still queued in its row meanwhile."""
    world.end()
    with database.autocommit() as connection:
        urgent = Tracked(connection).submit(priority=9)
    [request] = world.take(urgent)
    world.free_slot()
    world.turn(lambda: request in world.begun, "the urgent one")
    assert status(database, world.waiting[0])[0] == "queued"


def test_a_cancelled_job_without_a_message_never_begins(world: Line, database: Database) -> None:
    """A cancel between slot and claim ends the row at once; the claim is refused, and the worker forgets the job."""
    world.end()
    with database.autocommit() as connection:
        Tracked(connection).cancel(world.waiting[0])
    world.free_slot()
    world.turn(lambda: world.came[0].acknowledged, "its refusal")
    assert status(database, world.waiting[0])[0] == "cancelled"
    assert world.came[0] not in world.begun
    assert str(world.waiting[0].id) not in state.requests


def test_a_paused_job_without_a_message_never_begins(world: Line, database: Database) -> None:
    """A pause that comes before its claim holds it back."""
    world.end()
    with database.autocommit() as connection:
        pauses.pause(connection, organization_id=None, job_type="count_words", actor="admin", reason=None)
    world.free_slot()
    world.turn(lambda: world.came[0].acknowledged, "its refusal")
    with database.autocommit() as connection:
        assert Tracked(connection).get(world.waiting[0].id).hold is Hold.PAUSED


def test_a_worker_that_stops_sends_what_has_come_without_a_message(world: Line, database: Database) -> None:
    """At its end the job is a message like any other, with the same number, for another worker to run."""
    world.end()
    world.ahead.close()
    assert world.sent == [world.waiting[0].id]
    assert status(database, world.waiting[0])[:3] == ("queued", 1, 0)
    assert world.ahead.held() == set()


def test_a_slot_that_is_freed_while_the_worker_stops_is_filled_by_a_message(world: Line) -> None:
    """The last outcomes of a worker let others through, which it sends on."""
    world.ahead.close()
    world.ahead._worker.pool._pool = None  # as Celery's is when it has ended
    world.end()
    assert (world.came, world.sent) == ([], [world.waiting[0].id])


def test_it_outlives_the_brokers_connection(world: Line) -> None:
    """When the broker's connection ends, messages come again, but nobody would bring this one: it stays."""
    world.end()
    [other] = world.take(world.waiting[1])
    state.requests.clear()  # as Celery does
    world.ahead.reconnect([], [])
    world.turn(lambda: world.came[0] in world.begun, "its beginning")
    assert other not in world.begun
    assert list(state.requests) == [str(world.waiting[0].id)]


def test_one_that_waits_for_a_second_becomes_a_message(world: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other workers may be idle: a job that gets no slot here in time is given to the broker."""
    world.end()
    monkeypatch.setattr(direct, "PATIENCE", -1)
    world.ahead._look()
    assert world.sent == [world.waiting[0].id]
    world.free_slot()
    world.ahead.apply()
    assert world.came[0] not in world.begun


def test_a_worker_without_room_sends_the_next_in_line(world: Line, database: Database) -> None:
    """With another message before it in the worker, the job is one for whichever worker is free."""
    with database.autocommit() as connection:
        [other, another] = [Tracked(connection).submit(owner=Owner("unlimited", "u1")) for _ in range(2)]
        line.set_limit(connection, "unlimited", 0, actor="admin")
    world.take(other, another)
    world.end()
    assert world.came == []
    assert world.sent == [world.waiting[0].id]


@pytest.mark.parametrize(
    "change",
    [{"job_type": "another"}, {"queue": "another"}, {"started_at": func.clock_timestamp()}, {"losses": 1}, GARBAGE],
)
def test_what_is_not_simply_for_this_worker_is_sent(world: Line, database: Database, change: dict[str, Any]) -> None:
    """A job of another type or queue, one that was begun before, that has killed a worker, or that makes no message."""
    with database.autocommit() as connection:
        workers.beat(connection, uuid4(), name="worker-2", pid=2, queues=["another"], concurrency=1)
        connection.execute(update(table).where(table.c.hold.is_not(None)).values(change))
    world.end()
    assert world.came == []
    assert world.sent == [world.waiting[0].id]


def test_a_line_that_somebody_else_looks_at_is_looked_at_again_by_the_dispatcher(
    world: Line, database: Database
) -> None:
    """The end of the job waits for nobody; its slot is filled by the way that takes a message."""
    with database.begin() as other:
        line.lock_line(other, "acme")
        world.end()
    assert (world.came, world.sent, world.platform.dispatcher.refilled) == ([], [], ["acme"])


def test_an_outcome_is_written_though_the_line_cannot_be_looked_at(closed_line: Line, database: Database) -> None:
    """What the database refuses in the admission undoes no outcome: that is written alone, and the line is left."""
    closed_line.batcher._settling._meets_lines = True
    closed_line.end()
    assert closed_line.platform.dispatcher.refilled == ["acme"]
    assert status(database, closed_line.waiting[0])[0] == "queued"
    with database.autocommit() as connection:
        assert Tracked(connection).get(closed_line.running.fence.job_id).status == "succeeded"
