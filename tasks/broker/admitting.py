"""Letting waiting jobs through: at once after what may have made room for them, and in turns by upkeep."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog

from tasks.failures import alone
from tracking.admission import circuits, holds, line
from tracking.admission.rule import Limits
from tracking.db import Connection, Database
from tracking.models import JobRecord
from tracking.states import Hold

log = structlog.get_logger(__name__)

BATCH = 500


@dataclass(frozen=True)
class Admission:
    """Lets jobs of this database through, under these limits."""

    database: Database
    limits: Limits

    def after(self, job_id: UUID, organization_id: str) -> list[JobRecord]:
        """The jobs that may be dispatched now that something has happened to this job of this organization."""
        with self.database.autocommit() as connection:
            lifted = [
                *self._judged(connection),
                *holds.lift_dependents(connection, self.limits, BATCH, job_id),
            ]
            cancelled = holds.cancel_dependents(connection, BATCH, job_id)
        _log_cancelled(cancelled)
        return self._dispatchable(lifted, {organization_id})

    def refilled(self, organization_id: str) -> list[JobRecord]:
        """The jobs that may be dispatched now that one of this organization has started, or has left its slot."""
        return self._admitted({organization_id})

    def resumed(self, organizations: Iterable[str]) -> list[JobRecord]:
        """The jobs that may be dispatched now that a pause is over, or that these organizations have another limit."""
        with self.database.autocommit() as connection:
            lifted = holds.lift_gated(connection, self.limits, BATCH)
        return self._dispatchable(lifted, set(organizations))

    def due(self) -> list[JobRecord]:
        """The jobs that may be dispatched now that their time has come."""
        with self.database.autocommit() as connection:
            lifted = holds.lift_due(connection, self.limits, BATCH)
        return self._taking_turns(lifted)

    def next_in_line(self) -> list[JobRecord]:
        """The first in the lines of organizations that have room."""
        return self._admitted(self._with_room())

    def ungated(self) -> list[JobRecord]:
        """The jobs whose pause is over or whose circuit is closed, and that were not sent at that moment."""
        with self.database.autocommit() as connection:
            lifted = holds.lift_gated(connection, self.limits, BATCH)
        return self._taking_turns(lifted)

    def undepending(self) -> list[JobRecord]:
        """The jobs whose dependencies have ended; those that can never run are cancelled."""
        with self.database.autocommit() as connection:
            _log_cancelled(holds.cancel_dependents(connection, BATCH))
            lifted = holds.lift_dependents(connection, self.limits, BATCH)
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

    def _judged(self, connection: Connection) -> list[JobRecord]:
        closed = circuits.judge(connection)
        for job_type in closed:
            log.warning("circuit.closed", job_type=job_type)
        return holds.lift_gated(connection, self.limits, BATCH) if closed else []

    def _taking_turns(self, lifted: Sequence[JobRecord]) -> list[JobRecord]:
        """The same as `_dispatchable`, but a job that comes into a line is not served before the lines of others."""
        comes_into_line = any(job.hold is Hold.ORGANIZATION_LIMIT for job in lifted)
        return self._dispatchable(lifted, self._with_room() if comes_into_line else set())

    def _with_room(self) -> set[str]:
        with self.database.autocommit() as connection:
            return set(line.with_room(connection, self.limits))

    def _dispatchable(self, lifted: Iterable[JobRecord], organizations: set[str]) -> list[JobRecord]:
        """Those that wait for nothing more, and the first in the lines of these and the lifted jobs' organizations."""
        lifted = list(lifted)
        lines = organizations | {job.organization_id for job in lifted if job.hold is Hold.ORGANIZATION_LIMIT}
        return line.in_turns([*(job for job in lifted if job.hold is None), *self._admitted(lines)])

    def _admitted(self, organizations: set[str]) -> list[JobRecord]:
        """The first in the lines of these organizations; of several each gets one slot, then two more, and so on."""
        admitted: list[JobRecord] = []
        most = 1 if len(organizations) > 1 else BATCH
        while organizations:
            found = {organization_id: self._admit(organization_id, most) for organization_id in sorted(organizations)}
            admitted += [job for jobs in found.values() for job in jobs]
            organizations = {organization_id for organization_id, jobs in found.items() if len(jobs) == most < BATCH}
            most = min(2 * most, BATCH)
        return admitted

    def _admit(self, organization_id: str, most: int) -> list[JobRecord]:
        with alone("line.failed", organization=organization_id), self.database.begin() as connection:
            return line.admit(connection, organization_id, self.limits, BATCH, most)
        return []

    def _take_back_excess(self, organization_id: str) -> None:
        with self.database.begin() as connection:
            taken_back = line.take_back_excess(connection, organization_id, self.limits)
        log.warning("limit.exceeded", organization=organization_id, taken_back=[str(job.id) for job in taken_back[:10]])


def _log_cancelled(cancelled: Iterable[JobRecord]) -> None:
    for job in cancelled:
        log.warning("job.cancelled", job_id=str(job.id), reason=job.error_message)
