"""Why a job in line, or at the broker, does not run: who stands before it, and who has the slots."""

from __future__ import annotations

from uuid import uuid4

from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from tests.explaining import GLOBEX_SCOPE, U1, asked, kinds, known, mark_sent, only
from tests.holding import GLOBEX, Limited, fill, limited
from tests.properties import ON_ONE_DATABASE
from tests.tracked import HOUR, Tracked, empty
from tracking import workers
from tracking.db import Database
from tracking.limit_tables import organizations
from tracking.models import JobRecord, Owner, Scope
from tracking.reads.explain import MOST_NAMED, explain
from tracking.reads.reasons import (
    LAST_PLACE,
    InLine,
    Lifting,
    Sent,
    Unsent,
)
from tracking.states import Hold

LONG_LINE = """
    INSERT INTO jobs (id, organization_id, user_id, job_type, status, hold, queue, max_retries, created_at)
    SELECT gen_random_uuid(), 'acme', 'u1', 'count_words', 'queued', 'organization_limit', 'default', 3,
           now() - n * interval '1 millisecond'
    FROM generate_series(1, :count) AS n"""


def test_a_job_in_line_is_told_its_place_and_who_has_the_slots(platform: Limited) -> None:
    """The explanation of a job in line has its place, the limit and the holders of the slots."""
    holders = platform.start(5)
    waiting = platform.submit_many(3)
    reason = only(platform.tracked, waiting[2])
    assert reason == InLine(5, 5, 3, [job.id for job in holders])


def test_a_more_urgent_job_stands_before_it_in_line(platform: Limited) -> None:
    """A more urgent job counts as one before it in line, however late it came."""
    platform.start(5)
    early = platform.submit()
    urgent = platform.submit(priority=9)
    assert [only(platform.tracked, job).place for job in (urgent, early)] == [1, 2]


def test_a_place_is_counted_up_to_a_bound(platform: Limited) -> None:
    """The 10,000th in line is told its place, and the ones behind it that they stand there."""
    platform.start(5)
    platform.tracked.connection.execute(text(LONG_LINE), {"count": LAST_PLACE - 1})
    last, behind = platform.submit_many(2)
    platform.submit()
    assert [
        (reason.place, reason.place_is_capped) for reason in (only(platform.tracked, job) for job in (last, behind))
    ] == [
        (LAST_PLACE, False),
        (LAST_PLACE, True),
    ]


def test_a_job_that_nobody_would_run_stands_before_nobody(platform: Limited) -> None:
    """A job whose queue nobody consumes does not count in the places of a line."""
    platform.start(5)
    platform.submit_many(3, queue="nobody's", priority=9)
    assert only(platform.tracked, platform.submit()).place == 1


def test_the_next_in_line_for_a_free_slot_is_not_told_to_wait(platform: Limited) -> None:
    """The first in line with a free slot is explained as about to be sent."""
    holders = platform.start(5)
    waiting = platform.submit_many(2)
    platform.tracked.end(holders[0])
    assert only(platform.tracked, waiting[0]) == Lifting(Hold.ORGANIZATION_LIMIT)
    reason = only(platform.tracked, waiting[1])
    assert (reason.taken, reason.limit, reason.place) == (4, 5, 2)


def test_a_due_job_to_which_a_less_urgent_one_gives_way_is_not_told_to_wait(platform: Limited) -> None:
    """A due job that is more urgent than one that was sent and has not begun is explained as about to be sent."""
    platform.start(4)
    sent = platform.submit()
    equal, urgent = (platform.submit(priority=priority, delay=HOUR) for priority in (0, 9))
    for job in (equal, urgent):
        platform.tracked.make_due(job)
    assert only(platform.tracked, urgent) == Lifting(Hold.SCHEDULE)
    assert kinds(platform.tracked, equal)[0] == "organization_limit"
    assert urgent.id in platform.turn()
    assert platform.holds([sent, equal]) == ["organization_limit"] * 2


def test_those_in_line_whom_something_else_stops_stand_before_nobody(platform: Limited) -> None:
    """Jobs in line that a pause or circuit stops do not count in its places."""
    holders = platform.start(5)
    paused = platform.submit_many(3, job_type="paused", priority=9)
    job = platform.submit()
    platform.pause("acme", "paused")
    assert only(platform.tracked, job).place == 1
    platform.tracked.end(holders[0])
    assert kinds(platform.tracked, job) == ["lifting"]
    assert kinds(platform.tracked, paused[0]) == ["paused"]


