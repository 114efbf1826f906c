"""A queue that is paused: nothing of it starts, whoever has sent it, and whoever has it already."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import select

from tests.holding import GLOBEX, Limited
from tests.tracked import ACME, Tracked, wish
from tracking import jobs
from tracking.admission import queue_pauses
from tracking.limit_tables import paused_queues
from tracking.models import Refusal, Scope
from tracking.reads import explain, fleet
from tracking.states import Status


def pause(limited: Limited, queue: str = "slow", reason: str | None = "moving") -> bool:
    return queue_pauses.pause(limited.tracked.connection, queue=queue, actor="olga", reason=reason)


def resume(limited: Limited, queue: str = "slow") -> bool:
    return queue_pauses.resume(limited.tracked.connection, queue=queue, actor="olga")


def test_nothing_of_a_paused_queue_starts(free: Limited) -> None:
    """Of a paused queue no job of any organization starts, neither a new one nor one that was sent; others do."""
    owners = (replace(GLOBEX, organization_id="acme"), GLOBEX)
    kinds = [(owner, queue) for owner in owners for queue in ("slow", "default")]
    sent = {each: free.submit(owner=each[0], queue=each[1]) for each in kinds}
    assert pause(free)
    assert not pause(free), "it is paused"
    new = {each: free.submit(owner=each[0], queue=each[1]) for each in kinds}
    for each in kinds:
        [answer] = jobs.claim(free.tracked.connection, [wish(sent[each].fence)])
        assert (answer is Refusal.HELD) is (each[1] == "slow")
        assert free.holds([sent[each], new[each]]) == ["paused" if each[1] == "slow" else None] * 2


def test_its_resume_lets_go_what_no_other_pause_holds(free: Limited, tracked: Tracked) -> None:
    """After the resume of a queue all goes that no pause of a type or an organization holds."""
    pause(free)
    free.pause(None, "b")
    first, second = free.submit(job_type="a", queue="slow"), free.submit(job_type="b", queue="slow")
    assert free.turn() == []
    assert resume(free)
    assert not resume(free), "it is over"
    assert free.turn() == [first.id]
    assert tracked.get(second.id).hold == "paused"


def test_paused_jobs_of_a_line_take_no_slot(two: Limited, tracked: Tracked) -> None:
    """A job in line whose queue is paused steps aside when it is its turn, and the next one goes."""
    running = two.start(2)
    aside = [two.submit(queue="slow") for _ in range(3)]
    other = two.submit()
    pause(two)
    tracked.end(running[0])
    assert two.after(running[0]) == [other.id]
    assert set(two.holds(aside)) <= {"paused", "organization_limit"}
    assert tracked.end(running[1]).status is Status.SUCCEEDED, "what runs goes on"


def test_who_waits_is_told_of_it(free: Limited, tracked: Tracked) -> None:
    """The explanation of a job tells that its queue is paused, why and since when, and not which operator did it."""
    pause(free)
    job = free.submit(queue="slow")
    found = explain.explain(tracked.connection, job.id, Scope(ACME.organization_id, None), free.limits)
    told = [reason for reason in found.reasons if reason.kind == "paused"]
    assert [(each.queue, each.paused_by, each.reason) for each in told] == [("slow", None, "moving")]
    assert found.reasons[0] == told[0], "it comes first"
    assert told[0].sentence.startswith("The jobs of the queue slow are paused by an operator of the platform (moving)")
    assert "olga" not in str(found)


def test_a_queue_that_is_paused_is_listed(free: Limited, tracked: Tracked) -> None:
    """The list of queues has a paused one with who has paused it, also when nobody consumes it and nothing waits."""
    pause(free, "empty")
    [found] = fleet.all_queues(tracked.connection, free.limits.lease_timeout)
    assert (found.name, found.paused_by, found.reason, found.waiting) == ("empty", "olga", "moving", 0)
    assert [each.queue for each in tracked.connection.execute(select(paused_queues))] == ["empty"]
