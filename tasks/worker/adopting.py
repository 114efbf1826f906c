"""Messages of programs that have Celery and not the platform: no row stands behind them.

They become jobs when `CELERIAC_ADOPT` says so, and dead letters otherwise; never is one run as it is. Either is written
by the recorder, and the message is acknowledged after the commit: while the database is away it stays with the worker,
unacknowledged, and as many as the worker may hold are all that it takes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pydantic
import structlog

from tasks import calls, submission
from tasks.delivery import OUR_HEADERS, RESERVED_HEADERS
from tasks.options import KNOWN
from tasks.platform import Platform
from tasks.worker import dead_letters
from tasks.worker.answering import Answers
from tracking.db import DBAPIError, PoolTimeoutError, is_away, is_too_slow
from tracking.errors import InvalidValue, TrackingError
from tracking.identifiers import job_id_of
from tracking.models import NewJob

if TYPE_CHECKING:
    from tasks.app import JobApp

log = structlog.get_logger(__name__)

NOT_ADOPTED = (
    "no job was submitted for it: it comes from a program without the platform;"
    " with CELERIAC_ADOPT=true such messages become jobs of CELERIAC_DEFAULT_ORGANIZATION"
)
BEGUN_CHORD = (
    "it belongs to a chord that was begun without the platform: only the sender's result backend knows its size"
)

# What RabbitMQ adds to a message that went through a dead letter exchange, or a quorum queue.
BROKERS_HEADERS = ("x-death", "x-first-death", "x-last-death", "x-delivery-count", "x-acquired-count")
# Options of a signature that say whose a job is, or what the platform keeps of it: nothing that a message may decide.
OURS = frozenset({"organization", "user", "project", "depends_on", "idempotency_key", "request_hash", "actor"})

Limit = pydantic.StrictFloat | pydantic.StrictInt | None
Body = tuple[list[Any], dict[str, Any], dict[str, Any] | None]


class Headers(pydantic.BaseModel):
    """What Celery uses of a message's headers without looking (its message protocol, version 2)."""

    task: str
    id: str
    timelimit: tuple[Limit, Limit] | None = None


class ForeignHeaders(Headers):
    """What such a program may say of a call besides its arguments; in version 1 of the protocol, in the body."""

    eta: str | None = None
    expires: str | None = None
    group: str | None = None
    group_index: int | None = None
    root_id: str | None = None
    parent_id: str | None = None
    shadow: str | None = None
    ignore_result: bool | None = None
    replaced_task_nesting: int | None = None
    stamped_headers: list[str] | None = None
    stamps: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """What a message asks for. `others`: headers that are not Celery's."""

    headers: ForeignHeaders
    body: Body
    others: Mapping[str, Any]

    def new_job(self, app: JobApp, message: Any) -> NewJob:
        """The job that it becomes, once. Raises InvalidValue, pydantic.ValidationError or ConfigurationError."""
        self._refuse_what_is_not_its_own()
        (args, kwargs, _), asked = self.body, self.headers
        job = calls.new_job(app, asked.task, args, kwargs, task_id=asked.id, options=self._options(app, message))
        # The same message again is the same job, whatever has become of that meanwhile.
        key, fingerprint = f"message {asked.id}", _fingerprint(asked.task, message.body)
        return calls.with_successors(app, replace(job, idempotency_key=key, request_hash=fingerprint))

    def _options(self, app: JobApp, message: Any) -> dict[str, Any]:
        asked, embedded = self.headers, self.body[2] or {}
        queues: Any = app.amqp.queues
        hard, soft = asked.timelimit or (None, None)
        queue = (message.delivery_info or {}).get("routing_key")
        return {
            "organization": app.platform.settings.default_organization,
            "user": app.platform.settings.default_user,
            "queue": queue if queue in queues.consume_from else None,
            "priority": _priority(message.properties.get("priority")),
            "eta": asked.eta,
            "expires": asked.expires,
            "time_limit": hard,
            "soft_time_limit": soft,
            "link": embedded.get("callbacks"),
            "link_error": embedded.get("errbacks"),
            "chain": embedded.get("chain"),
            "reply_to": message.properties.get("reply_to") or None,
            "shadow": asked.shadow,
            "ignore_result": asked.ignore_result,
            "replaced_task_nesting": asked.replaced_task_nesting,
            "group_id": asked.group,
            "group_index": asked.group_index,
            "root_id": asked.root_id,
            "parent_id": asked.parent_id,
            "headers": dict(self.others),
            "stamped_headers": asked.stamped_headers,
            **{name: (asked.stamps or {}).get(name) for name in asked.stamped_headers or ()},
        }

    def _refuse_what_is_not_its_own(self) -> None:
        args, kwargs, embedded = self.body
        if (embedded or {}).get("chord") or self.headers.task == "celery.chord_unlock":
            raise InvalidValue(BEGUN_CHORD)
        # The arguments of Celery's own tasks are signatures, too.
        signatures = [embedded, args, kwargs] if self.headers.task.startswith("celery.") else [embedded]
        for stamp in self.headers.stamped_headers or ():
            if stamp in RESERVED_HEADERS or stamp in KNOWN:
                raise InvalidValue(f"it must not have a stamp of the name {stamp!r}")
        named = _options_of_ours(signatures)
        if named is not None:
            raise InvalidValue(f"a signature in it sets {named!r}, which a message cannot decide")


