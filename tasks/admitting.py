"""Letting waiting jobs through: at once after what may have made room for them, and in turns by upkeep."""

from __future__ import annotations

import time
from collections.abc import Iterable
from uuid import UUID

import structlog
from sqlalchemy import Connection

from tracking import admission, circuits
from tracking.admission import Limits
from tracking.db import database
from tracking.models import JobRecord
from tracking.settings import settings
from tracking.states import Hold

log = structlog.get_logger(__name__)

BATCH = 500
GATES_INTERVAL = 1.0  # seconds between two looks at pauses, circuits and dependencies


def after(job_id: UUID, organization_id: str) -> list[JobRecord]:
    """The jobs that may be dispatched now that something has happened to this job of this organization."""
    limits = _limits()
    with database().autocommit() as connection:
        lifted = [
            *_judged(connection, limits),
            *admission.lift_dependents(connection, limits, BATCH, job_id),
        ]
        cancelled = admission.cancel_dependents(connection, BATCH, job_id)
    _log_cancelled(cancelled)
    return _dispatchable(lifted, {organization_id})


def resumed(organizations: Iterable[str] = ()) -> list[JobRecord]:
    """The jobs that may be dispatched now that a pause is over, or that these organizations have another limit."""
    with database().autocommit() as connection:
        lifted = admission.lift_gated(connection, _limits(), BATCH)
    return _dispatchable(lifted, set(organizations))


class Turns:
    """What the leader lets through in each of its turns: what is due, and whatever was missed at the moment itself."""

    def __init__(self) -> None:
        self._gates_at = 0.0

    def turn(self, connection: Connection) -> list[JobRecord]:
        """The jobs that may be dispatched now, the organizations in turns."""
        limits = _limits()
        lifted = admission.lift_due(connection, limits, BATCH)
        if time.monotonic() >= self._gates_at:
            lifted += self._look_at_gates(connection, limits)
        return _dispatchable(lifted, set(admission.with_room(connection, limits)))

    def _look_at_gates(self, connection: Connection, limits: Limits) -> list[JobRecord]:
        self._gates_at = time.monotonic() + GATES_INTERVAL
        _log_cancelled(admission.cancel_dependents(connection, BATCH))
        for job in admission.take_back_unserved(connection, limits, BATCH):
            log.warning("job.unserved", job_id=str(job.id), queue=job.queue)
        for organization_id in admission.overbooked(connection, limits):
            _take_back_excess(organization_id, limits)
        lifted = _judged(connection, limits)
        for probe in circuits.probe(connection, limits):
            log.warning("circuit.probed", job_id=str(probe))
        return [
            *lifted,
            *admission.lift_gated(connection, limits, BATCH),
            *admission.lift_dependents(connection, limits, BATCH),
        ]


def _judged(connection: Connection, limits: Limits) -> list[JobRecord]:
    closed = circuits.judge(connection)
    for job_type in closed:
        log.warning("circuit.closed", job_type=job_type)
    return admission.lift_gated(connection, limits, BATCH) if closed else []


def _dispatchable(lifted: Iterable[JobRecord], organizations: set[str]) -> list[JobRecord]:
    """Those that wait for nothing more, and the first in the lines of these and the lifted jobs' organizations."""
    lifted = list(lifted)
    lines = organizations | {job.organization_id for job in lifted if job.hold is Hold.ORGANIZATION_LIMIT}
    admitted: list[JobRecord] = []
    for organization_id in sorted(lines):
        with database().begin() as connection:
            admitted += admission.admit(connection, organization_id, _limits(), BATCH)
    return admission.in_turns([*(job for job in lifted if job.hold is None), *admitted])


def _take_back_excess(organization_id: str, limits: Limits) -> None:
    with database().begin() as connection:
        taken_back = admission.take_back_excess(connection, organization_id, limits)
    log.warning("limit.exceeded", organization=organization_id, taken_back=[str(job.id) for job in taken_back[:10]])


def _log_cancelled(cancelled: Iterable[JobRecord]) -> None:
    for job in cancelled:
        log.warning("job.cancelled", job_id=str(job.id), reason=job.error_message)


def _limits() -> Limits:
    return Limits.configured(settings())
