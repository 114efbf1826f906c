"""What needs somebody, first on the page of the jobs: queues without a worker, circuits that are open, pauses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from api.dashboard.searching import quoted
from api.dashboard.site import Visit
from api.dashboard.wording import trying
from tracking.admission import circuits, pauses, queue_pauses
from tracking.reads import unserved
from tracking.reads.unserved import Unserved


@dataclass(frozen=True, slots=True)
class Need:
    """Something that needs somebody: what, in a sentence, and a search for the jobs that it is about, by its name."""

    what: str
    sentence: str
    search: str | None = None
    called: str = "Its failures"


def needs(visit: Visit, *, is_served: bool) -> Sequence[Need]:
    """Of the organization, as far as the visitor may see its jobs. `is_served`: some worker is alive."""
    return [*_unserved(visit, is_served=is_served), *_circuits(visit), *_pauses(visit)]


def _unserved(visit: Visit, *, is_served: bool) -> Iterator[Need]:
    found = visit.read(unserved.queues, visit.principal.scope, visit.platform.limits.lease_timeout)
    if is_served:
        for each in found:
            sentence = f"{_jobs(each)} in this queue can run, and no living worker consumes it."
            yield Need(f"Queue {each.queue}", sentence, quoted("queue", each.queue), "Its jobs")
    elif found:
        verb = "wait" if len(found) > 1 or found[0].waiting != 1 else "waits"
        told = ", ".join(f"{_jobs(each)} in {each.queue}" for each in found)
        yield Need("No worker", f"No worker is alive, and jobs that can run {verb}: {told}.")


def _circuits(visit: Visit) -> Iterator[Need]:
    for circuit in visit.read(circuits.opened, visit.principal.organization):
        if circuit.key and circuit.everywhere:
            continue  # only others may have named it
        whose = f" for {circuit.key}" if circuit.key else ""
        failing = f"The last {circuit.failures} attempts{whose} have failed"
        if circuit.everywhere:  # it may stand beside the one of the organization
            failing = "Jobs of several organizations keep failing"
        yield Need(
            circuit.job_type, f"{failing}; {trying(circuit)}.", f"{quoted('type', circuit.job_type)} status:failed"
        )


def _pauses(visit: Visit) -> Iterator[Need]:
    for pause in visit.read(pauses.of, visit.principal.organization):
        who = pause.shown_by or "an operator of the platform"
        why = f": {pause.reason}" if pause.reason else ""
        sentence = f"Paused by {who} at {pause.paused_at:%H:%M} UTC{why}. What waits does not start."
        yield Need(pause.job_type or "All jobs", sentence)
    for queue in visit.read(queue_pauses.holding, visit.principal.scope):
        why = f": {queue.reason}" if queue.reason else ""
        sentence = (
            f"Paused by an operator of the platform at {queue.paused_at:%H:%M} UTC{why}. What waits does not start."
        )
        yield Need(f"Queue {queue.queue}", sentence, quoted("queue", queue.queue), "Its jobs")


def _jobs(found: Unserved) -> str:
    if found.waiting == 1:
        return "1 job"
    return f"{found.waiting:,} jobs" + (" and more" if found.is_capped else "")
