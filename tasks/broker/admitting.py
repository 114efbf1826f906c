"""Letting waiting jobs through: at once after what may have made room for them, and in turns by upkeep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog

from tasks.failures import alone
from tasks.limiting import Limiting
from tracking.admission import circuits, holds, line, weights, within
from tracking.admission.rule import Limits
from tracking.db import Connection, Database
from tracking.models import JobRecord
from tracking.states import IN_LINE

log = structlog.get_logger(__name__)

BATCH = 500
MOST_BATCHES = 10  # of jobs that wait for one, when that ends
MOST_BESIDE = 4  # organizations that are looked at when a job has left its place under a limit that they share


@dataclass(frozen=True)
class Admission:
    """Lets jobs of this database through, under these limits."""

    database: Database
    limits: Limits
    limiting: Limiting

    def after(self, job_id: UUID, organization_id: str) -> list[JobRecord]:
        """The jobs that may be dispatched now that something has happened to this job of this organization."""
        with self.database.autocommit() as connection:
            lifted = [*self._judged(connection), *self._followers(connection, job_id)]
            cancelled = holds.cancel_dependents(connection, BATCH, job_id)
        _log_cancelled(cancelled)
        return self._dispatchable(lifted, [organization_id], self._sharing())

    def refilled(self, organization_id: str) -> list[JobRecord]:
        """The jobs that may be dispatched now that one of this organization has started, or has left its slot."""
        return self._admitted([organization_id], self._sharing())

    def filled(self, connection: Connection, freed: Mapping[str, int], ahead: line.Ahead) -> line.Filled:
        """Those that get the slots which this transaction has freed, so many of each organization.

        With limits of types all of them are left to a later look: who is within those is found out under more locks.
        """
        if self.limiting.known().any:
            return line.Filled(left={*freed})
        return line.fill(connection, freed, self.limits, BATCH, ahead)

    def resumed(self, organizations: Iterable[str]) -> list[JobRecord]:
        """The jobs that may be dispatched now that a pause is over, or that these organizations have another limit."""
        with self.database.autocommit() as connection:
            lifted = holds.lift_gated(connection, self.limits, BATCH)
        return self._dispatchable(lifted, organizations, self._within_limits())

    def due(self) -> list[JobRecord]:
        """The jobs that may be dispatched now that their time has come."""
        with self.database.autocommit() as connection:
            lifted = holds.lift_due(connection, self.limits, BATCH)
        return self._taking_turns(lifted)

    def next_in_line(self) -> list[JobRecord]:
        """The first in the lines of organizations that have room, and those for which limits have room."""
        return self._admitted(self._with_room(), self._within_limits())

    def seconds_to_room(self) -> float | None:
        """After how many seconds a rate has room for what waits; None: nothing waits for one."""
        if not self.limiting.known().any:
            return None
        with self.database.autocommit() as connection:
            return within.seconds_to_room(connection)

    def forget_expired(self) -> bool:
        """Remove what counts in no rate any more; whether there is more of it."""
        if not self.limiting.known().any:
            return False
        with self.database.autocommit() as connection:
            return within.forget_expired(connection, BATCH) == BATCH

    def ungated(self) -> list[JobRecord]:
        """The jobs whose pause is over or whose circuit is closed, and that were not sent at that moment."""
        with self.database.autocommit() as connection:
            lifted = holds.lift_gated(connection, self.limits, BATCH)
        return self._taking_turns(lifted)

    def undepending(self, after: UUID = holds.FIRST) -> list[JobRecord]:
        """The jobs whose dependencies have ended; those that can never run are cancelled. Of a window `after` an id."""
        with self.database.autocommit() as connection:
            _log_cancelled(holds.cancel_dependents(connection, BATCH, after=after))
            lifted = holds.lift_dependents(connection, self.limits, BATCH, after=after)
        return self._taking_turns(lifted)

    def probes(self) -> list[JobRecord]:
        """The jobs that wait no more as a circuit has closed; where one rests, the next probe is named."""
        with self.database.autocommit() as connection:
            lifted = self._judged(connection)
            for probe in circuits.probe(connection, self.limits):
                log.warning("circuit.probed", job_id=str(probe))
        return self._taking_turns(lifted)

    def take_back_unserved(self) -> None:
        """Put jobs of queues without a living worker back in line: they would hold slots."""
        with self.database.autocommit() as connection:
            taken_back = line.take_back_unserved(connection, self.limits, BATCH)
        for job in taken_back:
            log.warning("job.unserved", job_id=str(job.id), queue=job.queue)

    def take_back_crowd(self) -> None:
        """Put back in line what was sent beyond the slots of the workers, but one job of each organization."""
        with self.database.autocommit() as connection:
            taken_back = line.take_back_crowd(connection, self.limits, BATCH)
        for job in taken_back:
            log.info("job.taken_back", job_id=str(job.id), queue=job.queue)

    def take_back_excess(self) -> None:
        """Put back in line what was sent beyond a limit."""
        with self.database.autocommit() as connection:
            organizations = list(line.overbooked(connection, self.limits))
        for organization_id in organizations:
            with alone("limit.failed", organization=organization_id):
                self._take_back_excess(organization_id)

    def _followers(self, connection: Connection, job_id: UUID) -> list[JobRecord]:
        """The jobs that have waited for this one: all of many, for the leader, who looks at all, comes to them late."""
        lifted: list[JobRecord] = []
        for _ in range(MOST_BATCHES):
            lifted += (found := holds.lift_dependents(connection, self.limits, BATCH, job_id))
            if len(found) < BATCH:
                break
        return lifted

    def _judged(self, connection: Connection) -> list[JobRecord]:
        closed = circuits.judge(connection)
        for job_type in closed:
            log.warning("circuit.closed", job_type=job_type)
        return holds.lift_gated(connection, self.limits, BATCH) if closed else []

    def _taking_turns(self, lifted: Sequence[JobRecord]) -> list[JobRecord]:
        """The same as `_dispatchable`, but a job that comes into a line is not served before the lines of others."""
        comes_into_line = any(job.hold in IN_LINE for job in lifted)
        if not comes_into_line:
            return self._dispatchable(lifted, [])
        return self._dispatchable(lifted, self._with_room(), self._within_limits())

    def _with_room(self) -> Sequence[str]:
        with self.database.autocommit() as connection:
            return line.with_room(connection, self.limits)

    def _within_limits(self) -> Sequence[str]:
        """The organizations for whose limited jobs there is room, in their turns."""
        if not self.limiting.known().any:
            return []
        with self.database.autocommit() as connection:
            return within.with_room(connection, self.limits.parameters, BATCH)

    def _sharing(self) -> Sequence[str]:
        """The first of them that share a limit with others."""
        if not self.limiting.known().shared:
            return []
        with self.database.autocommit() as connection:
            return within.with_room(connection, self.limits.parameters, MOST_BESIDE, is_shared=True)

    def _dispatchable(
        self, lifted: Iterable[JobRecord], organizations: Iterable[str], turns: Sequence[str] = ()
    ) -> list[JobRecord]:
        """Those that wait for nothing more, and the first in the lines of these and the lifted jobs' organizations."""
        lifted = list(lifted)
        lines = [*organizations, *(job.organization_id for job in lifted if job.hold in IN_LINE)]
        return line.in_turns([*(job for job in lifted if job.hold is None), *self._admitted(lines, turns)])

    def _admitted(self, organizations: Iterable[str], turns: Sequence[str] = ()) -> list[JobRecord]:
        """The first in the lines of these organizations; of several each gets one slot, then two more, and so on.

        One with a greater weight gets as many times as much. `turns`: more of them, which come first, in this order.
        """
        admitted: list[JobRecord] = []
        most = dict.fromkeys([*turns, *sorted(organizations)], BATCH)
        if len(most) > 1:
            with self.database.autocommit() as connection:
                most = weights.weights(connection, list(most))
        while most:
            found = {
                organization_id: self._admit(organization_id, number, has_turn=organization_id in turns)
                for organization_id, number in most.items()
            }
            admitted += [job for jobs in found.values() for job in jobs]
            most = {
                organization_id: min(2 * most[organization_id], BATCH)
                for organization_id, jobs in found.items()
                if len(jobs) == most[organization_id] < BATCH
            }
        return admitted

    def _admit(self, organization_id: str, most: int, *, has_turn: bool) -> list[JobRecord]:
        is_limited = self.limiting.known().any
        with alone("line.failed", organization=organization_id), self.database.begin() as connection:
            return line.admit(
                connection, organization_id, self.limits, BATCH, most, is_limited=is_limited, has_turn=has_turn
            )
        return []

    def _take_back_excess(self, organization_id: str) -> None:
        with self.database.begin() as connection:
            taken_back = line.take_back_excess(connection, organization_id, self.limits)
        log.warning("limit.exceeded", organization=organization_id, taken_back=[str(job.id) for job in taken_back[:10]])


def _log_cancelled(cancelled: Iterable[JobRecord]) -> None:
    """Of a workflow with an `after` for either end, one job is skipped in each run: that is nothing to be warned of."""
    for job in cancelled:
        log.info("job.cancelled", job_id=str(job.id), reason=job.error_message)
