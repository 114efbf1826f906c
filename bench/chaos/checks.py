"""What must be true when all is whole again and has come to rest. Each check says in a line what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy import select

from bench.chaos.journal import read_journal
from bench.chaos.witness import Line, read_lines
from bench.chaos.world import LIMIT, UNLIMITED, World
from tracking.admission.rule import Limits
from tracking.reads import invariants
from tracking.schema import history, jobs
from tracking.states import FINISHED, Event, Status

KEPT = timedelta(days=30)  # succeeded jobs, by default
SENDER = "producer"  # the user of what the producer sends


@dataclass(frozen=True)
class Wrong:
    """One broken promise: `invariant` as `celeriac verify` or this file names it."""

    invariant: str
    text: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.text}"


@dataclass(frozen=True)
class State:
    """All rows, all history in order, and all that the bodies have witnessed."""

    rows: Sequence[Any]
    entries: Sequence[Any]
    lines: Sequence[Line]

    @property
    def starts(self) -> list[Line]:
        """The starts of bodies."""
        return [line for line in self.lines if line.is_start]


def read_state(world: World) -> State:
    """What there is now."""
    with world.database.autocommit() as connection:
        rows = connection.execute(select(jobs)).all()
        entries = connection.execute(select(history).order_by(history.c.id)).all()
    return State(rows, entries, read_lines(world.witness))


def lost(world: World, state: State) -> list[str]:
    """The accepted jobs that have no row, or one that has not come to an end."""
    ended = {row.id for row in state.rows if row.status in FINISHED and not row.stopping}
    return sorted(str(job_id) for job_id in accepted(world) - ended)


def accepted(world: World) -> set[UUID]:
    """The jobs that somebody was told are accepted."""
    sent = {job_id for job_id, entry in read_journal(world.journal).items() if entry["state"] == "accepted"}
    return sent | {ask.job_id for ask in world.ledger.accepted() if ask.job_id is not None}


def check(world: World, state: State) -> list[Wrong]:
    """Every promise that is broken; none after a sound run."""
    found = [
        *_invariants(world),
        *_created(world, state),
        *_sent(world, state),
        *_ended(state),
        *_claims(state),
        *_cancels(state),
        *_outcomes(state),
        *_chains(state),
        *_logs(world),
    ]
    return [*found, *over_limit([entry for entry in state.entries if entry.organization_id != UNLIMITED], LIMIT)]


def over_limit(entries: Sequence[Any], limit: int) -> Iterator[Wrong]:
    """Organizations of which more jobs executed at one instant than may, by the database's clock."""
    changes: list[tuple[str, datetime, int]] = []
    for entry in entries:
        began = entry.event == Event.STARTED
        ended = entry.from_status == Status.RUNNING and entry.to_status != Status.RUNNING
        if began or ended:
            changes.append((entry.organization_id, entry.at, 1 if began else -1))
    for organization, of_it in groupby(sorted(changes), key=lambda change: change[0]):
        most = executing = 0
        for _, _, change in of_it:  # at one instant the ends come first: a slot that is free is free
            executing += change
            most = max(most, executing)
        if most > limit:
            yield Wrong("organization_limit", f"{most} jobs of {organization} executed at once, {limit} may")


def _invariants(world: World) -> Iterator[Wrong]:
    for finding in invariants.verify(world.database, Limits(LIMIT), kept=KEPT):
        if not finding.holds:
            yield Wrong(finding.name, f"{finding.sentence} Broken by {finding.violations}: {finding.examples}")


def _created(world: World, state: State) -> Iterator[Wrong]:
    """Every 2xx create has one row, and every row that has a key one create."""
    rows = {row.idempotency_key: row for row in state.rows if row.idempotency_key}
    for ask in world.ledger.accepted():
        row = rows.get(ask.key)
        if row is None or row.id != ask.job_id or row.organization_id != ask.organization:
            yield Wrong("created", f"the accepted job {ask.job_id} has no row of its own")
    for key in rows.keys() - {ask.key for ask in world.ledger.accepted()}:
        yield Wrong("created", f"job {rows[key].id} has a row and was never accepted")


