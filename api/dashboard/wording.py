"""How the pages say things: times, durations, JSON, and why a job waits."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from markupsafe import Markup, escape

from tracking.admission.circuits import Circuit
from tracking.admission.organizations import Slots
from tracking.models import JobRecord
from tracking.states import ACTIVE, Hold, Status

MARKS = {
    Status.QUEUED: "◦",
    Status.RUNNING: "▸",
    Status.RETRYING: "↻",
    Status.SUCCEEDED: "✓",
    Status.FAILED: "✕",
    Status.CANCELLED: "⊘",
}
HELD = {
    Hold.SCHEDULE: "Due now",
    Hold.BACKOFF: "Again now",
    Hold.DEPENDENCY: "Waiting for another job to succeed",
    Hold.CIRCUIT: "Jobs of its type keep failing: it waits until another one has succeeded",
    Hold.LIMIT: "Waiting for the limit of its type: as many as may execute, or were sent",
    Hold.PAUSED: "Jobs like this one are paused",
    Hold.EXTERNAL: "Waiting for whoever does it elsewhere to report",
}
UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
NOTHING = "\N{EN DASH}"
LONGEST_RESULT = 120  # characters, in a row
LONGEST_SAID = 600  # characters of what a job says of itself, where all of it stands elsewhere
LONGEST_END = 100  # of these, behind what is left out
OVERRIDES = re.compile("[\u202a-\u202e\u2066-\u2069]")  # of the direction of writing, as a terminal shows them too
BETWEEN = re.compile(r"(?<=[_./:-])(?=\w)")
CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a job's waiting depends on, read once for all rows of a page."""

    organization: Slots
    served: frozenset[str]  # queues with a living worker
    now: datetime


def news(job: JobRecord, around: Surroundings) -> str:
    """The one thing to know of a job: where it is, why it waits, or how it ended."""
    if job.status is Status.RUNNING:
        return job.message or f"On {job.worker}"
    if job.status in ACTIVE:
        return why_it_waits(job, around)
    if job.status is Status.FAILED:
        return ": ".join(part for part in (job.error_type, job.error_message) if part) or "It failed."
    if job.status is Status.CANCELLED:
        return "Its body is still stopping." if job.stopping else (job.error_message or "Cancelled")
    return _in_short(job.result) if job.result is not None else (job.message or "")


def why_it_waits(job: JobRecord, around: Surroundings) -> str:
    """Why a job does not run, from its row; `explain` looks closer."""
    if job.due_at and job.hold in (Hold.SCHEDULE, Hold.BACKOFF):
        begins, error = ("Due", None) if job.hold is Hold.SCHEDULE else ("Again", job.error_message or job.error_type)
        return f"{begins} {when(job.due_at, around.now)}" + (f" · {error}" if error else "")
    is_next = job.hold in (None, Hold.ORGANIZATION_LIMIT)
    if is_next and job.queue not in around.served:  # neither a slot nor a turn helps
        return f"No living worker consumes the queue {job.queue}"
    if job.hold is Hold.ORGANIZATION_LIMIT:
        return _line(around.organization)
    if job.hold is Hold.DEPENDENCY and len(job.depends_on) > 1:
        return f"Waiting for {len(job.depends_on)} jobs to succeed"
    if job.hold is not None:
        return HELD[job.hold]
    return f"In the queue {job.queue}" if job.dispatched_at else f"On its way to the queue {job.queue}"


def trying(circuit: Circuit) -> str:
    """What a circuit that is not closed lets through."""
    if circuit.state == "open":
        return f"none starts until {circuit.probe_at:%H:%M:%S} UTC, then one tries"
    if circuit.probe_id is not None:
        return "one job tries now, the others wait for its success"
    return "the next job tries, others wait for its success"


def _line(organization: Slots) -> str:
    if 0 < organization.limit <= organization.executing:
        return f"Waiting for a slot: {organization.executing} of {organization.limit} are taken"
    return "Waiting for its organization's turn: the workers are busy"


def ago(at: datetime | None, now: datetime) -> str:
    """How long ago that was, roughly."""
    if at is None:
        return NOTHING
    return f"{span(now - at)} ago" if now - at >= timedelta(seconds=1) else "now"


def when(at: datetime, now: datetime) -> str:
    """When that will be."""
    left = at - now
    return f"in {span(left)}" if left > timedelta(seconds=1) else "now"


def span(length: timedelta) -> str:
    """A length of time in its largest unit."""
    seconds = length.total_seconds()
    for size, unit in UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return "0 s"


def exactly(length: timedelta | None) -> str:
    """A duration as precisely as it matters."""
    if length is None:
        return NOTHING
    seconds = max(0.0, length.total_seconds())
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def pretty(value: Any) -> str:
    """JSON to read, numbers exactly as they are."""
    return spelled(value, indent=2)


def spelled(value: Any, **options: Any) -> str:
    """JSON in the letters of its texts; those that turn what stands behind them around are escaped, as JSON may."""
    return _escaped(json.dumps(value, ensure_ascii=False, **options))


def shortened(text: str, most: int = LONGEST_SAID) -> str:
    """The text without what turns the words after it around; of a long one its beginning and its end."""
    text = text if len(text) <= most else f"{text[: most - 2 * LONGEST_END]} … {text[-LONGEST_END:]}"
    return _escaped(text)


def breakable(name: str) -> Markup:
    """A name that a narrow column breaks between its words, not within one."""
    return Markup("<wbr>").join(BETWEEN.split(name))  # which escapes the parts


def coded(text: str) -> Markup:
    """A sentence in which code is set as such."""
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else escape(part)
        for number, part in enumerate(CODE.split(text))
    )


def clock(at: datetime) -> str:
    """The time of a day, in UTC."""
    return f"{at.astimezone(UTC):%H:%M:%S}.{at.microsecond // 1000:03d}"


def joined(words: Sequence[str]) -> str:
    """One, two and three."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _in_short(result: Any) -> str:
    text = spelled(result)
    return text if len(text) <= LONGEST_RESULT else f"{text[: LONGEST_RESULT - 1]}…"


def _escaped(text: str) -> str:
    return OVERRIDES.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
