"""What the platform answers to the question why a job does not run."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tests.tracked import ACME, LEASE_TIMEOUT, Tracked
from tracking import jobs
from tracking.admission.rule import Limits
from tracking.models import JobRecord, Scope
from tracking.reads.explain import Explanation, explain

U1 = Scope("acme", "u1")
GLOBEX_SCOPE = Scope("globex", None)


def asked(tracked: Tracked, job: JobRecord, scope: Scope = ACME, limit: int = 5) -> Explanation:
    """The explanation of a job."""
    return explain(tracked.connection, job.id, scope, Limits(limit, LEASE_TIMEOUT))


def kinds(tracked: Tracked, job: JobRecord) -> list[str]:
    """The kinds of the reasons, in their order."""
    return [reason.kind for reason in asked(tracked, job).reasons]


def only(tracked: Tracked, job: JobRecord, scope: Scope = ACME) -> Any:
    (reason,) = asked(tracked, job, scope).reasons
    return reason


def known(at: datetime | None) -> datetime:
    """A time that must be there."""
    assert at is not None
    return at


def mark_sent(tracked: Tracked, job: JobRecord) -> JobRecord:
    """The broker has confirmed the job's message."""
    jobs.mark_dispatched(tracked.connection, [job.fence])
    return tracked.get(job.id)