def test_of_those_in_line_that_something_else_stops_too_the_first_is_next(platform: Limited) -> None:
    """Of jobs in line that the same pause stops, the first is next when it ends."""
    holders = platform.start(5)
    first, second = platform.submit_many(2, job_type="paused")
    platform.pause("acme", "paused")
    platform.tracked.end(holders[0])
    assert kinds(platform.tracked, first) == ["paused"]
    assert kinds(platform.tracked, second) == ["organization_limit", "paused"]


def test_a_limit_that_was_lifted_is_no_reason(platform: Limited) -> None:
    """A line whose limit was lifted is explained as about to be sent."""
    platform.start(5)
    job = platform.submit()
    platform.tracked.connection.execute(organizations.insert().values(id="acme", concurrency=0, changed_by="admin"))
    assert only(platform.tracked, job) == Lifting(Hold.ORGANIZATION_LIMIT)


def test_what_a_job_meets_after_its_hold_is_told_although_its_row_does_not_say_so_yet(platform: Limited) -> None:
    """An explanation names the next hold although the row has not got it yet."""
    paused, late = platform.submit(delay=HOUR, job_type="paused"), platform.submit(delay=HOUR)
    platform.start(5)
    platform.pause("acme", "paused")
    for job in (paused, late):
        platform.tracked.make_due(job)
    assert kinds(platform.tracked, paused) == ["paused"]
    assert kinds(platform.tracked, late) == ["organization_limit"]
    platform.turn()
    assert platform.holds([paused, late]) == ["paused", "organization_limit"]


def test_holders_of_another_user_are_counted_and_not_named(platform: Limited) -> None:
    """Holders of another user are counted, and named only to callers who see the organization."""
    mine = platform.start(2)
    others = platform.start(3, owner=Owner("acme", "u2"))
    job = platform.submit()
    assert (only(platform.tracked, job, U1).taken, only(platform.tracked, job, U1).holders) == (5, [j.id for j in mine])
    assert set(only(platform.tracked, job).holders) == {holder.id for holder in (*mine, *others)}


def test_nothing_of_another_organization_counts_in_a_line(platform: Limited) -> None:
    """Neither holders nor jobs in line of another organization count in a place."""
    for _ in range(4):
        platform.tracked.register_worker()
    platform.start(5, owner=GLOBEX)
    platform.submit_many(3, owner=GLOBEX, priority=9)
    platform.start(5)
    reason = only(platform.tracked, platform.submit())
    assert (reason.taken, reason.place, len(reason.holders)) == (5, 1, 5)


def test_a_job_that_waits_for_busy_workers_is_told_so(pool: Database, tracked: Tracked) -> None:
    """A job with a slot of its organization to spare is explained as waiting for busy workers."""
    tracked.register_worker()
    platform = limited(pool, tracked, 5)
    platform.start(2)
    sent, *waiting = platform.submit_many(3)
    reason = only(tracked, waiting[1])
    assert (reason.limit, reason.taken, reason.place, reason.is_full) == (5, 3, 2, False)
    tracked.start(sent)
    assert kinds(tracked, waiting[0]) == ["lifting"]
    assert platform.turn() == [waiting[0].id]


def test_jobs_that_wait_for_other_workers_stand_before_it_only_for_its_organizations_slots(
    pool: Database, tracked: Tracked
) -> None:
    """With a slot to spare a place counts those that wait for the same workers; without one, all of the line."""
    for queues in (["default", "mail"], ["reports"]):
        workers.beat(tracked.connection, uuid4(), name="w", pid=1, queues=queues, concurrency=1)
    platform = limited(pool, tracked, 4)
    platform.start(1)
    platform.start(1, queue="reports")
    for queue in ("default", "reports"):
        platform.submit(queue=queue)  # of each organization one may always wait at the broker
    shared, mail, reports = (platform.submit(queue=queue) for queue in ("default", "mail", "reports"))
    platform.set_limit(5)
    assert [only(tracked, job).place for job in (shared, mail, reports)] == [1, 2, 1]
    platform.set_limit(4)
    assert [asked(tracked, job, limit=4).reasons[0].place for job in (shared, mail, reports)] == [1, 2, 3]  # type: ignore[union-attr]


def test_a_job_that_lets_another_organization_go_first_is_not_told_to_be_sent(pool: Database, tracked: Tracked) -> None:
    """A job that waits for its organization's turn is not explained as about to be sent."""
    tracked.register_worker()
    platform = limited(pool, tracked, 2)
    fill(tracked, 1, hold="organization_limit")
    fill(tracked, 2, hold="organization_limit", organization_id="globex")
    first, second = (tracked.get(job_id) for job_id in platform.in_line("globex"))
    assert asked(tracked, first, GLOBEX_SCOPE, 2).reasons[0].kind == "lifting"
    reason = asked(tracked, second, GLOBEX_SCOPE, 2).reasons[0]
    assert reason == InLine(limit=2, taken=0, place=2, holders=[])
    platform.turn()
    assert platform.holds([first, second]) == [None, "organization_limit"]