def _sent(world: World, state: State) -> Iterator[Wrong]:
    """Every call of the producer's that returned has one row; every other row descends from one of those."""
    journal = read_journal(world.journal)
    rows = {row.id: row for row in state.rows}
    for job_id, entry in journal.items():
        if entry["state"] == "accepted" and job_id not in rows:
            yield Wrong("created", f"job {job_id} was sent and has no row")
        elif entry["state"] == "asked":
            yield Wrong("created", f"the producer never learned what became of job {job_id}")
    for row in state.rows:
        if row.user_id == SENDER and row.id not in journal and row.root_id not in journal:
            yield Wrong("created", f"job {row.id} has a row and nobody has sent it")


def _ended(state: State) -> Iterator[Wrong]:
    """No row is left over, whoever made it."""
    for row in state.rows:
        if row.status not in FINISHED or row.stopping:
            yield Wrong("ended", f"job {row.id} is still {row.status} (hold {row.hold}, stopping {row.stopping})")


def _claims(state: State) -> Iterator[Wrong]:
    """No body starts without a claim, and none twice with one."""
    claims = {(entry.job_id, entry.attempt, entry.dispatch) for entry in state.entries if entry.event == Event.STARTED}
    times = Counter((line.job, line.attempt, line.dispatch) for line in state.starts)
    for claim, starts in times.items():
        if claim not in claims:
            yield Wrong("claimed", f"a body of job {claim[0]} started as attempt {claim[1]} without a claim")
        if starts > 1:
            yield Wrong("claimed", f"attempt {claim[1]} of job {claim[0]} started {starts} bodies")


def _cancels(state: State) -> Iterator[Wrong]:
    """No body starts with a claim that came after its job's cancel."""
    started = {(line.job, line.attempt) for line in state.starts}
    cancelled: set[UUID] = set()
    for entry in state.entries:
        if entry.event == Event.CANCELLED:
            cancelled.add(entry.job_id)
        elif entry.event == Event.RETRIED:
            cancelled.discard(entry.job_id)
        elif entry.event == Event.STARTED and entry.job_id in cancelled and (entry.job_id, entry.attempt) in started:
            yield Wrong("cancelled", f"attempt {entry.attempt} of job {entry.job_id} started after its cancel")


def _outcomes(state: State) -> Iterator[Wrong]:
    """A job succeeded when the body of its last attempt returned, and has succeeded once."""
    returned = {(line.job, line.attempt) for line in state.lines if line.what == "returned"}
    for row in state.rows:
        if row.status == Status.SUCCEEDED and (row.id, row.attempt) not in returned:
            yield Wrong("outcome", f"job {row.id} succeeded and the body of attempt {row.attempt} never returned")
    accepted_ends = Counter(entry.job_id for entry in state.entries if entry.event == Event.COMPLETED)
    for job_id, ends in accepted_ends.items():
        if ends > 1:
            yield Wrong("outcome", f"job {job_id} succeeded {ends} times")


def _chains(state: State) -> Iterator[Wrong]:
    """What follows in a chain exists once when the job before it has succeeded, and otherwise not at all."""
    followers = Counter(row.parent_id for row in state.rows if row.parent_id)
    for row in state.rows:
        expected = 1 if row.delivery.get("chain") and row.status == Status.SUCCEEDED else 0
        if followers[row.id] != expected:
            yield Wrong("chain", f"job {row.id} ({row.status}) has {followers[row.id]} followers, not {expected}")


def _logs(world: World) -> Iterator[Wrong]:
    """No log holds what jobs were given, nor a secret."""
    secrets: Mapping[str, str] = {**world.canaries, "the key of the tokens": world.secret, "a token": "eyJ"}
    for log in world.logs:
        text = log.read_text(errors="replace")
        for name, secret in secrets.items():
            if secret in text:
                line = next(line for line in text.splitlines() if secret in line)
                yield Wrong("logs", f"{log.name} shows {name}: {line[:160]}")
