"""The claim of an attempt, before Celery's trace begins: the row says whether there is a body to run, and which."""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

import structlog
from celery.app.task import Context
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from kombu.utils import json as kombu_json

from tasks import current
from tasks.attempt.handing import Grant, Offer
from tasks.attempt.interruptions import is_over_limit
from tasks.broker.messages import called
from tasks.current import Running
from tasks.persistence import DatabaseAway, persist
from tasks.platform import Platform
from tasks.progress import JobCancelled, Reporter
from tracking import dead_letters, jobs
from tracking.crashpoints import CLAIMED, crash_point
from tracking.db import DBAPIError
from tracking.dead_letters import BODY_BYTES, NewDeadLetter
from tracking.identifiers import trace_ids
from tracking.models import Attempt, Claim, Fence, Progress, Refusal

log = structlog.get_logger(__name__)

# What Celery's context of a running task has from the message, and from the worker; the row says everything else.
MESSAGE_SAYS = frozenset(
    {"id", "task", "lang", "origin", "argsrepr", "kwargsrepr", "correlation_id", "properties", "delivery_info", "utc"}
    | {"hostname", "loglevel", "logfile", "is_eager"}
)


def claim(platform: Platform, context: Context, task: Any, fence: Fence | None) -> tuple[Running, BaseException | None]:
    """The attempt that a message is for, and why its body cannot begin; None: it can.

    Raises what the main process is to be told when there is nothing to run, Ignore, or no database to ask, Reject.
    """
    since = time.monotonic()  # like the time limits of Celery, which do not wait for the claim
    granted = _granted(context, fence)
    try:
        answer: Attempt | Refusal | None = granted
        if fence is None:
            answer = Refusal.UNKNOWN
        elif answer is None:
            answer = _ask(platform, context, task.name, fence)
        if answer is Refusal.UNKNOWN:
            _keep_unknown(platform, context)
    except DatabaseAway:
        raise Reject("the database is away", requeue=True) from None
    if isinstance(answer, Refusal):
        tell_refused(answer)
        raise Ignore
    crash_point(CLAIMED)
    ids = {"job_id": str(answer.job_id), "dispatch": answer.fence.dispatch, "attempt": answer.attempt}
    structlog.contextvars.bind_contextvars(**ids, **trace_ids(answer.delivery))
    log.info("job.started", organization=answer.owner.organization_id)
    if answer.leaves_place:
        platform.dispatcher.refill(answer.owner.organization_id)
    now = Running(answer, Reporter(answer, lambda progress: write_progress(platform, progress)), since)
    now.is_granted = granted is not None
    now.is_batched = now.is_granted or isinstance(getattr(context, current.CLAIMED, None), Offer)
    error = _follow_row(context, task, answer)
    current.keep(context, now)
    return now, error


def tell_refused(answer: Refusal, **ids: Any) -> None:
    """Log why a message is not run. A late or repeated one is nothing to mend: brokers and ourselves make them."""
    say = log.warning if answer in (Refusal.UNKNOWN, Refusal.OTHER_TYPE) else log.info
    say("claim.refused", reason=str(answer), **ids)


def end_before_begin(platform: Platform, context: Context, now: Running) -> BaseException | None:
    """What an interruption that came during the claim means; None: nothing, it was meant for another job."""
    if is_over_limit(platform.app, context, now):
        return SoftTimeLimitExceeded("before the body began")
    return None if write_progress(platform, Progress(now.attempt.fence, now.attempt.attempt)) else JobCancelled()


def write_progress(platform: Platform, progress: Progress) -> bool:
    """Write what a body says of itself; False when nobody expects this attempt any more."""

    def write() -> bool:
        with platform.database.autocommit() as connection:
            return jobs.report(connection, progress)

    try:
        return persist(write, patience=0, defer_interrupt=True, job_id=str(progress.fence.job_id))
    except DatabaseAway:
        return True  # progress may be missed; the outcome will be written when the database is back
    except (DBAPIError, ValueError) as error:  # refused for good: what a body reports never fails it
        log.warning("progress.refused", job_id=str(progress.fence.job_id), error=type(error).__name__)
        return True


def _granted(context: Context, fence: Fence | None) -> Attempt | None:
    """What the main process has claimed for this message. The message cannot say it: it holds no value of that kind."""
    given = getattr(context, current.CLAIMED, None)
    attempt = given.opened() if isinstance(given, Grant) else None
    return attempt if attempt is not None and attempt.fence == fence else None


def _ask(platform: Platform, context: Context, job_type: str, fence: Fence) -> Attempt | Refusal:
    """The answer to the claim. Raises DatabaseAway."""
    structlog.contextvars.bind_contextvars(job_id=str(fence.job_id), dispatch=fence.dispatch)
    lease = platform.app.lease
    wish = Claim(fence, uuid4(), str(context.hostname), lease.id if lease is not None else None, job_type)

    def ask() -> Attempt | Refusal:
        with platform.database.autocommit() as connection:
            return jobs.claim(connection, [wish])[0]

    return persist(ask, patience=platform.settings.claim_patience)


def _follow_row(context: Context, task: Any, attempt: Attempt) -> BaseException | None:
    """Let the context be what the row says, whatever the message has said; returns why that cannot be."""
    said = vars(context)
    kept = {name: value for name, value in said.items() if name in MESSAGE_SAYS}
    said.clear()
    said.update(kept)
    try:
        context.update(called(attempt, takes_payload=task.takes_payload))
    except Exception as error:  # noqa: BLE001 - whatever the decoder of an unknown mark raises
        return error
    return None


def _keep_unknown(platform: Platform, context: Any) -> None:
    """Keep the message of a job that does not exist. Raises DatabaseAway."""
    sent = [context.args, context.kwargs, {"callbacks": context.callbacks, "chain": context.chain}]
    body = kombu_json.dumps(sent).encode()
    headers = {**(context.headers or {}), "id": context.id, "root_id": context.root_id, "parent_id": context.parent_id}
    delivery = context.delivery_info or {}
    letter = NewDeadLetter(
        receipt=uuid4(),
        queue=str(delivery.get("routing_key") or ""),
        worker=str(context.hostname),
        reason="it is of a job that does not exist: of one that is gone, or forged",
        task_name=context.task if isinstance(context.task, str) else None,
        task_id=context.id if isinstance(context.id, str) else None,
        content_type="application/json",
        headers=dead_letters.shortened(headers),
        body=body[:BODY_BYTES],
        size=len(body),
        redelivered=bool(delivery.get("redelivered")),
    )

    def keep() -> None:
        with platform.database.autocommit() as connection:
            dead_letters.keep(connection, letter)

    persist(keep, patience=platform.settings.claim_patience)
