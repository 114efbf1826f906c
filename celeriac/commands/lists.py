"""The columns of what commands list."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from celeriac.client.answers import Answer, Circuit, JobType, Stats
from celeriac.commands.screen import Columns, lasted
from tracking.values import Instant

HISTORY: Columns = {
    "id": lambda job: job.job_id,
    "type": lambda job: job.type,
    "status": lambda job: job.status,
    "took": lambda job: lasted(job.duration_ms),
    "retries": lambda job: job.retry_count,
    "completed": lambda job: job.completed_at,
    "error": lambda job: job.error,
}
QUEUES: Columns = {
    "queue": lambda queue: queue.name,
    "workers": lambda queue: queue.workers,
    "slots": lambda queue: queue.slots,
    "running": lambda queue: queue.running,
    "waiting": lambda queue: queue.waiting,
    "held": lambda queue: queue.held,
    "oldest": lambda queue: lasted(queue.oldest_waiting_age_ms),
    "paused": lambda queue: queue.pause and " ".join(filter(None, (f"by {queue.pause.paused_by}", queue.pause.reason))),
}
WORKERS: Columns = {
    "worker": lambda worker: worker.name,
    "is": lambda worker: "alive" if worker.is_alive else "dead",
    "running": lambda worker: f"{worker.running}/{worker.concurrency}",
    "queues": lambda worker: worker.queues,
    "pid": lambda worker: worker.pid,
    "started": lambda worker: worker.started_at,
    "seen": lambda worker: worker.seen_at,
}
PAUSES: Columns = {
    "type": lambda pause: pause.job_type or "(all types)",
    "where": lambda pause: "everywhere" if pause.everywhere else "here",
    "by": lambda pause: pause.paused_by or "an operator",
    "since": lambda pause: pause.paused_at,
    "reason": lambda pause: pause.reason,
}
CIRCUITS: Columns = {
    "type": lambda circuit: circuit.job_type,
    "key": lambda circuit: circuit.key,
    "is": lambda circuit: circuit.state,
    "where": lambda circuit: "everywhere" if circuit.everywhere else "here",
    "failures": lambda circuit: circuit.failures,
    "until": lambda circuit: circuit.open_until,
}
TYPES: Columns = {
    "type": lambda kind: kind.job_type,
    "permission": lambda kind: kind.permission,
    "work": lambda kind: "elsewhere" if kind.external else "here",
    "circuit": lambda kind: kind.circuit.state,
    "paused": lambda kind: "paused" if kind.pauses else None,
    "takes": lambda kind: list(kind.payload_schema.get("properties", {})),
}
AUDIT: Columns = {
    "at": lambda entry: entry.at,
    "who": lambda entry: entry.actor or "an operator",
    "by": lambda entry: entry.source,
    "did": lambda entry: entry.action,
    "to": lambda entry: entry.target,
    "outcome": lambda entry: entry.outcome if entry.code is None else f"{entry.outcome}: {entry.code}",
    "detail": lambda entry: json.dumps(entry.detail, ensure_ascii=False) if entry.detail else None,
}


class ShownCircuit(Answer):
    """A circuit with the type that it is of; `key`: it holds only the jobs that depend on that."""

    job_type: str
    key: str | None
    state: str
    everywhere: bool
    failures: int | None
    open_until: Instant | None


def circuits_of(types: Iterable[JobType], *, every: bool) -> Iterator[ShownCircuit]:
    """The circuits of these types that are not closed, or `every` one."""
    for kind in types:
        found = kind.circuit
        if every or found.state != "closed":
            yield _circuit(kind, None, found.state, found.open_until, found)
        for each in found.keys:
            yield _circuit(kind, each.key, each.state, each.open_until, None)


def _circuit(kind: JobType, key: str | None, state: str, until: datetime | None, whole: Circuit | None) -> ShownCircuit:
    """`whole` None: it is of a key, whose failures nobody is told."""
    said = {
        "jobType": kind.job_type,
        "key": key,
        "state": state,
        "everywhere": whole is not None and whole.everywhere,
        "failures": whole and whole.failures,
        "openUntil": until,
    }
    return ShownCircuit.model_validate(said)


def stats_of(found: Stats) -> dict[str, Any]:
    """Counts as lines: those that a person looks for first."""
    return {
        "pending": found.pending,
        "scheduled": found.scheduled,
        "held": found.held,
        "running": found.running,
        "retrying": found.retrying,
        "succeeded": found.completed,
        "failed": found.failed,
        "cancelled": found.cancelled,
        "oldest pending": lasted(found.oldest_pending_age_ms),
        "average": lasted(found.average_duration_ms),
    }
