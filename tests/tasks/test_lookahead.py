"""What waits in a worker's main process: claimed a moment ahead, cancelled, given back, and lost in no way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery.worker import state
from sqlalchemy import text

from bench.chaos.proxy import Mode
from tasks.app import JobApp
from tasks.attempt.handing import Grant, Offer
from tasks.attempt.outcomes import FINISHED_FIRST
from tasks.current import CLAIMED
from tasks.persistence import FIRST_PAUSE
from tasks.worker.lookahead import BEFORE_ITS_BODY, STANDSTILL
from tests.ahead import HOSTNAME, SHORT, Asked, World, a_world, events, queued, status
from tests.behind import database_behind
from tests.live import eventually
from tests.tracked import Tracked, wish
from tracking import jobs
from tracking.admission import line
from tracking.db import Database
from tracking.models import Attempt, Fence, JobRecord, Outcome
from tracking.states import Event, Hold


@pytest.fixture
def world(app: JobApp, database: Database) -> Iterator[World]:
    """A worker with one slot."""
    with a_world(app, database, 1) as made:
        yield made


def test_a_message_alone_is_claimed_by_its_own_process(world: World, database: Database) -> None:
    """With a free slot and nothing else here a message goes to a process at once, and its row is left alone."""
    [record] = queued(database, 1)
    [request] = world.take(record)
    assert world.begun == [request]
    assert request.request_dict[CLAIMED] == Offer()
    assert status(database, record)[0] == "queued"


def test_messages_without_a_known_length_wait_unclaimed(world: World, database: Database) -> None:
    """While the slot is taken, and nobody knows how long bodies take, what waits is queued in its row."""
    records = queued(database, 4)
    world.take(*records)
    time.sleep(0.1)
    world.ahead.apply()
    assert [status(database, record)[0] for record in records] == ["queued"] * 4


def test_a_worker_that_scales_by_itself_fetches_for_all_its_processes(world: World) -> None:
    """The window is that of the processes which an autoscaler may make: it makes them for messages that are here."""
    before = world.ahead.window
    world.worker.autoscaler = SimpleNamespace(max_concurrency=8)
    assert (before, world.ahead.window) == (world.semaphore.initial_value, 8)


def test_short_jobs_are_claimed_ahead_the_most_urgent_first(world: World, database: Database) -> None:
    """Of a hundred waiting jobs a moment's worth is claimed; a more urgent one overtakes all that are not."""
    first, *others = queued(database, 100, priority=1)
    world.take(first)
    world.ahead.took(SimpleNamespace(task=SimpleNamespace(name="count_words")), SHORT)
    world.take(*others)
    world.turn(lambda: not world.ahead._claiming, "answers")
    claimed = [record for record in others if status(database, record)[0] == "running"]
    assert claimed == others[: len(claimed)]
    assert 5 < len(claimed) < 60
    [urgent] = queued(database, 1, priority=9)
    [request] = world.take(urgent)
    for _ in range(len(claimed) + 1):
        world.semaphore.release()  # a body has ended
        world.turn(lambda: not world.ahead._claiming, "answers")
    assert [each.fence for each in world.begun[1:]] == [*(record.fence for record in claimed), urgent.fence]
    grant = request.request_dict[CLAIMED]
    assert isinstance(grant, Grant)
    assert grant.opened() == request.attempt


def test_a_turn_waits_for_more_while_what_is_in_stock_lasts(world: World, database: Database) -> None:
    """While what is claimed lasts some milliseconds the next claims may wait, if anybody knows how long bodies take."""
    assert not world.batcher.may_wait()
    [first] = queued(database, 1)
    world.take(first)
    world.ahead.took(SimpleNamespace(task=SimpleNamespace(name="count_words")), 0.002)
    assert not world.batcher.may_wait()
    world.take(*queued(database, 2))
    world.turn(lambda: not world.ahead._claiming, "answers")
    assert world.batcher.may_wait()
    world.semaphore.release()  # one of the two has begun
    assert not world.batcher.may_wait()
    for _ in range(100):
        world.ahead.took(SimpleNamespace(task=SimpleNamespace(name="count_words")), 0.008)
    assert world.batcher.may_wait(), "the one that is left lasts as long as two did"


def test_a_job_that_has_taken_a_worker_down_is_never_claimed_ahead(world: World, database: Database) -> None:
    """What might take this worker down as well waits for a free slot, so that it takes nobody's attempt with it."""
    first, suspect, innocent = queued(database, 3)
    world.take(first)
    world.ahead.took(SimpleNamespace(task=SimpleNamespace(name="count_words")), SHORT)
    world.take(suspect, losses=1)
    world.take(innocent)
    time.sleep(0.1)
    world.ahead.apply()
    assert [status(database, each)[0] for each in (suspect, innocent)] == ["queued", "queued"]
    world.semaphore.release()
    world.turn(lambda: len(world.begun) == 2, "its turn")
    assert world.begun[1].fence == suspect.fence


