"""Circuits: what opens one, who tries, and what closes it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import text

from tests.holding import GLOBEX, Limited
from tests.tracked import HOUR, Tracked, outcome, wish
from tracking import jobs
from tracking.admission import circuits
from tracking.models import Changes, JobRecord, Owner, Refusal
from tracking.states import Status

INITECH = Owner("initech", "u1")


def test_the_circuit_of_a_type_opens_after_so_many_failures_in_a_row(free: Limited, tracked: Tracked) -> None:
    """A circuit opens after so many failures in a row of an organization's jobs, retries included."""
    tracked.fail(tracked.start(free.submit()))
    backing_off = tracked.back_off(tracked.start(free.submit(owner=Owner("acme", "u2"))))
    assert not free.trip(backing_off)
    assert free.submit().hold is None
    failed = tracked.fail(tracked.start(free.submit()))
    assert free.trip(failed)
    assert not free.trip(failed), "it is open"
    assert free.submit().hold == "circuit"
    assert free.submit(job_type="another").hold is None


def test_the_failures_of_an_organization_are_no_matter_of_another(free: Limited, tracked: Tracked) -> None:
    """Failures of one organization count for no other one, and hold none of its jobs."""
    for owner in (GLOBEX, GLOBEX, Owner("acme", "u1")):
        failed = tracked.fail(tracked.start(free.submit(owner=owner)))
        assert not free.trip(failed)
    sent = free.submit(owner=GLOBEX)
    free.break_circuit()
    assert free.submit().hold == "circuit"
    assert free.submit(owner=GLOBEX).hold is None
    tracked.start(sent)


def test_a_circuit_opens_for_all_while_those_of_several_organizations_are_open(free: Limited) -> None:
    """The circuit for all is open while those of several organizations are."""
    free.break_circuit()
    free.break_circuit(owner=GLOBEX)
    third = free.submit(owner=INITECH)
    assert third.hold == "circuit"
    assert free.turn() == []
    free.tracked.connection.execute(text("DELETE FROM circuits WHERE organization_id = 'acme'"))
    assert free.turn() == [third.id]
    assert free.submit(owner=GLOBEX).hold == "circuit"


def test_each_key_that_a_handler_names_has_a_circuit_of_its_own(free: Limited, tracked: Tracked) -> None:
    """Each circuit key has a circuit of its own: five dead receivers hold no message to a sixth."""
    for number in range(5):
        free.break_circuit(circuit_key=f"dead-{number}")
        failed = tracked.fail(tracked.start(free.submit(circuit_key="weak", max_retries=0)))
        assert free.submit(circuit_key=f"dead-{number}").hold == "circuit"
        tracked.end(tracked.start(free.submit(circuit_key="weak")))
    assert not free.trip(failed)
    assert [free.submit(circuit_key=key).hold for key in ("alive", "weak", "")] == [None] * 3


def test_what_a_retry_changes_counts_in_the_circuit_of_its_own_attempt(free: Limited, tracked: Tracked) -> None:
    """An attempt counts in the circuit of the key that it had, also when a retry changed that."""
    for _ in range(3):
        job = tracked.start(free.submit(circuit_key="old"))
        tracked.end(job, "retry", delay=HOUR, changes=Changes(circuit_key="new"))
    job = tracked.get(job.id)
    assert job.circuit_key == "new"
    assert not free.trip(job)
    assert free.trip(tracked.fail(tracked.start(free.submit(circuit_key="old"))))


def test_a_failure_by_the_fault_of_its_payload_does_not_count(free: Limited, tracked: Tracked) -> None:
    """A failure by the payload's fault neither counts nor begins the count anew."""
    for _ in range(2):
        for _ in range(5):
            blamed = free.blame_payload(tracked.start(free.submit()))
            assert not free.trip(blamed)
        tracked.fail(tracked.start(free.submit()))
    blamed = free.blame_payload(tracked.start(free.submit()))
    assert not free.trip(blamed)
    assert free.trip(tracked.fail(tracked.start(free.submit())))


def test_a_success_in_between_begins_the_count_anew(free: Limited, tracked: Tracked) -> None:
    """A success begins the count of failures anew."""
    for end in (tracked.fail, tracked.fail, tracked.end, tracked.fail, tracked.fail):
        assert not free.trip(end(tracked.start(free.submit())))
    assert free.trip(tracked.fail(tracked.start(free.submit())))


def test_cancelled_released_and_lost_attempts_are_no_failures(free: Limited, tracked: Tracked) -> None:
    """Cancelled, released and lost attempts do not count as failures of the type."""
    for _ in range(3):
        tracked.cancel(tracked.start(free.submit()))
        tracked.end(tracked.start(free.submit()), "released")
        poison = tracked.start(free.submit())
        jobs.settle(tracked.connection, [outcome(poison, "lost")], max_losses=1)
    assert tracked.get(poison.id).status is Status.FAILED
    assert not free.trip(poison)


