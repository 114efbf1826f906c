"""Revocations, Celery's word for a cancel: written into the rows at once, whether or not a worker listens."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from celery.app.control import Control as CeleryControl
from celery.utils.functional import maybe_list
from celery.utils.nodenames import anon_nodename

from tasks.command_line import celerys_command
from tasks.platform import Platform
from tracking import revocations
from tracking.errors import InvalidValue
from tracking.identifiers import job_id_of
from tracking.models import Cancelled
from tracking.values import check_json, check_name

if TYPE_CHECKING:
    from tasks.app import JobApp

COMMANDS = frozenset({"revoke", "terminate", "revoke_by_stamped_headers"})
FLOWER = "flower"  # its command, and the actor of what it revokes
RECORDED = "recorded"  # argument of a broadcast command: the rows are cancelled already
ORDER_PATIENCE = 1.0  # seconds that a question to the workers waits for the revocations before it
STAMP_BYTES = 1024  # of a value, which PostgreSQL keeps in an index


@dataclass(frozen=True, slots=True)
class Revocation:
    """Which jobs somebody wants to end: those of these ids, or with one of these values in their stamps."""

    ids: tuple[str, ...] = ()
    stamps: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    terminates: bool = False

    @classmethod
    def asked(cls, command: str, arguments: Mapping[str, Any]) -> Revocation:
        """What a remote-control command of Celery's asks for. Raises InvalidValue."""
        terminates = command == "terminate" or bool(arguments.get("terminate"))
        if command == "revoke_by_stamped_headers":
            return cls(stamps=_stamps(arguments.get("headers")), terminates=terminates)
        ids = [check_name(str(each), "a task id") for each in maybe_list(arguments.get("task_id")) or ()]
        return cls(ids=tuple(dict.fromkeys(ids)), terminates=terminates)

    def names(self, request: Any) -> bool:
        """Whether a worker's request is of such a job."""
        known = {job_id_of(each) for each in self.ids}
        if job_id_of(str(request.id)) in known:
            return True
        stamps = request.stamps or {}
        return any(value in (maybe_list(stamps.get(name)) or ()) for name in self.stamps for value in self.stamps[name])


class Control(CeleryControl):
    """Celery's remote control. Each of its ways to revoke a task ends in `broadcast`."""

    _was_handed_over = False  # a revocation, to the dispatcher: a question must not overtake it

    def broadcast(self, command: str, arguments: Any = None, *args: Any, **options: Any) -> Any:
        """Send a command to the workers; what it revokes is cancelled in the row before.

        Without a reply to wait for, a revocation does not wait for the broker either. Raises InvalidValue, or
        SQLAlchemyError when the row cannot be written.
        """
        if command not in COMMANDS or RECORDED in (arguments or {}):
            if options.get("reply") and self._was_handed_over:
                self._was_handed_over = not self._platform.dispatcher.flush(ORDER_PATIENCE)
            return super().broadcast(command, arguments, *args, **options)
        asked = Revocation.asked(command, arguments or {})
        is_flower = celerys_command() == FLOWER
        cancel(self._platform, asked, actor=FLOWER if is_flower else remote_control_of(anon_nodename()))
        arguments = {**(arguments or {}), RECORDED: True}
        if args or any(options.get(name) for name in ("reply", "connection", "channel", "pattern")):
            return super().broadcast(command, arguments, *args, **options)
        self._was_handed_over = True
        self._platform.dispatcher.broadcast(command, arguments, options.get("destination"))
        return None

    @property
    def _platform(self) -> Platform:
        app: JobApp = self.app  # type: ignore[assignment]  # of whose class this is
        return app.platform


def remote_control_of(node: str) -> str:
    """The actor of what came by remote control, of which this node knows."""
    return f"remote control of {node}"


def cancel(platform: Platform, asked: Revocation, *, actor: str, since: float | None = None) -> None:
    """Cancel the jobs, and have the bodies of running ones interrupted, unless the caller ends them.

    `since`: when it was asked for, on the monotonic clock; None: now. Raises SQLAlchemyError; may be repeated.
    """
    age = timedelta(seconds=time.monotonic() - since if since is not None else 0)
    how = {"actor": actor, "reason": "terminated" if asked.terminates else "revoked"}
    with platform.database.autocommit() as connection:
        cancelled = revocations.revoke(connection, [job_id_of(each) for each in asked.ids], **how, age=age)
        cancelled += revocations.revoke_stamped(connection, asked.stamps, **how, age=age)
    for each in cancelled:
        follow(platform, each, interrupt=not asked.terminates)


def follow(platform: Platform, cancelled: Cancelled, *, interrupt: bool = False) -> None:
    """Tell whom it concerns: the worker of the body, and the jobs that waited for this one."""
    job = cancelled.job
    if interrupt and cancelled.was_running:
        platform.dispatcher.interrupt(job)
    platform.dispatcher.follow(job.id, job.organization_id)


def _stamps(headers: Any) -> dict[str, tuple[Any, ...]]:
    if isinstance(headers, list):  # of a command line
        headers = dict(str(each).partition("=")[::2] for each in headers)
    if not isinstance(headers, Mapping):
        raise InvalidValue(f"headers must be a mapping of stamps to values: {type(headers).__name__}")
    return {check_name(name, "a stamp's name"): tuple(_values(name, value)) for name, value in headers.items()}


def _values(name: str, value: Any) -> list[Any]:
    listed = list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
    return [check_json(each, f"the stamp {name}", max_bytes=STAMP_BYTES) for each in listed]
