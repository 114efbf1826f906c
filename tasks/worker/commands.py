"""A worker's answers to remote control, where ours take the place of Celery's.

Celery's remember in the worker's memory what was revoked; ours cancel the row, through the recorder, because the event
loop must not wait for the database. They come from Flower, `celery control`, or a program without the platform.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import structlog
from billiard.common import TERM_SIGNAME
from celery.concurrency.prefork import TaskPool
from celery.platforms import signals
from celery.utils.collections import LimitedSet
from celery.utils.functional import maybe_list
from celery.worker import state as worker
from celery.worker.control import control_command, inspect_command, nok, ok  # type: ignore[attr-defined]  # missing in the stubs

from tasks import revoking
from tasks.broker.messages import DISPATCH_HEADER, fence_of
from tasks.revoking import Revocation
from tasks.worker.stopping import request_of
from tracking.errors import InvalidValue

log = structlog.get_logger(__name__)

# What this worker was told to revoke, for people who ask: nothing is decided by it. Kept as Celery keeps it.
_heard = LimitedSet(maxlen=worker.REVOKES_MAX, expires=worker.REVOKE_EXPIRES)

INTERRUPTION = "SIGUSR1"  # raises SoftTimeLimitExceeded in the body


@control_command(variadic="task_id", signature="[id1 [id2 [... [idN]]]]")
def revoke(state: Any, task_id: Any, terminate: Any = False, signal: Any = None, **more: Any) -> Any:  # noqa: FBT002 - Celery's
    """Revoke task by task id (or list of ids)."""
    ids = {str(each) for each in maybe_list(task_id) or ()}
    ended = _revoke(state, "revoke", {"task_id": list(ids), "terminate": terminate, **more}, signal)
    if isinstance(ended, dict):
        return ended
    if not terminate:
        return ok(f"tasks {ids} flagged as revoked")
    return ok(f"terminate: {', '.join(ended) or 'tasks unknown'}")


@control_command(variadic="task_id", args=[("signal", str)], signature="<signal> [id1 [id2 [... [idN]]]]")
def terminate(state: Any, signal: Any, task_id: Any, **more: Any) -> Any:
    """Terminate task by task id (or list of ids)."""
    return revoke(state, task_id, terminate=True, signal=signal, **more)


@control_command(variadic="headers", signature="[key1=value1 [key2=value2 [... [keyN=valueN]]]]")
def revoke_by_stamped_headers(
    state: Any,
    headers: Any,
    terminate: Any = False,  # noqa: FBT002 - Celery's
    signal: Any = None,
    **more: Any,
) -> Any:
    """Revoke task by header (or list of headers)."""
    asked = {"headers": headers, "terminate": terminate, **more}
    ended = _revoke(state, "revoke_by_stamped_headers", asked, signal)
    if isinstance(ended, dict):
        return ended
    if not terminate:
        return ok(f"headers {headers} flagged as revoked, but not terminated")
    return ok(f"headers {headers} revoked" if ended else f"headers {headers} were not terminated")


@inspect_command()
def revoked(state: Any, **_: Any) -> list[str]:  # noqa: ARG001 - Celery's signature
    """List of revoked task-ids."""
    return list(_heard)


@inspect_command()
def condition(state: Any, **_: Any) -> dict[str, Any]:
    """Which version of the platform this worker runs, and how many messages it fetches ahead."""
    qos = state.consumer.qos
    return {
        "version": version("celeriac"),
        "celery": version("celery"),
        "prefetch": None if qos is None else qos.value,
        "queues": sorted(queue.name for queue in state.consumer.task_consumer.queues),
    }


@control_command(visible=False)
def interrupt(state: Any, task_id: str, dispatch: int | None = None, **_: Any) -> Any:
    """End the body of a job that was cancelled; not that of a later dispatch."""
    fence = fence_of(task_id, {DISPATCH_HEADER: dispatch})
    request = request_of(fence) if fence is not None else None
    if request is not None:
        _end(state, request, INTERRUPTION)
    return ok("interrupted" if request is not None else "unknown")


def _revoke(state: Any, command: str, arguments: Mapping[str, Any], signal: Any) -> list[str] | dict[str, Any]:
    """The ids of the tasks whose bodies it ends here, or an answer that says why nothing was done."""
    try:
        asked = Revocation.asked(command, arguments)
        signals.signum(signal or TERM_SIGNAME)
    except (InvalidValue, AttributeError, TypeError) as error:
        return dict(nok(f"cannot revoke: {error}"))
    since, platform = time.monotonic(), state.app.platform
    actor = revoking.remote_control_of(state.hostname)
    if not arguments.get(revoking.RECORDED):
        if not platform.recorder.record(lambda: revoking.cancel(platform, asked, actor=actor, since=since)):
            return dict(nok("too much waits to be written: nothing was revoked"))
        log.info("revocation.heard", task_ids=asked.ids[:10], count=len(asked.ids), stamps=sorted(asked.stamps))
    _heard.update(asked.ids)
    named = [each for each in tuple(worker.requests.values()) if asked.terminates and asked.names(each)]
    for request in named:
        _end(state, request, signal)
    return [request.id for request in named]


def _end(state: Any, request: Any, signal: Any) -> None:
    """In threads a body ends at its next step: there is no process to send a signal to."""
    pool = state.consumer.pool
    if isinstance(pool, TaskPool):
        request.terminate(pool, signal=signal)