def test_jobs_behind_an_open_circuit_are_held_and_not_burned(free: Limited, tracked: Tracked) -> None:
    """Jobs behind an open circuit are held without an attempt, also those that were sent before."""
    sent = free.submit()
    free.break_circuit()
    assert jobs.claim(tracked.connection, [wish(sent.fence)]) == [Refusal.HELD]
    held = tracked.get(sent.id)
    assert (held.hold, held.attempt, held.retry_count) == ("circuit", 0, 0)
    assert tracked.events(sent) == ["created", "held"]


def test_one_job_tries_after_the_pause(free: Limited, tracked: Tracked) -> None:
    """After the pause of a circuit its most urgent job tries alone."""
    free.break_circuit()
    waiting = free.submit_many(2)
    urgent = free.submit(priority=9)
    assert free.turn() == []
    free.let_circuits_rest()
    assert free.turn() == [urgent.id]
    assert free.turn() == []
    assert free.holds(waiting) == ["circuit"] * 2
    assert jobs.claim(tracked.connection, [wish(waiting[0].fence)]) == [Refusal.HELD]
    assert tracked.start(urgent).status is Status.RUNNING


def probing(free: Limited) -> tuple[JobRecord, list[JobRecord]]:
    """A probe that was sent, and two jobs that wait for its end."""
    free.break_circuit()
    probe, *waiting = free.submit_many(3)
    free.let_circuits_rest()
    assert free.turn() == [probe.id]
    return probe, waiting


def test_its_success_closes_the_circuit_and_lets_all_through(free: Limited, tracked: Tracked) -> None:
    """The success of a probe closes the circuit and lets all its jobs through at once."""
    probe, waiting = probing(free)
    tracked.end(tracked.start(probe))
    assert set(free.after(probe)) == {job.id for job in waiting}
    assert circuits.opened(tracked.connection, "acme") == []
    assert free.submit().hold is None


@pytest.mark.parametrize("fail", [Tracked.fail, Tracked.back_off])
def test_its_failure_opens_the_circuit_again(
    free: Limited, tracked: Tracked, fail: Callable[[Tracked, JobRecord], JobRecord]
) -> None:
    """The failure of a probe opens the circuit for another pause, after which the next job tries."""
    probe, waiting = probing(free)
    fail(tracked, tracked.start(probe))
    assert free.after(probe) == []
    [circuit] = circuits.opened(tracked.connection, "acme")
    assert (circuit.probe_id, circuit.probe_at > circuit.opened_at) == (None, True)
    assert free.turn() == []
    free.let_circuits_rest()
    assert free.turn() == [waiting[0].id]


def test_a_probe_that_failed_by_the_fault_of_its_payload_has_not_tried(free: Limited, tracked: Tracked) -> None:
    """A probe that failed by its payload's fault decides nothing, and another one tries at once."""
    probe, waiting = probing(free)
    free.blame_payload(tracked.start(probe))
    assert free.after(probe) == []
    assert free.turn() == [waiting[0].id]
    tracked.end(tracked.start(waiting[0]))
    assert free.after(waiting[0]) == [waiting[1].id]


def broken_for_all(free: Limited) -> None:
    """Let the circuit be open for all organizations, long enough for a probe."""
    free.break_circuit()
    free.break_circuit(owner=GLOBEX)
    free.let_circuits_rest()


def test_the_organizations_take_turns_to_try(free: Limited, tracked: Tracked) -> None:
    """The probes of the circuit for all come from the organizations in turn, whatever the priorities."""
    broken_for_all(free)
    for owner in (Owner("acme", "u1"), GLOBEX, INITECH):
        for _ in range(3):
            free.submit(owner=owner, priority=9 if owner is GLOBEX else 0)
    tried: list[str] = []
    for _ in range(6):
        [probe] = free.turn()
        tried.append(tracked.get(probe).organization_id)
        tracked.fail(tracked.start(tracked.get(probe)))
        assert free.turn() == []
        free.let_circuits_rest()
    assert tried == ["acme", "globex", "initech"] * 2


def test_one_success_of_anybody_closes_the_circuit_for_all(free: Limited, tracked: Tracked) -> None:
    """One success closes the circuit for all; those of the organizations close by their own."""
    broken_for_all(free)
    own, third, other = free.submit(), *free.submit_many(2, owner=INITECH)
    [probe] = free.turn()
    assert probe == own.id
    tracked.fail(tracked.start(own))
    free.turn()
    free.let_circuits_rest()
    assert free.turn() == [third.id]
    tracked.end(tracked.start(third))
    waiting = free.submit()
    assert free.after(third) == [other.id]
    assert free.holds([waiting]) == ["circuit"]
    assert free.turn() == [waiting.id], "its own circuit has rested, and is half open"


