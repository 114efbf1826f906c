"""The end of an attempt: what became of it, and where its job goes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, Literal, overload
from uuid import UUID

from sqlalchemy import Connection, Row, text

from tracking.admission.circuits import open_circuit
from tracking.admission.rule import has_line, is_awaited, is_followed
from tracking.batches import ask, in_turns
from tracking.db import Statement
from tracking.fingerprints import printed
from tracking.models import Fence, Outcome, Refusal, Settled
from tracking.sql import RUNS_THERE, UNLESS_LOCKED, array, chosen, each_locked, for_driver, jsonb, listed, move
from tracking.states import ENDS, FINISHED, LOSSES, MOVES, Event, Status

MAX_LOSSES = 3


@overload
def settle(
    connection: Connection, outcomes: Sequence[Outcome], *, max_losses: int = MAX_LOSSES, waits: Literal[True] = True
) -> list[Settled | None]: ...


@overload
def settle(
    connection: Connection, outcomes: Sequence[Outcome], *, max_losses: int = MAX_LOSSES, waits: Literal[False]
) -> list[Settled | Refusal | None]: ...


def settle(
    connection: Connection, outcomes: Sequence[Outcome], *, max_losses: int = MAX_LOSSES, waits: bool = True
) -> list[Any]:
    """Write how attempts ended, in one round trip and one transaction; an answer for each outcome, in their order.

    None: the job does not expect it any more. `waits`: for jobs that somebody else is changing; their answer is
    Refusal.LOCKED otherwise, and nothing of them is written.
    """
    answers: dict[int, Settled | Refusal | None] = {}
    for turn in in_turns([outcome.fence for outcome in outcomes]):
        ids = {place: outcomes[place].fence.job_id for place in turn}
        rows = ask(connection, ids, lambda places: _settlements(outcomes, places, max_losses), waits=waits)
        answers |= {place: _answer(outcomes[place].fence, row) for place, row in rows.items()}
    return [answers.get(place) for place in range(len(outcomes))]


def running(connection: Connection, lease: UUID) -> list[Fence]:
    """The dispatches whose attempts a worker runs."""
    return _fences(connection.execute(RUNNING, {"lease": lease}))


def orphans(connection: Connection, lease_timeout: timedelta, limit: int) -> tuple[Sequence[Fence], Sequence[Fence]]:
    """The running jobs, and the stopping bodies, of workers without a heartbeat for `lease_timeout`."""
    parameters = {"timeout": lease_timeout, "limit": limit}
    running = _fences(connection.execute(ORPHANS, parameters))
    return running, _fences(connection.execute(ABANDONED_STOPS, parameters))


def _fences(rows: Iterable[Row[Any]]) -> list[Fence]:
    return [Fence(row.id, row.dispatch) for row in rows]


def _answer(fence: Fence, row: Any) -> Settled | Refusal | None:
    if isinstance(row, Refusal):
        return row
    if row.status is None:
        return None
    return Settled(
        fence,
        row.organization_id,
        Status(row.status),
        row.has_line,
        row.is_awaited,
        row.is_followed,
        (row.job_type, row.failed_in) if row.failed_in is not None else None,
        row.has_opened,
    )


def _settlements(outcomes: Sequence[Outcome], places: Sequence[int], max_losses: int) -> Iterator[Statement]:
    """What comes before a failure is written before it: a success between failures is between them in the history."""
    plain: list[int] = []
    for place in places:
        outcome = outcomes[place]
        if _is_plain_success(outcome):
            plain.append(place)
            continue
        if outcome.breaker is not None:
            yield from _plain(outcomes, plain)
            plain = []
        yield SETTLE, {"place": place, **_outcome(outcome, max_losses)}
    yield from _plain(outcomes, plain)


def _plain(outcomes: Sequence[Outcome], places: Sequence[int]) -> Iterator[Statement]:
    if places:
        yield SUCCEED, _successes([outcomes[place] for place in places], places)


def _is_plain_success(outcome: Outcome) -> bool:
    return (
        outcome.kind == "succeeded"
        and outcome.attempt is not None
        and not (outcome.last_news or outcome.children or outcome.typed_result is not None)
    )


def _successes(outcomes: Sequence[Outcome], places: Sequence[int]) -> dict[str, Any]:
    return {
        "id": array(outcome.fence.job_id for outcome in outcomes),
        "place": array(places),
        "dispatch": array(outcome.fence.dispatch for outcome in outcomes),
        "attempt": array(outcome.attempt for outcome in outcomes),
        "actor": array(outcome.actor for outcome in outcomes),
        "result": array(None if outcome.result is None else json.dumps(outcome.result) for outcome in outcomes),
    }


def _outcome(outcome: Outcome, max_losses: int) -> dict[str, Any]:
    failure, news, changes = outcome.failure, outcome.last_news, outcome.changes
    return {
        **outcome.fence.parameters,
        "max_losses": max_losses,
        "attempt": outcome.attempt,
        "kind": outcome.kind,
        "actor": outcome.actor,
        "result": jsonb(outcome.result),
        "typed_result": jsonb(outcome.typed_result),
        "error_type": failure.type if failure else None,
        "error_message": failure.message if failure else None,
        "traceback": failure.traceback if failure else None,
        "kept": jsonb(_kept(outcome)),
        "delay": outcome.delay.total_seconds(),
        "payload": jsonb(changes.payload),
        "delivery": jsonb(changes.delivery),
        "queue": changes.queue,
        "priority": changes.priority,
        "max_retries": changes.max_retries,
        "circuit_key": changes.circuit_key,
        "counts": not (failure and failure.blames_payload),
        "percent": news.percent if news else None,
        "message": news.message if news else None,
        "detail": jsonb(news.detail) if news else None,
        "current_step": news.current_step if news else None,
        "total_steps": news.total_steps if news else None,
        "failures": outcome.breaker.failures if outcome.breaker else None,
        "pause": outcome.breaker.pause if outcome.breaker else None,
    }


def _kept(outcome: Outcome) -> dict[str, Any]:
    """What the history keeps as it is, nulls included, for whoever asks for the result."""
    exception = outcome.failure.exception if outcome.failure else None
    kept = {"exception": dict(exception) if exception else None, "children": list(outcome.children)}
    return {name: value for name, value in kept.items() if value}


_FROM_RUNNING = {move.target: move.event for move in MOVES if move.source is Status.RUNNING}
_LOST = f":kind IN ({listed(LOSSES)})"
_DURATION = "round(1000 * extract(EPOCH FROM coalesce(completed_at, updated_at) - started_at))"

_ERROR_TYPE = "CASE WHEN is_poison THEN 'WorkerLost' ELSE :error_type END"
_ERROR_MESSAGE = "CASE WHEN is_poison THEN 'the job took down ' || (losses + 1) || ' workers' ELSE :error_message END"

# The last entry of those who watch a job's progress: one that never reported any has none.
_LAST_PERCENT = f"CASE WHEN status = '{Status.SUCCEEDED}' AND reached > 0 THEN 100 END"

SETTLE = for_driver(
    move(
        chosen("status", _FROM_RUNNING),
        f"""status = target, dispatch = dispatch + CASE target WHEN 'queued' THEN 1 ELSE 0 END,
            dispatched_at = CASE target WHEN 'queued' THEN NULL ELSE dispatched_at END,
            hold = CASE WHEN target = 'retrying' THEN 'backoff' WHEN :kind = 'replaced' THEN 'dependency' END,
            follows = CASE :kind WHEN 'replaced' THEN jobs.id END,
            started_at = CASE :kind WHEN 'replaced' THEN NULL ELSE started_at END,
            due_at = CASE target WHEN 'retrying' THEN clock_timestamp() + make_interval(secs => :delay) END,
            retry_count = CASE WHEN :kind = 'replaced' THEN 0 WHEN target = 'retrying' THEN retry_count + 1
                          ELSE retry_count END,
            losses = CASE WHEN {_LOST} THEN losses + 1 WHEN :kind = 'replaced' THEN 0 ELSE losses END,
            payload = coalesce(:payload, payload),
            delivery = coalesce(delivery || :delivery, delivery),
            queue = coalesce(:queue, queue),
            priority = coalesce(:priority, priority),
            max_retries = greatest(max_retries, :max_retries),
            circuit_key = coalesce(:circuit_key, circuit_key),
            limit_key = CASE WHEN target IN ('queued', 'retrying') THEN NULL ELSE limit_key END,
            result = :result,
            typed_result = :typed_result,
            error_type = {_ERROR_TYPE},
            error_message = {_ERROR_MESSAGE},
            {printed(_ERROR_TYPE, _ERROR_MESSAGE, when=f"target = '{Status.FAILED}'")},
            progress = CASE target WHEN 'succeeded' THEN 100
                       ELSE greatest(progress, least(99, coalesce(:percent, 0))) END,
            message = coalesce(:message, message),
            progress_detail = coalesce(:detail, progress_detail),
            current_step = greatest(current_step, :current_step),
            total_steps = greatest(total_steps, :total_steps),
            cancel_requested_at = CASE target WHEN 'cancelled' THEN clock_timestamp() END,
            completed_at = CASE WHEN target IN ({listed(FINISHED)}) THEN clock_timestamp() END""",
        f"""jsonb_build_object(
                   'reason', CASE WHEN status IN ('queued', 'cancelled') THEN coalesce(error_message, :kind) END,
                   'errorType', error_type, 'error', error_message, 'traceback', CAST(:traceback AS text),
                   'lost', CASE WHEN {_LOST} THEN true END,
                   'dueAt', due_at,
                   'willRetry', CASE status WHEN 'retrying' THEN true WHEN 'failed' THEN false END,
                   'duration', CASE WHEN status IN ({listed((*FINISHED, Status.RETRYING))}) THEN {_DURATION} END,
                   'percentage', {_LAST_PERCENT})""",
        find="id = :id",
        wait=UNLESS_LOCKED,
        read=f"""dispatch AS from_dispatch, attempt AS from_attempt,
               CASE WHEN :counts AND :kind IN ('succeeded', 'failed', 'retry') THEN circuit_key END AS counts_in,
               CASE WHEN {_LOST} AND losses + 1 >= :max_losses THEN '{Status.FAILED}'
                    ELSE {chosen(":kind", ENDS)} END AS target,
               :kind = 'lost' AND losses + 1 >= :max_losses AS is_poison, progress AS reached""",
        guard=f"""from_dispatch = :dispatch AND from_status = '{Status.RUNNING}' AND NOT external
          AND from_attempt = coalesce(:attempt, from_attempt)""",
        returning="""jobs.id, organization_id, user_id, job_type, status, attempt, error_type, error_message, due_at,
                  started_at, completed_at, updated_at, group_id, limit_key, from_status, from_dispatch, counts_in,
                  reached""",
        dispatch="from_dispatch",
        circuit_key="counts_in",
        kept="coalesce(CAST(:kept AS jsonb), '{}')",
        answer=f""", opened AS ({open_circuit("moved")}
    )
    SELECT CAST(:place AS int) AS place, organization_id, status,
           {has_line("moved")} AS has_line, {is_awaited("moved")} AS is_awaited,
           {is_followed("moved")} AS is_followed, job_type,
           CASE WHEN CAST(:failures AS int) > 0 THEN moved.counts_in END AS failed_in,
           EXISTS (SELECT FROM opened) AS has_opened
    FROM locked LEFT JOIN moved USING (id)""",
    )
)

# SETTLE for the outcome that nearly all jobs have, of any number of them. FULL: what moved is looked up in a hash,
# however few the planner expects.
SUCCEED = for_driver(
    move(
        Event.COMPLETED,
        """result = CAST(given_result AS jsonb), progress = 100, error_type = NULL, error_message = NULL,
            completed_at = clock_timestamp()""",
        f"jsonb_build_object('duration', {_DURATION}, 'percentage', {_LAST_PERCENT})",
        locked=each_locked(
            {"place": "int", "dispatch": "int", "attempt": "int", "actor": "text", "result": "text"},
            "dispatch AS from_dispatch, attempt AS from_attempt, progress AS reached",
        ),
        to=Status.SUCCEEDED,
        guard="from_dispatch = given_dispatch AND from_attempt = given_attempt",
        by="given_actor",
        returning="""jobs.id, given_place, given_actor, dispatch, organization_id, user_id, job_type, status, attempt,
                  started_at, completed_at, updated_at, limit_key, from_status, circuit_key, reached""",
        circuit_key="circuit_key",
        answer=f"""SELECT given_place AS place, organization_id, status,
           {has_line("moved")} AS has_line, {is_awaited("moved")} AS is_awaited, false AS is_followed,
           NULL AS failed_in, false AS has_opened
    FROM locked FULL JOIN moved USING (given_place)""",
    )
)

RUNNING = text(f"SELECT id, dispatch FROM jobs WHERE lease = :lease AND {RUNS_THERE}")

_DEAD = """NOT EXISTS (SELECT FROM workers WHERE workers.lease = jobs.lease
                       AND workers.seen_at > clock_timestamp() - CAST(:timeout AS interval))"""

ORPHANS = text(
    f"SELECT id, dispatch FROM jobs"
    f" WHERE status = '{Status.RUNNING}' AND NOT external AND {_DEAD} ORDER BY lease LIMIT :limit"
)

ABANDONED_STOPS = text(f"SELECT id, dispatch FROM jobs WHERE stopping AND {_DEAD} ORDER BY lease LIMIT :limit")
