"""How long the last attempt of a job waited, lay in the broker and ran, as bars that a template writes as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from api.dashboard.wording import exactly
from tracking.models import JobRecord
from tracking.reads.answers import HistoryEntry
from tracking.reads.types import Durations
from tracking.states import FINISHED, WAITING, Event, Hold, Status

WIDTH = 1000
THINNEST = 6.0  # of WIDTH: what took no time to speak of can still be seen
MEASURABLE = timedelta(milliseconds=1)
TIMED = (Hold.SCHEDULE, Hold.BACKOFF)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an attempt's time; `since`: it goes on, and began then."""

    kind: str
    name: str
    length: timedelta
    since: datetime | None
    x: float = 0.0
    width: float = 0.0


@dataclass(frozen=True, slots=True)
class Compared:
    """A run beside the runs of its type: places on a bar, and the same in words."""

    ran: float
    median: float
    slowest: float
    verdict: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """The current or last attempt: its parts in their order, and what else is to know. `compared` None: nothing is."""

    number: int
    parts: Sequence[Part]
    notes: Sequence[str]
    of_type: str | None
    compared: Compared | None


@dataclass(frozen=True, slots=True)
class _Times:
    since: datetime
    lifted: datetime | None
    started: datetime | None
    ended: datetime | None


def attempt_of(
    job: JobRecord, timeline: Sequence[HistoryEntry], now: datetime, usual: Durations | None
) -> Attempt | None:
    """The current or last attempt of a job, by its history, oldest first. None: its history was removed."""
    times = _times(timeline)
    if times is None:
        return None
    ran = None if times.started is None else max(timedelta(0), (times.ended or now) - times.started)
    return Attempt(
        number=job.attempt if times.started else job.attempt + 1,
        parts=_placed(_parts(job, times, now)),
        notes=_notes(job, timeline, times, now),
        of_type=_usually(usual) if usual else None,
        compared=_compared(ran, usual, is_over=times.ended is not None) if usual and ran is not None else None,
    )


def _times(timeline: Sequence[HistoryEntry]) -> _Times | None:
    """When its last wait began, when the last hold of it was over, and when it ended in a start or without one."""
    since = lifted = started = ended = None
    for entry in timeline:
        if entry.event is Event.STARTED:
            started, ended = entry.at, None
        elif entry.to_status in WAITING and entry.from_status not in WAITING:
            since, lifted, started, ended = entry.at, None, None, None
        elif entry.event in (Event.DUE, Event.HELD):
            lifted = entry.at if entry.event is Event.DUE and "next" not in entry.detail else None
        elif entry.to_status in FINISHED and entry.from_status not in FINISHED:
            ended = entry.at
    return _Times(since, lifted, started, ended) if since is not None else None


def _parts(job: JobRecord, times: _Times, now: datetime) -> list[Part]:
    until = times.started or times.ended or now
    waits = times.started is None and times.ended is None
    sent = job.dispatched_at if job.dispatched_at and times.since <= job.dispatched_at <= until else None
    starts = [at for at in (times.started, job.started_at) if at is not None]
    if sent and times.started and any(abs(at - sent) < MEASURABLE for at in starts):
        sent = None  # a claim that is ahead of the confirm of its message writes its own time
    lifted = times.lifted if times.started and times.lifted and times.lifted <= until and not sent else None
    found = [
        Part(
            "waiting",
            _wait(job, times, is_divided=bool(sent or lifted)),
            (sent or lifted or until) - times.since,
            times.since if waits and not sent else None,
        )
    ]
    if lifted:  # handed over by a message or without one: only the one that waits says which
        found.append(Part("broker", "on its way", until - lifted, None))
    if sent:
        found.append(Part("broker", "in the broker", until - sent, sent if waits else None))
    if times.started:
        goes_on = times.ended is None
        length = (times.ended or now) - times.started
        found.append(Part("ran", "running" if goes_on else "ran", length, times.started if goes_on else None))
    return found


def _wait(job: JobRecord, times: _Times, *, is_divided: bool) -> str:
    if times.started is None:
        return "held" if job.hold and times.ended is None else "waiting"
    if times.lifted:
        return "held"
    return "waiting" if is_divided else "waiting and in the broker"


def _placed(parts: Sequence[Part]) -> list[Part]:
    """The parts beside each other over the whole width, none too thin to be seen."""
    seconds = [max(0.0, part.length.total_seconds()) for part in parts]
    total = sum(seconds) or 1.0
    widths = [max(THINNEST, WIDTH * each / total) for each in seconds]
    scale, x, found = WIDTH / sum(widths), 0.0, []
    for part, width in zip(parts, widths, strict=True):
        found.append(Part(part.kind, part.name, part.length, part.since, round(x, 1), round(scale * width, 1)))
        x += scale * width
    return found


def _notes(job: JobRecord, timeline: Sequence[HistoryEntry], times: _Times, now: datetime) -> list[str]:
    until = times.started or times.ended or now
    over = [entry.at for entry in timeline if entry.event is Event.DUE and entry.detail.get("hold") in TIMED]
    due = next((at for at in (job.scheduled_at, *over) if at and times.since < at < until), None)
    found = [f"For {exactly(due - times.since)} of the wait it was not due yet."] if due else []
    if times.started is None and times.ended is not None:
        found.append("This attempt never ran." if job.attempt else "It never ran.")
    if job.stopping:
        found.append("It was cancelled, and its body still runs.")
    elif times.started and times.ended and job.status is Status.CANCELLED:
        found.append("It ran until it was cancelled.")
    return found


def _usually(usual: Durations) -> str:
    half, most = exactly(usual.median), exactly(usual.slowest)
    if usual.number == 1:
        return f"The one other job of its type that succeeded lately ran {half}."
    return (
        f"Of the {usual.number} others of its type that succeeded lately, half ran {half} at most (p50),"
        f" 95 of 100 {most} at most (p95)."
    )


def _compared(ran: timedelta, usual: Durations, *, is_over: bool) -> Compared:
    longest = max(ran, usual.slowest, MEASURABLE)
    run, median, slowest = (round(WIDTH * (each / longest), 1) for each in (ran, usual.median, usual.slowest))
    if ran > usual.slowest:
        verdict = "longer than 95 of 100"
    elif ran > usual.median:
        verdict = "longer than half of them"
    else:
        verdict = "no longer than half of them" if is_over else "not yet longer than half of them"
    return Compared(run, median, slowest, verdict)
