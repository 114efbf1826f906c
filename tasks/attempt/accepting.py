"""Writing how an attempt ended: the outcome, and what follows from it, in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import structlog
from celery.exceptions import SoftTimeLimitExceeded

from tasks import submission
from tasks.attempt import handing, telling
from tasks.attempt.outcomes import End
from tasks.attempt.succession import Succession
from tasks.current import Running
from tasks.persistence import DatabaseAway, persist
from tasks.platform import Platform
from tasks.refusals import instead_of
from tracking import groups, jobs
from tracking.admission import circuits
from tracking.crashpoints import FINISHED, SETTLED, crash_point
from tracking.models import Attempt, Breaker, Fence, JobRecord, Outcome, Settled

log = structlog.get_logger(__name__)

# What an outcome has led to: where its job is now, and the jobs that were accepted with it.
Accepted = tuple[Settled, list[JobRecord]]


def accept(platform: Platform, now: Running, end: End, error: BaseException | None = None) -> None:
    """Write how an attempt ended, and what follows from it, then send that; or hand it to the main process.

    `error`: what its body raised. Raises DatabaseAway when the database cannot be reached for an hour.
    """
    end = end.with_news(now.reporter.close())
    outcome, job_id = end.outcome, str(now.attempt.job_id)
    telling.ending(outcome)
    crash_point(FINISHED)
    if outcome.failure is None or not platform.error_hook.is_set:  # which hears of what the body raised
        now.handed = handing.handed(now, end, platform.app.tasks[now.attempt.job_type])
    if now.handed is not None:
        now.settled, now.has_failed = True, outcome.kind != "succeeded"
        return
    if now.is_batched:  # the main process opens its circuit, after the ends that came before and are not written yet
        end = replace(end, outcome=replace(outcome, breaker=None))
    accepted = written(platform, outcome, lambda: _accepted(platform, end))
    crash_point(SETTLED)
    now.settled = True
    if accepted is None:
        persist(lambda: stop(platform, now.attempt, outcome.actor, end.how), job_id=job_id)
        log.warning("outcome.refused", outcome=outcome.kind, how=end.how)
        return
    settled, successors = accepted
    telling.ended(platform, now, outcome, settled, error)
    for successor in successors:
        submission.dispatch(platform, successor)
    follow(platform, settled)
    persist(lambda: trip(platform, end.outcome, settled), job_id=job_id)


def written(platform: Platform, outcome: Outcome, write: Callable[[], Accepted | None]) -> Accepted | None:
    """What `write` makes of an outcome; when the database refuses that for good, the attempt fails with the reason."""
    job_id = str(outcome.fence.job_id)
    try:
        return persist(write, job_id=job_id)
    except (DatabaseAway, SoftTimeLimitExceeded):
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is: without an outcome the job would run for ever
        instead = instead_of(outcome, error)
        log.error("outcome.unwritable", job_id=job_id, outcome=outcome.kind, error=type(error).__name__)  # noqa: TRY400 - no payloads in the log
        return persist(lambda: accept_alone(platform, instead), job_id=job_id)


def accept_alone(platform: Platform, outcome: Outcome) -> Accepted | None:
    """Write an outcome without what would follow from it; None when nobody expects it any more."""
    with platform.database.autocommit() as connection:
        [settled] = jobs.settle(connection, [outcome], max_losses=platform.settings.max_losses)
    return (settled, []) if settled else None


def stopped(platform: Platform, fence: Fence, actor: str, how: str) -> bool:
    """Record that the body of a cancelled job is over. False when nobody waits for that."""
    with platform.database.autocommit() as connection:
        return jobs.stopped(connection, fence, actor=actor, how=how)


def stop(platform: Platform, attempt: Attempt, actor: str, how: str) -> bool:
    """Record that a body which nobody expects is over, and have sent what waited for that; otherwise like `stopped`."""
    was_awaited = stopped(platform, attempt.fence, actor, how)
    platform.dispatcher.follow(attempt.job_id, attempt.owner.organization_id)
    return was_awaited


def follow(platform: Platform, settled: Settled) -> None:
    """Have sent what waited for this end."""
    if settled.is_awaited or settled.is_followed:
        platform.dispatcher.follow(settled.job_id, settled.organization_id)
    elif settled.has_line:
        platform.dispatcher.refill(settled.organization_id)


def trip(platform: Platform, outcome: Outcome, settled: Settled) -> None:
    """See to the circuit of a job whose attempt has failed: open, or one to open as others failed at that moment."""
    if outcome.breaker is None or settled.failed_in is None:
        return
    if not settled.has_opened:
        look(platform, settled.job_id, outcome.breaker)
        return
    job_type, key = settled.failed_in
    with platform.database.autocommit() as connection:
        circuits.spread(connection, job_type, key)
    log.error("circuit.opened", job_type=job_type, organization=settled.organization_id)


def look(platform: Platform, job_id: UUID, breaker: Breaker) -> None:
    """Open the circuit of a job if the last attempts in it have failed, however they were written."""
    with platform.database.autocommit() as connection:
        opened = circuits.trip(connection, job_id, failures=breaker.failures, pause=breaker.pause)
    if opened is not None:
        log.error("circuit.opened", job_type=opened.job_type, organization=opened.organization_id)


def _accepted(platform: Platform, end: End) -> Accepted | None:
    """The outcome, and what follows from it, in one transaction; None when nobody expects it any more."""
    if not end.may_be_followed:
        return accept_alone(platform, end.outcome)
    with platform.database.begin() as connection:
        if end.request.chord and end.group_id:
            groups.lock(connection, end.group_id)
        [settled] = jobs.settle(connection, [end.outcome], max_losses=platform.settings.max_losses)
        if settled is None:
            return None
        followers = Succession(platform, connection).follow(end, settled)
    is_left = settled.is_followed and not (end.request.chain or end.request.chord)
    return replace(settled, is_followed=is_left), followers