def claimed_ahead(world: World, database: Database, count: int) -> tuple[list[JobRecord], list[Any]]:
    """Jobs that are claimed while the one slot is taken, and their requests."""
    [first] = queued(database, 1)
    world.take(first)
    world.ahead.took(SimpleNamespace(task=SimpleNamespace(name="count_words")), SHORT)
    records = queued(database, count)
    requests = world.take(*records)
    world.turn(lambda: all(status(database, record)[0] == "running" for record in records), "claims ahead")
    world.turn(lambda: not world.ahead._claiming, "their answers")
    return records, requests


def test_a_cancelled_job_that_was_claimed_ahead_never_begins(world: World, database: Database) -> None:
    """A cancel between claim and body ends the job there, says so in its history, and the next one takes its turn."""
    records, requests = claimed_ahead(world, database, 2)
    with database.autocommit() as connection:
        Tracked(connection).cancel(records[0])
    assert status(database, records[0]) == ("cancelled", 1, 1, True)
    assert world.ahead.drop(requests[0])
    eventually(lambda: not status(database, records[0])[3], what="the receipt")
    with database.autocommit() as connection:
        last = Tracked(connection).history(records[0])[-1]
    assert (last.event, last.detail["how"]) == (Event.STOPPED, BEFORE_ITS_BODY)
    assert requests[0].message.answer == "acknowledged"
    world.semaphore.release()
    assert [request.fence for request in world.begun[1:]] == [records[1].fence]
    assert not world.ahead.drop(requests[1])  # its body has begun


def test_a_cancel_that_comes_before_the_answer_to_the_claim_is_not_forgotten(world: World, database: Database) -> None:
    """A job that is cancelled while its claim is on its way does not begin when that is granted."""
    [first] = queued(database, 1)
    world.take(first)
    world.ahead.took(SimpleNamespace(task=SimpleNamespace(name="count_words")), SHORT)
    [record] = queued(database, 1)
    [request] = world.take(record)
    eventually(lambda: status(database, record)[0] == "running", what="the claim")
    with database.autocommit() as connection:
        Tracked(connection).cancel(record)
    assert world.ahead.drop(request)
    world.turn(lambda: request.message.answer, "its end")
    eventually(lambda: not status(database, record)[3], what="the receipt")
    world.semaphore.release()
    assert len(world.begun) == 1


def test_what_is_claimed_survives_the_brokers_connection_and_the_rest_comes_again(
    world: World, database: Database
) -> None:
    """When the connection ends, claimed jobs run all the same; of those that are not, nothing is left here."""
    records, requests = claimed_ahead(world, database, 3)
    waiting = world.take(*queued(database, 200))
    world.semaphore.clear()  # as Celery does
    state.reserved_requests.clear()
    state.requests.clear()
    world.ahead.reconnect([], [])
    assert {state.requests[request.id] for request in requests} == set(requests)
    claimed = {each.fence for each in waiting if each.fence.job_id in world.ahead.held()}
    for _ in range(10):
        world.semaphore.release()
        world.ahead.apply()
    begun = [request.fence for request in world.begun[1:]]
    assert begun[:3] == [record.fence for record in records]
    assert set(begun[3:]) <= claimed | {record.fence for record in records}


def test_a_worker_that_stops_hands_back_what_has_not_begun(world: World, database: Database) -> None:
    """At its end what is claimed is released without a loss, for another worker to run; what waits was never ours."""
    records, _ = claimed_ahead(world, database, 3)
    waiting = queued(database, 1, job_type="unknown length")
    world.take(*waiting)
    world.ahead.close()
    eventually(lambda: {status(database, each)[:3] for each in records} == {("queued", 2, 1)}, what="the release")
    assert status(database, waiting[0])[:3] == ("queued", 1, 0)
    with database.autocommit() as connection:
        assert [Tracked(connection).get(record.id).losses for record in records] == [0, 0, 0]


def test_all_that_a_worker_hands_back_is_written_in_one_commit(world: World, database: Database) -> None:
    """A worker waits ten seconds for it at its end: a commit for each job would not be over where each takes long."""
    records, _ = claimed_ahead(world, database, 15)
    world.ahead.close()
    eventually(lambda: {status(database, each)[:3] for each in records} == {("queued", 2, 1)}, what="the release")
    with database.autocommit() as connection:
        commits = connection.execute(text("SELECT count(DISTINCT xmin::text) FROM jobs WHERE attempt = 1")).scalar()
    assert commits == 1


