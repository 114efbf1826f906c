"""All that two workers, a leader, somebody who cancels and retries, and a pruner can do with two jobs, in any order.

The verbs run on PostgreSQL, each from every state of the two rows that can be reached; what workers know of their
claims is kept beside. States that are equal but for times are one. A job has two dispatches at most, which is enough
for a late message, a second claim and an outcome that comes too late.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

from psycopg.pq import ExecStatus
from sqlalchemy import Connection, text

from tests.tracked import ACME, Tracked, new_job, wish
from tracking import jobs, retention
from tracking.admission import line
from tracking.admission.rule import Limits
from tracking.db import Database
from tracking.errors import IllegalMove, JobNotFound
from tracking.models import Attempt, Failure, Fence, Outcome
from tracking.reads import promises
from tracking.reads.invariants import FIRST_ID, LAST_ID, _of_range
from tracking.retention import Policy
from tracking.states import FINISHED, MOVES, OutcomeKind, Status

IDS = (UUID(int=1), UUID(int=2))
ONE = Limits(1)  # so that one of the two stands in line
BETWEEN_VACUUMS = 20  # states: each leaves its rows behind, which all later ones would pass
MOST_DISPATCHES = (2, 1)  # of each: the other one is there to stand in its way
KINDS: tuple[OutcomeKind, ...] = ("succeeded", "failed", "released")
AT_ONCE = Policy(dict.fromkeys(FINISHED, timedelta(days=-1)))

Row = (
    tuple[Any, ...] | None
)  # of a job: status, hold, dispatch, attempt, retries, losses, stopping; None: there is none
Claimed = tuple[int, int, int] | None  # what a worker knows: a job's place in IDS, its dispatch, the attempt
Action = tuple[Any, ...]
LEGAL = {(str(move.source), str(move.target)) for move in MOVES}


@dataclass
class State:
    """Both rows, and who was submitted; `saved`: the rows and their history as one way there has left them."""

    rows: tuple[Row, Row]
    submitted: frozenset[int]
    saved: tuple[str, str]
    pending: set[tuple[Claimed, Claimed]] = field(default_factory=set)
    known: set[tuple[Claimed, Claimed]] = field(default_factory=set)
    after: dict[Action, tuple[Any, bool]] = field(
        default_factory=dict
    )  # of an action: the next state, and whether it did

    @property
    def key(self) -> tuple[Any, ...]:
        return self.rows, self.submitted


class Explored:
    """All states that are found, and what is looked at in each of them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.states: dict[Any, State] = {}
        self.steps = 0
        with database.begin() as self.connection:
            self._seen(frozenset()).pending.add((None, None))

    def explore(self) -> None:
        """Go on until nothing new is found."""
        while unfinished := [state for state in self.states.values() if state.pending]:
            for number, state in enumerate(unfinished):
                if number % BETWEEN_VACUUMS == 0:
                    with self.database.autocommit() as connection:
                        connection.exec_driver_sql("VACUUM jobs, history")
                with self.database.begin() as self.connection:
                    self.connection.exec_driver_sql("SET LOCAL plan_cache_mode = force_generic_plan")
                    self._look_on_from(state)
                    self.connection.rollback()

    def _look_on_from(self, state: State) -> None:
        self._is_loaded = False
        while state.pending:
            claims = state.pending.pop()
            state.known.add(claims)
            self._expand(state, claims)

    def _expand(self, state: State, claims: tuple[Claimed, Claimed]) -> None:
        for number, action in actions(state, claims):
            if action not in state.after:
                state.after[action] = self._do(state, action)
            following, done = state.after[action]
            if following is None:
                continue
            known = list(claims)
            if action[0] == "claim" and done:
                place = action[1]
                granted = (place, action[2], following.rows[place][3])
                assert granted not in claims, "two workers have the same attempt"
                known[number] = granted
            if action[0] == "settle" and done:
                row = state.rows[action[1]]
                assert row is not None
                assert (row[0], row[2], row[3]) == (Status.RUNNING, *action[2:4]), (
                    "an outcome of an attempt that was over"
                )
            pair = cast("tuple[Claimed, Claimed]", tuple(known))
            if pair not in following.known:
                following.pending.add(pair)

    def _do(self, state: State, action: Action) -> tuple[State | None, bool]:
        """Do it to the rows that are loaded, look at what it has left, and undo it."""
        if not self._is_loaded:
            self._load(state)
        self.steps += 1
        self._send(b"SAVEPOINT before")
        done = do(self.connection, action)
        self._check_moves(state)
        submitted = state.submitted | ({action[1]} if action[0] == "submit" else set())
        following = self._seen(frozenset(submitted))
        is_within = all(
            row is None or row[2] <= most for row, most in zip(following.rows, MOST_DISPATCHES, strict=True)
        )
        self._send(b"ROLLBACK TO SAVEPOINT before")
        assert done or following.rows == state.rows, f"{action} was refused, and changed {state.rows}"
        return (following if is_within else None), done

    def _send(self, command: bytes) -> None:
        """By libpq: psycopg, which hears of a ROLLBACK, forgets all that it has prepared, to be planned again."""
        driver: Any = self.connection.connection.driver_connection
        sent = driver.pgconn.exec_(command)
        assert sent.status == ExecStatus.COMMAND_OK, sent.error_message

    def _check_moves(self, state: State) -> None:
        """Every row of history that was added goes on where the job was, by a move that is allowed."""
        at = {IDS[place]: row and str(row[0]) for place, row in enumerate(state.rows)}
        for entry in self.connection.execute(ADDED, {"last": self._last}):
            assert entry.from_status == at[entry.job_id], entry
            if entry.from_status is not None and entry.from_status != entry.to_status:
                assert (entry.from_status, entry.to_status) in LEGAL, entry
            at[entry.job_id] = entry.to_status

    def _seen(self, submitted: frozenset[int]) -> State:
        """The state of the rows as they are now; what `verify` asks of jobs is asked when it is new."""
        found = {row[0]: tuple(row[1:]) for row in self.connection.execute(ROWS)}
        rows = (found.get(IDS[0]), found.get(IDS[1]))
        if (rows, submitted) not in self.states:
            self._check(rows)
            saved = self.connection.execute(SAVED).one()
            self.states[rows, submitted] = State(rows, submitted, (json.dumps(saved.jobs), json.dumps(saved.history)))
        return self.states[rows, submitted]

    def _check(self, rows: tuple[Row, Row]) -> None:
        within = {"first": FIRST_ID, "last": LAST_ID, "since": None, "examples": 5}
        broken = self.connection.execute(_of_range(), {**promises.PARAMETERS, **within}).all()
        assert [(each.name, each.violations) for each in broken if each.violations] == [], rows
        executing = [row for row in rows if row and (row[0] == Status.RUNNING or row[6])]
        assert len(executing) <= ONE.concurrency, rows

    def _load(self, state: State) -> None:
        self.connection.execute(LOAD_JOBS, {"rows": state.saved[0]})
        self.connection.execute(LOAD_HISTORY, {"rows": state.saved[1]})
        self._last = self.connection.execute(LAST).scalar_one()
        self._is_loaded = True


