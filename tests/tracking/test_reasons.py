"""What people are told: one sentence for each reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import get_args
from uuid import UUID

import pytest

from tracking.admission.job_limits import Per
from tracking.reads.reasons import (
    Awaited,
    BackOff,
    Cancelled,
    CircuitOpen,
    Dependency,
    External,
    Failed,
    InLine,
    Lifting,
    Limited,
    Paused,
    Reason,
    Running,
    Scheduled,
    Sent,
    Stopping,
    Succeeded,
    Unsent,
    Unserved,
)
from tracking.states import Hold, Status

# In another time zone: people are told UTC.
AT = datetime(2026, 11, 24, 5, 0, 7, 250_000, tzinfo=UTC).astimezone(timezone(timedelta(hours=2)))
TOLD = "2026-11-24 05:00:07 UTC"
JOB = UUID(int=7)

SENTENCES: list[tuple[Reason, str]] = [
    (
        Dependency(1, 1, [Awaited(JOB, Status.RUNNING)]),
        f"Waiting for the job {JOB} to succeed, which is running.",
    ),
    (Dependency(1, 1, [Awaited(JOB, None)]), f"Waiting for the job {JOB} to succeed, which is gone."),
    (Dependency(1, 1, []), "Waiting for 1 of 1 job that it depends on to succeed."),
    (Dependency(3, 2, [Awaited(JOB, None)]), "Waiting for 2 of 3 jobs that it depends on to succeed."),
    (Scheduled(AT), f"Scheduled: it is due at {TOLD}."),
    (
        BackOff(AT, 2, "ConnectionError", "no route"),
        f"Attempt 2 has failed with ConnectionError: no route; the next one is due at {TOLD}.",
    ),
    (BackOff(AT, 1, None, None), f"Attempt 1 has failed; the next one is due at {TOLD}."),
    (
        Paused("sync", everywhere=False, paused_by="u1", reason="moving house", paused_at=AT),
        f"Jobs of type sync of the organization are paused by u1 (moving house) since {TOLD}.",
    ),
    (
        Paused(None, everywhere=False, paused_by="u1", reason=None, paused_at=AT),
        f"The jobs of the organization are paused by u1 since {TOLD}.",
    ),
    (
        Paused("sync", everywhere=True, paused_by=None, reason=None, paused_at=AT),
        f"Jobs of type sync of all organizations are paused by an operator of the platform since {TOLD}.",
    ),
    (
        CircuitOpen("sync", None, everywhere=False, state="open", failures=5, open_until=AT),
        (
            "The circuit of sync has opened in the organization after 5 failures in a row:"
            f" until {TOLD} none is started, then one tries."
        ),
    ),
    (
        CircuitOpen("notification", "hooks.example", everywhere=True, state="half_open", failures=1, open_until=AT),
        (
            "The circuit of notification for hooks.example has opened for all organizations after 1 failure in a row:"
            " one job tries, the others wait for its success."
        ),
    ),
    (
        Limited(Per.ORGANIZATION, "sync", None, concurrency=2, executing=2, rate=None, period=None, sent=None),
        "Waiting for the limit of sync jobs of the organization: 2 may execute at once, and 2 do.",
    ),
    (
        Limited(Per.KEY, "sync", "42", concurrency=1, executing=0, rate=30, period=60.0, sent=30),
        (
            "Waiting for the limit of sync jobs with the key 42:"
            " 1 may execute at once, and 0 do; 30 may be sent in 60 seconds, and 30 were."
        ),
    ),
    (
        Limited(Per.PLATFORM, "sync", None, concurrency=9, executing=None, rate=None, period=None, sent=None),
        "Waiting for the limit of sync jobs of all organizations: 9 may execute at once.",
    ),
    (
        Limited(Per.ORGANIZATION, None, None, concurrency=None, executing=None, rate=1, period=1.0, sent=1),
        "Waiting for the limit of jobs of the organization: 1 may be sent in 1 second, and 1 were.",
    ),
    (
        InLine(5, 5, 3, [JOB]),
        "Waiting for one of the organization's 5 slots: 5 of 5 are taken; 3rd in line.",
    ),
    (
        InLine(5, 5, 10_000, [], place_is_capped=True),
        "Waiting for one of the organization's 5 slots: 5 of 5 are taken; after the 10000th in line.",
    ),
    (InLine(5, 2, 11, []), "Waiting for its organization's turn, for the workers are busy: 11th in line."),
    (InLine(0, 9, 2, []), "Waiting for its organization's turn, for the workers are busy: 2nd in line."),
    (InLine(1, 1, 1, []), "Waiting for the organization's only slot: 1 of 1 are taken; 1st in line."),
    (Unserved("reports"), "No living worker consumes the queue reports."),
    (Lifting(Hold.PAUSED), "What it waited for (paused) is over: it is about to be looked at again."),
    (Unsent("default", AT), f"On its way to the queue default since {TOLD}: the broker has not confirmed it yet."),
    (Sent("default", 2, 1, AT), "2nd of the organization's jobs in the queue default, which 1 worker consumes."),
    (Sent("default", 113, 4, AT), "113th of the organization's jobs in the queue default, which 4 workers consume."),
    (Running("worker-1", 2, AT, is_alive=True), f"Attempt 2 runs on worker-1 since {TOLD}."),
    (
        Running("worker-1", 1, AT, is_alive=False),
        f"Attempt 1 runs on worker-1 since {TOLD}, but that worker is silent: the job will start again.",
    ),
    (
        External(None, AT),
        f"Its work is done elsewhere: nobody has begun it yet; the last word of it is of {TOLD}.",
    ),
    (External("u1", AT), f"Its work is done elsewhere: u1 has begun it; the last word of it is of {TOLD}."),
    (
        Stopping("worker-1", AT, AT, is_alive=True),
        f"Cancelled at {TOLD}; its body is still stopping on worker-1, which heard of it at {TOLD}.",
    ),
    (
        Stopping("worker-1", AT, None, is_alive=True),
        f"Cancelled at {TOLD}; its body is still stopping on worker-1, which has not heard of it yet.",
    ),
    (
        Stopping("worker-1", AT, AT, is_alive=False),
        f"Cancelled at {TOLD}; its body is still stopping on worker-1, which is silent.",
    ),
    (Succeeded(1, "worker-1", AT), f"Succeeded in 1 attempt, on worker-1 at {TOLD}."),
    (
        Failed(3, "ValueError", "wrong", "worker-1", AT),
        f"Failed after 3 attempts with ValueError: wrong; reported by worker-1 at {TOLD}.",
    ),
    (
        Failed(0, "NotRegistered", "sync", "worker-1", AT),
        f"Failed before its first attempt with NotRegistered: sync; reported by worker-1 at {TOLD}.",
    ),
    (Cancelled("u2", "not needed", AT), f"Cancelled by u2 at {TOLD}: not needed."),
    (Cancelled("u2", None, AT), f"Cancelled by u2 at {TOLD}."),
]


@pytest.mark.parametrize(("reason", "sentence"), SENTENCES)
def test_a_reason_is_told_in_one_sentence(reason: Reason, sentence: str) -> None:
    """Each kind of reason has one sentence with its numbers and UTC times."""
    assert reason.sentence == sentence


def test_every_kind_of_reason_has_its_sentence_here() -> None:
    """Every kind of reason has its sentence among those of these tests."""
    assert {type(reason) for reason, _ in SENTENCES} == set(get_args(Reason))