def test_what_is_granted_while_a_worker_begins_to_stop_is_handed_back_at_once(world: World, database: Database) -> None:
    """A claim whose answer nobody has read yet is released then, and not when the bodies that run have ended."""
    [first] = queued(database, 1)
    world.take(first)
    world.ahead.took(SimpleNamespace(task=SimpleNamespace(name="count_words")), SHORT)
    [record] = queued(database, 1)
    world.take(record)
    eventually(lambda: world.ahead._news, what="the answer")
    assert status(database, record)[:3] == ("running", 1, 1)
    world.ahead.close()
    eventually(lambda: status(database, record)[:3] == ("queued", 2, 1), what="the release")


def test_a_claim_whose_answer_is_lost_while_a_worker_stops_leaves_nothing_running(
    app: JobApp, database: Database
) -> None:
    """The commit happens, the connection breaks instead of saying so, and nobody asks again: the job is handed back."""
    [record] = queued(database, 1)
    direct = database.engine.url.render_as_string(hide_password=False)
    with database_behind(direct) as (url, proxy), a_world(app, database, 1, url) as world:
        claimed_ahead(world, database, 1)  # so that there is a connection already
        proxy.drop_replies(1000)
        [request] = world.take(record)
        eventually(lambda: status(database, record)[0] == "running", what="the claim")
        world.upkeep.close(world.worker)
        world.turn(lambda: request.message.answer == "requeued", "its way back")
        assert status(database, record)[:3] == ("running", 1, 1)
        proxy.drop_replies(0)
        world.upkeep.stop(world.worker)
        assert status(database, record)[:3] == ("queued", 2, 1)
    with database.autocommit() as connection:
        assert Tracked(connection).get(record.id).losses == 0


def test_a_message_that_comes_while_a_worker_stops_begins_no_body(world: World, database: Database) -> None:
    """RabbitMQ delivers until it has confirmed that no more is wanted: such a message stays the broker's, unclaimed."""
    world.ahead.close()
    records = queued(database, 2)
    requests = world.take(*records)
    world.batcher.close(5)
    world.ahead.apply()
    assert world.begun == []
    assert [request.message.answer for request in requests] == [None, None]
    assert [status(database, record)[:3] for record in records] == [("queued", 1, 0)] * 2


def test_nothing_waits_behind_bodies_that_take_longer_than_those_before_them(world: World, database: Database) -> None:
    """Half a second without a free slot, and what waits goes back: unclaimed to the broker, claimed into its row."""
    records, requests = claimed_ahead(world, database, 2)
    waiting = world.take(*queued(database, 2, job_type="unknown length"))
    world.ahead._look()
    assert [request.message.answer for request in waiting] == [None, None]  # not yet
    time.sleep(STANDSTILL)
    world.ahead._look()
    assert [request.message.answer for request in waiting] == ["requeued", "requeued"]
    assert [request.message.answer for request in requests] == ["acknowledged", "acknowledged"]
    eventually(lambda: {status(database, each)[:3] for each in records} == {("queued", 2, 1)}, what="the release")
    assert world.ahead.held() == set()
    assert world.ahead.window == 1


def test_a_row_that_somebody_else_changes_keeps_no_other_waiting(app: JobApp, database: Database) -> None:
    """A locked row's claim is asked for again while others are granted, and is granted when the lock is gone."""
    with a_world(app, database, 3) as world:
        locked, *others = queued(database, 3)
        world.take(*queued(database, 3, job_type="long"))
        with database.begin() as connection:
            connection.execute(text("SELECT FROM jobs WHERE id = :id FOR UPDATE"), {"id": locked.id})
            requests = world.take(locked, *others)
            for _ in range(3):
                world.semaphore.release()
            world.turn(lambda: {request.fence for request in requests[1:]} <= {r.fence for r in world.begun}, "others")
            assert requests[0] not in world.begun
        world.turn(lambda: requests[0] in world.begun, "the locked one")