class Door:
    """Where such messages come in to a worker."""

    def __init__(self, consumer: Any, answers: Answers) -> None:
        self._consumer = consumer
        self._platform: Platform = consumer.app.platform
        self._answers = answers

    def take(self, message: Any, call: Call) -> None:
        """Have it written soon, and acknowledged then."""
        receipt = uuid4()
        self._answers.after(message, lambda: self._settle(message, call, receipt), job_id_of(call.headers.id))

    def _settle(self, message: Any, call: Call, receipt: UUID) -> None:
        reason = NOT_ADOPTED if not self._platform.settings.adopt else self._adopt(message, call)
        if reason is not None:
            about = {"worker": self._consumer.hostname, "receipt": receipt}
            dead_letters.keep_foreign(self._platform, message, call.headers, reason, **about)

    def _adopt(self, message: Any, call: Call) -> str | None:
        """Why it cannot be adopted; None when it was, now or before."""
        try:
            job = call.new_job(self._consumer.app, message)
            submitted = submission.submit(self._platform, job, submission.whole_organization(job))
        except (DBAPIError, PoolTimeoutError) as error:
            if is_away(error) or is_too_slow(error):
                raise
            return f"it cannot be kept: {type(error).__name__}"
        except pydantic.ValidationError as error:
            return f"its payload is not that of {call.headers.task}: {first_fault(error)}"
        except TrackingError as error:
            return f"it cannot be a job: {error}"
        except Exception as error:  # noqa: BLE001 - validators are the handler's own and may raise anything
            return f"it cannot be a job: {type(error).__name__}"
        if submitted.created:
            log.info("message.adopted", job_id=str(submitted.job.id), job_type=submitted.job.job_type)
        return None


def first_fault(error: pydantic.ValidationError) -> str:
    """Where and what, without the value."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'all of it'}: {first['msg']}"


def foreign_headers(headers: Mapping[str, Any], fields: Mapping[str, Any]) -> tuple[ForeignHeaders, dict[str, Any]]:
    """What a call says besides its arguments, and what else its sender has put into the headers."""
    celery = RESERVED_HEADERS - OUR_HEADERS
    others = {
        name: value for name, value in headers.items() if name not in celery and not name.startswith(BROKERS_HEADERS)
    }
    return ForeignHeaders.model_validate(fields), others


def _priority(value: Any) -> int | None:
    """Celery's messages without one have 0 on Redis and none on RabbitMQ, which takes what is above for the highest."""
    return max(0, min(9, value)) if isinstance(value, int) else None


def _fingerprint(task: str, body: Any) -> str:
    content = body.encode(errors="replace") if isinstance(body, str) else bytes(body or b"")
    return hashlib.sha256(task.encode(errors="replace") + b"\x00" + content).hexdigest()


def _options_of_ours(value: Any) -> str | None:
    """The first option of the platform's own in the signatures within `value`; None without one."""
    if isinstance(value, Mapping):
        options = value.get("options")
        named = next((name for name in options if name in OURS), None) if isinstance(options, Mapping) else None
        return named or _options_of_ours(list(value.values()))
    if isinstance(value, list | tuple):
        return next((named for each in value if (named := _options_of_ours(each)) is not None), None)
    return None
