"""The state machine is the contract's, and every verb keeps to it in every state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

from tests.properties import UNHURRIED
from tests.tracked import ACME, HOUR, KINDS, LEASE_TIMEOUT, SITUATIONS, Tracked, accepted, check_job, reap, wish
from tracking import diagram, jobs, revocations, states
from tracking.admission import holds
from tracking.admission.rule import UNLIMITED
from tracking.errors import IllegalMove
from tracking.models import JobRecord, Outcome, Progress
from tracking.schema import jobs as table
from tracking.states import (
    ACTIVE,
    FINISHED,
    MOVES,
    WAITING,
    Event,
    Move,
    OutcomeKind,
    Status,
    can_cancel,
    can_retry,
    is_legal,
)

# The contract's "Moves", word by word.
CONTRACT: dict[str, set[str]] = {
    "queued": {"running", "cancelled", "failed"},
    "running": {"succeeded", "failed", "retrying", "cancelled", "queued"},
    "retrying": {"running", "queued", "cancelled", "failed"},
    "succeeded": set(),
    "failed": {"queued"},
    "cancelled": {"queued"},
}
CAN_CANCEL = {"queued", "running", "retrying"}
CAN_RETRY = {"failed", "cancelled"}

STATUSES = st.sampled_from(Status)
COUNTS = st.integers(0, 100)


def test_the_moves_are_those_of_the_contract() -> None:
    """The state machine has exactly the moves of the contract, each once."""
    drawn = [(str(move.source), str(move.target)) for move in MOVES]
    assert sorted(drawn) == sorted((source, target) for source, targets in CONTRACT.items() for target in targets)


@UNHURRIED
@given(STATUSES, STATUSES)
def test_a_change_is_legal_when_the_contract_names_it(source: Status, target: Status) -> None:
    """A change between two states is legal exactly when the contract names it."""
    assert is_legal(source, target) is (target in CONTRACT[source])


@UNHURRIED
@given(st.sampled_from(Event), st.none() | STATUSES)
def test_the_sources_of_an_event_are_where_its_moves_begin(event: Event, target: Status | None) -> None:
    """The sources of an event are the states where its moves begin, each once."""
    found = states.sources(event, target)
    wanted = {move.source for move in MOVES if move.event is event and (target is None or move.target is target)}
    assert len(found) == len(wanted)
    assert set(found) == wanted


@UNHURRIED
@given(STATUSES)
def test_what_can_be_cancelled_is_what_the_contract_says(status: Status) -> None:
    """Exactly the active states can be cancelled."""
    assert can_cancel(status) is (status in CAN_CANCEL)


@UNHURRIED
@given(STATUSES, COUNTS, COUNTS)
def test_what_can_be_retried_is_what_the_contract_says(status: Status, retries: int, limit: int) -> None:
    """Failed and cancelled jobs can be retried while there are retries left, and no others."""
    assert can_retry(status, retries, limit) is (status in CAN_RETRY and retries < limit)


@UNHURRIED
@given(st.data())
def test_nothing_but_a_retry_leads_out_of_an_end(data: st.DataObject) -> None:
    """No move but a retry leads out of an end, and none out of a success."""
    status = Status.QUEUED
    for _ in range(20):
        ways = [move for move in MOVES if move.source is status]
        if status in FINISHED:
            assert {(move.event, move.target) for move in ways} <= {(Event.RETRIED, Status.QUEUED)}
        if not ways:
            assert status is Status.SUCCEEDED
            return
        status = data.draw(st.sampled_from(ways)).target


@UNHURRIED
@given(st.sampled_from(ACTIVE), st.sampled_from(FINISHED))
def test_every_end_can_be_reached_from_every_active_state(start: Status, end: Status) -> None:
    """Every end can be reached from every active state."""
    reached = {start}
    for _ in Status:
        reached |= {move.target for move in MOVES if move.source in reached and move.event is not Event.RETRIED}
    assert end in reached


def test_every_state_is_active_or_finished() -> None:
    """Every state is active or finished, and waiting ones are the active ones that do not run."""
    assert sorted([*ACTIVE, *FINISHED]) == sorted(Status)
    assert set(WAITING) == set(ACTIVE) - {Status.RUNNING}


def test_the_documented_diagram_is_drawn_from_the_state_machine() -> None:
    """docs/states.md is what `python -m tracking.diagram` writes."""
    assert diagram.DOCUMENT.read_text(encoding="utf-8") == diagram.document()


@pytest.mark.parametrize("move", MOVES, ids=lambda move: f"{move.source}-{move.target}")
def test_every_move_is_in_the_documented_diagram(move: Move) -> None:
    """docs/states.md shows every move as an arrow and as a row of the table."""
    text = diagram.document()
    assert f"    {move.source} --> {move.target}: {move.cause}\n" in text
    assert f"| `{move.source}` | `{move.target}` | `{move.event}` | {move.cause} |\n" in text


@dataclass(frozen=True)
class Verb:
    """A verb, the situations that it may start from, and where it leads: the event, and None for the same state."""

    call: Callable[[Tracked, JobRecord], Any]
    allowed: tuple[str, ...]
    event: Event | None
    target: Status | None = None


def _refused(call: Callable[[], Any]) -> Any:
    """What the verb answers; False for a refusal by exception."""
    try:
        return call()
    except IllegalMove:
        return False


def _settle(kind: OutcomeKind) -> Callable[[Tracked, JobRecord], Any]:
    return lambda tracked, job: tracked.settle(job, kind, delay=HOUR)


def _claim(tracked: Tracked, job: JobRecord) -> Any:
    return jobs.claim(tracked.connection, [wish(job.fence)])


def _report(tracked: Tracked, job: JobRecord) -> bool:
    return jobs.report(tracked.connection, Progress(job.fence, job.attempt, percent=50))


def _stopped(tracked: Tracked, job: JobRecord) -> bool:
    return jobs.stopped(tracked.connection, job.fence, actor="upkeep", how="worker lost")


def _seen(tracked: Tracked, job: JobRecord) -> bool:
    return jobs.seen(tracked.connection, job.fence, actor="worker-1")


def _cancel(tracked: Tracked, job: JobRecord) -> Any:
    return _refused(lambda: jobs.cancel(tracked.connection, job.id, ACME, actor="u1"))


def _cancel_dispatch(tracked: Tracked, job: JobRecord) -> bool:
    return bool(jobs.cancel_dispatch(tracked.connection, job.fence, actor="flower", reason="revoked"))


def _revoke(tracked: Tracked, job: JobRecord) -> bool:
    return bool(revocations.revoke(tracked.connection, [job.id], actor="flower", reason="revoked"))


def _retry(tracked: Tracked, job: JobRecord) -> Any:
    return _refused(lambda: jobs.retry(tracked.connection, job.id, ACME, actor="u1", limits=UNLIMITED))


def _force(tracked: Tracked, job: JobRecord) -> Any:
    return _refused(lambda: jobs.retry(tracked.connection, job.id, ACME, actor="u1", force=True, limits=UNLIMITED))


def _fail_waiting(tracked: Tracked, job: JobRecord) -> bool:
    return jobs.fail_waiting(tracked.connection, job.fence, actor="upkeep", error_type="NotRegistered", message="no")


def _redispatch(tracked: Tracked, job: JobRecord) -> bool:
    return jobs.redispatch(tracked.connection, job.fence)


def _release_due(tracked: Tracked, job: JobRecord) -> Any:
    if job.hold is not None:
        tracked.make_due(job)
    return holds.lift_due(tracked.connection, UNLIMITED, 10)


def _reap(tracked: Tracked, job: JobRecord) -> Any:
    return reap(tracked.connection, LEASE_TIMEOUT, 10)


ALL_WAITING = ("queued", "scheduled", "retrying", "backoff")
VERBS: dict[str, Verb] = {
    "claim": Verb(_claim, ("queued", "retrying"), Event.STARTED, Status.RUNNING),
    "report": Verb(_report, ("running",), Event.PROGRESS),
    "succeeded": Verb(_settle("succeeded"), ("running",), Event.COMPLETED, Status.SUCCEEDED),
    "failed": Verb(_settle("failed"), ("running",), Event.FAILED, Status.FAILED),
    "retry later": Verb(_settle("retry"), ("running",), Event.FAILED, Status.RETRYING),
    "lost": Verb(_settle("lost"), ("running",), Event.RELEASED, Status.QUEUED),
    "released": Verb(_settle("released"), ("running",), Event.RELEASED, Status.QUEUED),
    "replaced": Verb(_settle("replaced"), ("running",), Event.RELEASED, Status.QUEUED),
    "ended elsewhere": Verb(_settle("cancelled"), ("running",), Event.CANCELLED, Status.CANCELLED),
    "seen": Verb(_seen, ("stopping",), Event.SEEN),
    "stopped": Verb(_stopped, ("stopping",), Event.STOPPED),
    "cancel": Verb(_cancel, (*ALL_WAITING, "running"), Event.CANCELLED, Status.CANCELLED),
    "cancel dispatch": Verb(_cancel_dispatch, (*ALL_WAITING, "running"), Event.CANCELLED, Status.CANCELLED),
    "revoke": Verb(_revoke, (*ALL_WAITING, "running"), Event.CANCELLED, Status.CANCELLED),
    "retry": Verb(_retry, ("failed", "cancelled"), Event.RETRIED, Status.QUEUED),
    "forced retry": Verb(_force, ("failed", "exhausted", "cancelled"), Event.RETRIED, Status.QUEUED),
    "fail waiting": Verb(_fail_waiting, ALL_WAITING, Event.FAILED, Status.FAILED),
    "redispatch": Verb(_redispatch, ALL_WAITING, None),
    "release due": Verb(_release_due, ("scheduled", "backoff"), Event.DUE),
    "reap": Verb(_reap, ("running",), Event.RELEASED, Status.QUEUED),
}
# The reaper also ends the waiting for a body that nobody runs any more.
REAPED_STOP = ("reap", "stopping")
TRIED = [(name, situation) for name in VERBS for situation in SITUATIONS]
LEGAL = [(name, situation) for name, situation in TRIED if situation in VERBS[name].allowed]
ILLEGAL = [pair for pair in TRIED if pair not in LEGAL and pair != REAPED_STOP]

# These take a task id, and do nothing with one of an older dispatch.
FENCED = [name for name in VERBS if name not in ("cancel", "revoke", "retry", "forced retry", "release due", "reap")]


@pytest.mark.parametrize(("name", "situation"), LEGAL)
def test_a_legal_verb_moves_the_row_and_writes_one_history_row(tracked: Tracked, name: str, situation: str) -> None:
    """A legal verb moves its row to the state that MOVES names, with one history row."""
    verb, before = VERBS[name], tracked.put_into(situation)
    told = len(tracked.history(before))
    assert verb.call(tracked, before)
    after = tracked.get(before.id)
    assert after.status is (verb.target or before.status)
    new = tracked.history(before)[told:]
    assert [entry.event for entry in new] == ([verb.event] if verb.event else [])
    if verb.target is not None:
        assert before.status in states.sources(new[0].event, verb.target)
    check_job(after, tracked.history(after))


@pytest.mark.parametrize(("name", "situation"), ILLEGAL)
def test_an_illegal_verb_changes_nothing(tracked: Tracked, name: str, situation: str) -> None:
    """An illegal verb changes no column; only a refused claim is in the history."""
    verb, before = VERBS[name], tracked.put_into(situation)
    told = tracked.history(before)
    answer = verb.call(tracked, before)
    assert tracked.get(before.id) == before
    new = tracked.history(before)[len(told) :]
    if name == "claim":
        assert [(entry.event, entry.from_status) for entry in new] == [(Event.DUPLICATE_REFUSED, before.status)]
        assert new[0].detail["reason"] == answer[0]
    else:
        assert not answer
        assert new == []


@pytest.mark.parametrize("situation", [situation for situation in SITUATIONS if situation != "scheduled"])
@pytest.mark.parametrize("name", FENCED)
def test_a_verb_with_an_older_dispatch_changes_nothing(tracked: Tracked, name: str, situation: str) -> None:
    """A verb with an older dispatch changes nothing in any state."""
    before = _in_its_second_dispatch(tracked, situation)
    told = tracked.history(before)
    assert before.dispatch > 1
    VERBS[name].call(tracked, before._replace(dispatch=1))
    assert tracked.get(before.id) == before
    assert [entry for entry in tracked.history(before) if entry.event is not Event.DUPLICATE_REFUSED] == told


@pytest.mark.parametrize("kind", KINDS)
def test_an_outcome_of_an_older_attempt_changes_nothing(tracked: Tracked, kind: OutcomeKind) -> None:
    """An outcome of an older attempt, or of one that has not begun, changes nothing."""
    running = tracked.put_into("running")
    for attempt in (running.attempt - 1, running.attempt + 1):
        stale = Outcome(running.fence, kind, "worker-1", attempt)
        assert accepted(tracked.connection, [stale]) == []
    assert tracked.get(running.id) == running
    assert tracked.events(running) == ["created", "started"]


def test_a_report_of_an_older_attempt_changes_nothing(tracked: Tracked) -> None:
    """A report of an older attempt changes nothing."""
    running = tracked.put_into("running")
    assert not jobs.report(tracked.connection, Progress(running.fence, running.attempt - 1, percent=50))
    assert tracked.get(running.id) == running


@pytest.mark.parametrize("kind", KINDS)
def test_an_outcome_without_an_attempt_is_of_the_current_one(tracked: Tracked, kind: OutcomeKind) -> None:
    """An outcome without an attempt's number counts for the current attempt."""
    running = tracked.put_into("running")
    ended = accepted(tracked.connection, [Outcome(running.fence, kind, "worker-1")])
    assert [settled.job_id for settled in ended] == [running.id]


def test_the_reaper_ends_the_waiting_for_a_body_that_nobody_runs(tracked: Tracked) -> None:
    """A stopping job whose worker died can be retried after the reaper's look."""
    stopping = tracked.put_into("stopping")
    assert _reap(tracked, stopping) == []
    assert not tracked.get(stopping.id).stopping
    assert tracked.events(stopping)[-2:] == ["cancelled", "stopped"]


@pytest.mark.parametrize("word", ["", "Queued", "done", "stopping"])
def test_the_database_refuses_any_other_state(tracked: Tracked, word: str) -> None:
    """The database refuses any state that is not in the contract."""
    job = tracked.submit()
    with pytest.raises(IntegrityError, match="jobs_status_known"):
        tracked.connection.execute(
            table.update().where(table.c.id == job.id).values(status=word, completed_at=table.c.created_at)
        )


def _in_its_second_dispatch(tracked: Tracked, situation: str) -> JobRecord:
    """A job in that situation whose first dispatch was handed back."""
    job = tracked.put_into("running")
    return tracked.bring(tracked.end(job, "released"), situation)