def test_a_claim_that_is_refused_answers_its_message(app: JobApp, database: Database) -> None:
    """A stale message and one of a cancelled job are acknowledged, run nothing, and are in the job's history."""
    with a_world(app, database, 1) as world:
        [first, stale, cancelled] = queued(database, 3)
        with database.autocommit() as connection:
            Tracked(connection).cancel(cancelled)
        world.take(first)
        world.ahead.took(SimpleNamespace(task=SimpleNamespace(name="count_words")), SHORT)
        old = Asked(stale)
        old.fence = Fence(stale.id, 7)
        requests = [old, Asked(cancelled)]
        for request in requests:
            world.ahead.take(request)
        world.turn(lambda: all(request.message.answer for request in requests), "answers")
        assert [request.message.answer for request in requests] == ["acknowledged", "acknowledged"]
        assert [events(database, record)[-1] for record in (stale, cancelled)] == [Event.DUPLICATE_REFUSED] * 2


def test_without_a_database_messages_go_back_after_the_patience_of_a_claim(app: JobApp, database: Database) -> None:
    """What cannot be claimed for CELERIAC_CLAIM_PATIENCE is the broker's again, and nothing began."""
    first, second = queued(database, 2)
    with a_world(app, database, 1, "postgresql+psycopg://nobody@127.0.0.1:9/none") as world:
        world.take(first)
        world.ahead.took(SimpleNamespace(task=SimpleNamespace(name="count_words")), SHORT)
        [request] = world.take(second)
        world.turn(lambda: request.message.answer == "requeued", "its way back")
        assert world.ahead.held() == set()
    assert status(database, second)[:3] == ("queued", 1, 0)


def test_claims_that_wait_beside_ends_outlast_an_outage(app: JobApp, database: Database) -> None:
    """Without a database neither ends nor claims are forgotten: afterwards ends are written, and messages answered."""
    direct = database.engine.url.render_as_string(hide_password=False)
    with database_behind(direct) as (url, proxy), a_world(app, database, 1, url) as world:
        claimed_ahead(world, database, 1)
        [ended, wanted] = queued(database, 2)
        with database.autocommit() as connection:
            [attempt] = jobs.claim(connection, [wish(ended.fence, lease=world.lease)])
        assert isinstance(attempt, Attempt)
        proxy.switch(Mode.REFUSE)
        world.batcher.settle(attempt, Outcome(attempt.fence, "succeeded", HOSTNAME, attempt.attempt), FINISHED_FIRST, 0)
        world.take(wanted)
        time.sleep(4 * FIRST_PAUSE)  # some turns, each with both
        proxy.switch(Mode.OPEN)
        eventually(lambda: status(database, ended)[0] == "succeeded", what="the end")
        world.turn(lambda: not world.ahead._claiming, "the answer to the claim")


def test_a_success_that_a_cancel_overtook_frees_its_slot_at_once(world: World, database: Database) -> None:
    """A body that finishes after its job's cancel is told so in the history, and the next in line has its slot."""
    with database.autocommit() as connection:
        acme = Tracked(connection)
        line.set_limit(connection, "acme", 1, actor="admin")
        first, second = acme.submit(), acme.submit()
        [attempt] = jobs.claim(connection, [wish(first.fence, lease=world.lease)])
        assert isinstance(attempt, Attempt)
        assert acme.get(second.id).hold is Hold.ORGANIZATION_LIMIT
        acme.cancel(first)
    world.batcher.settle(attempt, Outcome(attempt.fence, "succeeded", HOSTNAME, attempt.attempt), FINISHED_FIRST, 0)
    eventually(lambda: not status(database, first)[3], what="the receipt")
    with database.autocommit() as connection:
        assert Tracked(connection).last_detail(first)["how"] == FINISHED_FIRST
        eventually(lambda: Tracked(connection).get(second.id).hold is None, what="the slot")


def test_what_is_with_a_process_stays_when_the_broker_is_gone(world: World, database: Database) -> None:
    """A job that its process has, and has not confirmed, is not forgotten: that may have claimed it, and ends it."""
    with_process, on_its_way, claimed = world.take(*queued(database, 3))
    claimed.attempt = object()
    results = [SimpleNamespace(correlation_id=each.id, _accepted=False) for each in (with_process, on_its_way, claimed)]
    vars(world.ahead._worker.pool._pool).update(_cache=dict(enumerate(results)), outbound_buffer=results[1:])
    assert world.ahead.bodies.take_back() == ([(claimed, claimed.attempt)], [with_process])
    assert [result._accepted for result in results] == [True, False, False]


def test_what_the_event_loop_has_not_heard_of_is_held(world: World, database: Database) -> None:
    """A job that was handed to the worker counts as here at once: its event loop may stand still for a while."""
    [record] = queued(database, 1)
    with database.autocommit() as connection:
        [attempt] = jobs.claim(connection, [wish(record.fence, lease=world.lease)])
    assert isinstance(attempt, Attempt)
    world.ahead._hear([], [], [(record, attempt)])
    assert world.ahead.held() == {record.id}