@settings(ON_ONE_DATABASE, max_examples=15)
@example(lines=[(1, 1, 0)], concurrency=1)  # alone and without a limit: the workers may be as busy as they are
@given(
    lines=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9), st.sampled_from((0, 3, 7, None))), max_size=4),
    concurrency=st.integers(1, 12),
)
def test_about_to_be_sent_is_said_of_those_that_the_next_look_at_the_lines_sends(
    pool: Database, lines: list[tuple[int, int, int | None]], concurrency: int
) -> None:
    """Exactly the jobs that the next look sends are explained as about to be sent."""
    empty(pool)
    with pool.autocommit() as connection:
        tracked = Tracked(connection)
        platform = limited(pool, tracked, 5)
        workers.beat(connection, uuid4(), name="w", pid=1, queues=["default"], concurrency=concurrency)
        for name, (sent, in_line, limit) in zip(("acme", "Globex", "été", "日本"), lines, strict=False):
            if limit is not None:
                platform.set_limit(limit, name)
            fill(tracked, sent, organization_id=name)
            fill(tracked, in_line, organization_id=name, hold="organization_limit")
        said = {job.id for job in tracked.all() if job.hold and _first_reason(platform, job) == "lifting"}
        assert said == set(platform.look_at_the_lines())


def _first_reason(platform: Limited, job: JobRecord) -> str:
    scope = Scope(job.organization_id, None)
    return explain(platform.tracked.connection, job.id, scope, platform.limits).reasons[0].kind


def test_not_more_than_twenty_holders_are_named(pool: Database, tracked: Tracked) -> None:
    """An explanation names at most twenty holders, and counts all."""
    platform = limited(pool, tracked, MOST_NAMED + 1)
    platform.start(MOST_NAMED + 1)
    job = platform.submit()
    reason = asked(tracked, job, limit=MOST_NAMED + 1).reasons[1]
    assert isinstance(reason, InLine)
    assert (reason.taken, len(reason.holders)) == (MOST_NAMED + 1, MOST_NAMED)


def test_a_queue_without_a_living_worker_matters_more_than_the_line(platform: Limited) -> None:
    """A queue without a living worker is the first reason, before the line."""
    platform.start(5)
    job = platform.submit(queue="nobody's")
    assert kinds(platform.tracked, job) == ["no_worker", "organization_limit"]


def test_a_job_that_the_broker_has_not_confirmed_is_on_its_way(platform: Limited) -> None:
    """A job without the broker's confirmation is explained by that, since its submit."""
    job = platform.submit()
    assert only(platform.tracked, job) == Unsent("default", job.updated_at)


def test_a_sent_job_is_told_its_place_in_the_queue(platform: Limited) -> None:
    """The place of a sent job counts its organization's jobs in its queue only."""
    tracked = platform.tracked
    first, second = (mark_sent(tracked, tracked.submit()) for _ in range(2))
    mark_sent(tracked, tracked.submit(queue="maintenance"))
    urgent = mark_sent(tracked, tracked.submit(priority=5))
    tracked.submit(priority=9)  # not sent yet
    assert [only(tracked, job).place for job in (urgent, first, second)] == [1, 2, 3]
    assert only(tracked, first) == Sent("default", 2, 3, known(first.dispatched_at))


def test_nothing_of_another_organization_counts_in_a_queue(platform: Limited) -> None:
    """Jobs of other organizations do not count in a place in the queue."""
    tracked = platform.tracked
    for priority in range(10):
        mark_sent(tracked, tracked.submit(owner=GLOBEX, priority=priority))
    assert only(tracked, mark_sent(tracked, tracked.submit())).place == 1


def test_a_sent_job_whose_queue_nobody_consumes_is_told_so(tracked: Tracked) -> None:
    """A sent job whose queue has no living worker is explained by that."""
    job = mark_sent(tracked, tracked.submit())
    tracked.register_worker(seen=HOUR)
    assert kinds(tracked, job) == ["no_worker"]


def test_a_sent_job_of_a_paused_type_is_told_of_the_pause_first(platform: Limited) -> None:
    """The pause is the first reason of a job that was sent before it."""
    job = mark_sent(platform.tracked, platform.submit())
    platform.pause(job_type="count_words")
    assert kinds(platform.tracked, job) == ["paused", "queue"]
