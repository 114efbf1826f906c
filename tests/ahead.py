"""The main process of a worker without its processes: what it claims, and hands to a slot, over a real database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import SimpleNamespace
from typing import Any, TypeVar, overload

from celery.concurrency.prefork import TaskPool
from celery.worker import state
from kombu.asynchronous.semaphore import LaxBoundedSemaphore
from kombu.common import QoS
from pydantic import SecretStr

from tasks.app import JobApp
from tasks.platform import Platform
from tasks.worker.batcher import Batcher
from tasks.worker.bundles import Bundles
from tasks.worker.direct import DirectMessage
from tasks.worker.lookahead import LookAhead
from tasks.worker.upkeep import Upkeep
from tests.doubles import OwnPlatform
from tests.live import eventually
from tests.tracked import Tracked
from tracking import workers
from tracking.db import Database
from tracking.models import JobRecord
from tracking.settings import Settings

HOSTNAME = "worker-1"
SHORT = 0.001


class Pool(TaskPool):
    """A pool of one process, which never ends what it is given."""

    def __init__(self) -> None:
        self._pool = SimpleNamespace(_cache={}, bundles=Bundles(None))


class Message:
    """What a broker delivered, and how it was answered."""

    def __init__(self) -> None:
        self.answer: str | None = None
        self.acknowledged = False
        self.channel = None

    def ack_log_error(self, *_: Any) -> None:
        self.answer = "acknowledged"


class Asked:
    """What Celery makes of a message of ours, as far as the look-ahead knows it."""

    def __init__(self, record: JobRecord, *, losses: int = 0) -> None:
        self.id = str(record.id)
        self.fence = record.fence
        self.task = SimpleNamespace(name=record.job_type)
        self.request_dict: dict[str, Any] = {"losses": losses} if losses else {}
        self.priority = record.priority
        self.may_be_bundled = False
        self.hostname = HOSTNAME
        self.message = Message()
        self.lookahead: Any = None
        self.attempt: Any = None
        self.expected = self.since = 0.0

    def revoked(self) -> bool:
        return False

    def unfold(self) -> None:
        """Its message has no body."""

    @property
    def acknowledged(self) -> bool:
        """Whether it has an answer."""
        return self.message.answer is not None

    @acknowledged.setter
    def acknowledged(self, _: bool) -> None:
        """Celery's mark."""

    def acknowledge(self) -> None:
        """The broker may forget it."""
        self.message.answer = "acknowledged"

    def reject(self, *, requeue: bool) -> None:
        """The broker may give it to somebody else."""
        self.message.answer = "requeued" if requeue else "rejected"


class AskedDirectly(Asked):
    """The same of a job that has come without a message."""

    def __init__(self, message: DirectMessage, record: JobRecord) -> None:
        super().__init__(record)
        self.message: Any = message

    @property
    def acknowledged(self) -> bool:
        """Whether it has an answer."""
        return bool(self.message.acknowledged)

    @acknowledged.setter
    def acknowledged(self, _: bool) -> None:
        """Celery's mark."""

    def acknowledge(self) -> None:
        """It has been dealt with."""
        self.message.ack()

    def reject(self, *, requeue: bool) -> None:
        """Another worker may have it."""
        self.message.reject(requeue=requeue)


class World:
    """A look-ahead over a real database, whose event loop is this thread. `begun` are the requests that got a slot."""

    kind: type[Platform] = Platform

    def __init__(self, app: JobApp, url: str, slots: int) -> None:
        settings = Settings(database_url=SecretStr(url), claim_patience=0.5)
        self.platform = app.__dict__["platform"] = self.kind(app, settings)
        self.begun: list[Any] = []
        self.semaphore = LaxBoundedSemaphore(slots)
        self.worker = worker = SimpleNamespace(
            app=app,
            hostname=HOSTNAME,
            soft_time_limit=None,
            semaphore=self.semaphore,
            pool=Pool(),
            hub=SimpleNamespace(call_soon=lambda _: None, _waker=None),  # what was told waits until `turn`
            consumer=SimpleNamespace(
                qos=QoS(lambda **_: None, slots),
                connection_errors=(),
                strategies={"count_words": None},
                task_buckets={},
            ),
            _process_task=self.begun.append,
        )
        self.upkeep = Upkeep(worker)
        self.batcher: Batcher = worker.batcher
        self.lease = app.lease.id  # type: ignore[union-attr]  # as above
        self.ahead = LookAhead(worker, self.batcher, 64)
        self.batcher.start()

    def turn(self, until: Callable[[], Any], what: str = "it") -> None:
        """Let the event loop turn until something is so."""

        def look() -> Any:
            self.ahead.apply()
            return until()

        eventually(look, within=10, what=what)

    def stop(self) -> None:
        """As at a warm stop, when the pool has ended its bodies."""
        self.upkeep.close(self.worker)
        self.upkeep.stop(self.worker)

    def take(self, *records: JobRecord, losses: int = 0) -> list[Any]:
        """Messages of these jobs arrive."""
        requests = [Asked(record, losses=losses) for record in records]
        for request in requests:
            state.task_reserved(request)
            self.ahead.take(request)
        return requests


class OwnWorld(World):
    """The same on such a platform."""

    kind = OwnPlatform
    platform: OwnPlatform


Made = TypeVar("Made", bound=World)


@overload
def a_world(app: JobApp, database: Database, slots: int, url: str = "") -> AbstractContextManager[World]: ...


@overload
def a_world(
    app: JobApp, database: Database, slots: int, url: str = "", *, kind: type[Made]
) -> AbstractContextManager[Made]: ...


@contextmanager
def a_world(app: JobApp, database: Database, slots: int, url: str = "", *, kind: type[Any] = World) -> Iterator[Any]:
    """A worker with so many slots, on that database or on another one."""
    made = kind(app, url or database.engine.url.render_as_string(hide_password=False), slots)
    with database.autocommit() as connection:
        workers.beat(connection, made.lease, name=HOSTNAME, pid=1, queues=["default"], concurrency=slots)
    yield made
    made.stop()
    made.platform.close(5)
    state.reset_state()


def queued(database: Database, count: int, **changes: Any) -> list[JobRecord]:
    """Jobs that wait for a worker."""
    with database.autocommit() as connection:
        return [Tracked(connection).submit(**changes) for _ in range(count)]


def status(database: Database, record: JobRecord) -> tuple[str, int, int, bool]:
    """The job's status, dispatch and attempt, and whether a body of it is still to end."""
    with database.autocommit() as connection:
        now = Tracked(connection).get(record.id)
    return str(now.status), now.dispatch, now.attempt, now.stopping


def events(database: Database, record: JobRecord) -> list[str]:
    with database.autocommit() as connection:
        return Tracked(connection).events(record)