def actions(state: State, claims: tuple[Claimed, Claimed]) -> Iterator[tuple[int, Action]]:
    """What can be done now, and the number of the worker that does it; 0 as well for all others."""
    for place, row in enumerate(state.rows):
        if place not in state.submitted:
            yield 0, ("submit", place)
        for dispatch in range(1, (row[2] if row else MOST_DISPATCHES[place]) + 1) if place in state.submitted else ():
            for number in range(len(claims)):
                yield number, ("claim", place, dispatch)  # any message may come late, or twice
        if row is not None:
            yield from ((0, (verb, place)) for verb in ("lost", "stopped", "cancel", "retry"))
    for number, claimed in enumerate(claims):
        yield from ((number, ("settle", *claimed, kind)) for kind in KINDS if claimed is not None)
    yield from ((0, (verb,)) for verb in ("admit", "prune"))


def do(connection: Connection, action: Action) -> bool:
    """Whether the verb did anything."""
    name, *of = action
    with suppress(IllegalMove, JobNotFound):
        return VERBS[name](connection, *of)
    return False


def _submit(connection: Connection, place: int) -> bool:
    return jobs.submit(connection, new_job(id=IDS[place]), ONE).created


def _claim(connection: Connection, place: int, dispatch: int) -> bool:
    [answer] = jobs.claim(connection, [wish(Fence(IDS[place], dispatch))])
    return isinstance(answer, Attempt)


def _settle(connection: Connection, place: int, dispatch: int, attempt: int, kind: OutcomeKind) -> bool:
    failure = None if kind in ("succeeded", "released") else Failure("ValueError", "wrong", "")
    ended = Outcome(Fence(IDS[place], dispatch), kind, "worker-1", attempt, failure=failure)
    return bool([each for each in jobs.settle(connection, [ended], max_losses=2) if each])


def _lost(connection: Connection, place: int) -> bool:
    job = Tracked(connection).get(IDS[place])
    return bool(
        [each for each in jobs.settle(connection, [Outcome(job.fence, "lost", "upkeep")], max_losses=2) if each]
    )


def _stopped(connection: Connection, place: int) -> bool:
    return jobs.stopped(connection, Tracked(connection).get(IDS[place]).fence, actor="worker-1", how="killed")


def _retry(connection: Connection, place: int) -> bool:
    return bool(jobs.retry(connection, IDS[place], ACME, actor="u1", force=True, limits=ONE))


VERBS: dict[str, Callable[..., bool]] = {
    "submit": _submit,
    "claim": _claim,
    "settle": _settle,
    "lost": _lost,
    "stopped": _stopped,
    "retry": _retry,
    "admit": lambda connection: bool(line.admit(connection, "acme", ONE, 10)),
    "cancel": lambda connection, place: bool(jobs.cancel(connection, IDS[place], ACME, actor="u1")),
    "prune": lambda connection: bool(retention.prune(connection, AT_ONCE, limit=None).total),
}

ROWS = text("SELECT id, status, hold, dispatch, attempt, retry_count, losses, stopping FROM jobs")
LAST = text("SELECT coalesce(max(id), 0) FROM history")
ADDED = text("SELECT job_id, event, from_status, to_status FROM history WHERE id > :last ORDER BY id")
SAVED = text(
    """
    SELECT coalesce((SELECT jsonb_agg(to_jsonb(jobs)) FROM jobs), '[]') AS jobs,
           coalesce((SELECT jsonb_agg(to_jsonb(history)) FROM history), '[]') AS history"""
)
LOAD_JOBS = text("INSERT INTO jobs SELECT * FROM jsonb_populate_recordset(NULL::jobs, CAST(:rows AS jsonb))")
LOAD_HISTORY = text(
    """
    INSERT INTO history OVERRIDING SYSTEM VALUE
    SELECT * FROM jsonb_populate_recordset(NULL::history, CAST(:rows AS jsonb))"""
)


def test_no_order_of_what_all_can_do_breaks_a_promise(database: Database) -> None:
    """Whatever two workers, a leader, a canceller and a pruner do with two jobs, no promise is broken."""
    explored = Explored(database)
    explored.explore()
    rows = {row for state in explored.states.values() for row in state.rows}
    assert {row and row[0] for row in rows} == {None, *map(str, Status)} - {"retrying"}
    assert {row[1] for row in rows if row} == {None, "organization_limit"}