def test_a_job_that_tries_for_all_tries_for_its_organization_too(free: Limited, tracked: Tracked) -> None:
    """The success of a probe for all closes its organization's circuit too."""
    broken_for_all(free)
    probe, waiting = free.submit_many(2)
    assert free.turn() == [probe.id]
    tracked.end(tracked.start(probe))
    assert free.after(probe) == [waiting.id]
    assert [circuit.organization_id for circuit in circuits.opened(tracked.connection, "globex")] == ["globex"]
    assert free.submit(owner=INITECH).hold is None


def test_a_probe_that_is_held_by_a_circuit_for_all_leaves_it_to_another(free: Limited, tracked: Tracked) -> None:
    """A probe that a circuit for all holds is replaced by another one."""
    free.break_circuit()
    sent = free.submit()
    free.let_circuits_rest()
    assert free.turn() == [sent.id]
    free.break_circuit(owner=GLOBEX)
    assert jobs.claim(tracked.connection, [wish(sent.fence)]) == [Refusal.HELD]
    free.let_circuits_rest()
    assert free.turn() + free.turn() == [sent.id]
    assert tracked.start(tracked.get(sent.id)).status is Status.RUNNING


def test_a_circuit_with_nobody_left_to_try_is_forgotten(free: Limited, tracked: Tracked) -> None:
    """A circuit without a waiting job is forgotten after a day."""
    for key in ("gone", "kept"):
        free.break_circuit(circuit_key=key)
    held = free.submit(circuit_key="kept", delay=HOUR * 48)
    tracked.connection.execute(text("UPDATE circuits SET probe_at = probe_at - interval '25 hours'"))
    tracked.connection.execute(text("UPDATE jobs SET hold = 'circuit' WHERE id = :id"), {"id": held.id})
    free.pause("acme")
    free.turn()
    assert [circuit.key for circuit in circuits.opened(tracked.connection, "acme")] == ["kept"]


def test_the_jobs_of_an_organization_take_turns_to_try(free: Limited, tracked: Tracked) -> None:
    """The probes of a circuit are the waiting jobs in turn, however urgent one of them is."""
    free.break_circuit()
    poison, *others = [free.submit(priority=priority) for priority in (9, 5, 0)]
    tried = []
    for _ in range(4):
        free.let_circuits_rest()
        [probe] = free.turn()
        tried.append(probe)
        failed = tracked.back_off(tracked.start(tracked.get(probe)))
        free.turn()  # sees that
        tracked.make_due(failed)
        free.turn()  # and holds the job back, as its time has come
    assert tried == [poison.id, *(job.id for job in others), poison.id]


def test_a_probe_that_was_cancelled_has_not_tried(free: Limited, tracked: Tracked) -> None:
    """After the cancel of a probe another one tries without another pause."""
    probe, waiting = probing(free)
    tracked.cancel(probe)
    free.after(probe)
    assert free.turn() == [waiting[0].id]


def test_a_probe_whose_worker_was_lost_tries_again(free: Limited, tracked: Tracked) -> None:
    """A probe whose worker was lost tries again."""
    probe, waiting = probing(free)
    tracked.end(tracked.start(probe), "lost")
    assert free.turn() == []
    tracked.end(tracked.start(tracked.get(probe.id)))
    assert set(free.after(probe)) == {job.id for job in waiting}


def test_a_probe_that_is_paused_leaves_it_to_another(free: Limited, tracked: Tracked) -> None:
    """A probe that is paused is replaced by one of another organization."""
    broken_for_all(free)
    probe = free.submit()
    other = free.submit(owner=GLOBEX)
    free.let_circuits_rest()
    assert free.probe() == [probe.id]
    free.pause("acme")
    assert free.turn() == []
    assert free.turn() == [other.id]
    assert tracked.get(probe.id).hold == "paused"


def test_a_probe_is_not_one_that_is_paused(free: Limited) -> None:
    """A paused job is not chosen as a probe."""
    broken_for_all(free)
    free.submit()
    other = free.submit(owner=GLOBEX)
    free.pause("acme")
    free.let_circuits_rest()
    assert free.turn() == [other.id]


def test_a_probe_that_has_to_stand_in_line_after_all_leaves_it_to_another(two: Limited, tracked: Tracked) -> None:
    """A probe that stands in line for some seconds is replaced by another one."""
    broken_for_all(two)
    probe = two.submit()
    assert two.probe() == [probe.id]
    two.start(2, job_type="long")
    other = two.submit(owner=GLOBEX)
    assert two.turn() + two.turn() == []
    assert tracked.get(probe.id).hold == "organization_limit"
    tracked.pass_a_minute(probe)
    assert two.turn() == [other.id]


def test_a_probe_is_not_one_that_has_to_stand_in_line(two: Limited, tracked: Tracked) -> None:
    """A job without a free slot is not chosen while another organization's job has one."""
    broken_for_all(two)
    two.start(2, job_type="long")
    two.submit()
    other = two.submit(owner=GLOBEX)
    two.let_circuits_rest()
    assert two.turn() == [other.id]
