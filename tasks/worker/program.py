"""The worker as a program: what it is called, what it waits for, and how it ends."""

from __future__ import annotations

import errno
import gc
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import amqp
import click
import redis
import structlog
from billiard.exceptions import WorkerLostError
from celery.apps.worker import Worker as CeleryWorker
from celery.exceptions import ImproperlyConfigured, WorkerShutdown, WorkerTerminate
from celery.utils.nodenames import default_nodename
from click.core import ParameterSource
from kombu.exceptions import OperationalError

from tasks.broker.fitting import QUORUM, QUORUM_SAID, require_fitting_broker
from tasks.broker.publisher import connect
from tasks.persistence import DatabaseAway
from tasks.platform import Platform
from tracking import traces, workers
from tracking.db import SQLAlchemyError
from tracking.exit_status import Exit
from tracking.exits import Fault, fault_of, one_line
from tracking.pooling import require_fitting
from tracking.versions import require_newest

if TYPE_CHECKING:
    from tasks.app import JobApp
    from tasks.worker.lookahead import LookAhead

log = structlog.get_logger(__name__)

PAUSE = 1.0  # seconds between two tries to reach a server

NO_ROOM = "it cannot start its processes, or has no room to work"
UNREACHABLE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH})
USED_UP = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC})

# Why a worker ends, besides settings and the database, by the errors that say so; the first that fits counts.
REASONS: tuple[tuple[tuple[type[Exception], ...], Exit, str], ...] = (
    ((ImproperlyConfigured,), Exit.MISUSED, "it is not set up well"),
    # It knows us not, or has no such virtual host or database.
    (
        (amqp.AccessRefused, amqp.NotAllowed, redis.AuthenticationError, redis.ResponseError),
        Exit.MISUSED,
        "BROKER_URL: the broker refuses it",
    ),
    ((amqp.PreconditionFailed,), Exit.MISUSED, "BROKER_URL: a queue was made otherwise, take another virtual host"),
    ((amqp.ResourceLocked,), Exit.AWAY, "another worker of this name has started just now: try again"),
    (
        (
            *(OperationalError, ConnectionError, TimeoutError, socket.gaierror),
            *(amqp.RecoverableConnectionError, redis.ConnectionError, redis.TimeoutError),
        ),
        Exit.AWAY,
        "the broker is away",
    ),
    ((WorkerLostError,), Exit.FAILED, NO_ROOM),
)


class Worker(CeleryWorker):
    """Celery's worker, with a name that no other has and an exit status that tells a stop from a fault.

    `exitcode` is one of `tracking.exits.Exit`: FINE when it was told to stop, by a signal or from afar.
    """

    app: JobApp
    autoscale: Any
    blueprint: Any
    hostname: str
    pool_cls: type[Any]
    lookahead: LookAhead | None = None

    def __init__(self, app: JobApp | None = None, hostname: str | None = None, **options: Any) -> None:
        platform = (app or self.app).platform
        traces.begin(platform.settings, "celeriac-worker")
        chosen = hostname if _is_chosen() else None
        super().__init__(app=app, hostname=free_name(platform, chosen), **options)

    def start(self) -> None:
        """Run until it is told to stop or cannot go on."""
        try:
            self._require_growing()
            patience = self.app.platform.settings.start_patience
            wait_for("database", patience, lambda: _ask_database(self.app.platform))
            wait_for("broker", patience, lambda: _ask_broker(self.app))
            # Celery looks for garbage before it makes a process, while its event loop stands still: what is imported
            # makes that a tenth of a second.
            gc.freeze()
            self.blueprint.start(self)
        except WorkerTerminate:
            self.terminate()
            self.exitcode = Exit.FINE
        except (WorkerShutdown, KeyboardInterrupt):
            self.stop(exitcode=Exit.FINE)
        except SystemExit as error:
            self.stop(exitcode=error.code if isinstance(error.code, int) else Exit.FAILED)
        except Exception as error:  # noqa: BLE001 - whatever it is, the supervisor has to hear of it
            self.stop(exitcode=_tell(error, self.hostname))

    def _require_growing(self) -> None:
        """Celery's autoscaler finds out that a pool cannot grow when it would let it, and takes the worker with it."""
        if self.autoscale and not (self.pool_cls.uses_semaphore or hasattr(self.pool_cls, "grow")):
            raise ImproperlyConfigured("--autoscale: a pool of this kind does not grow, take --pool prefork")


def free_name(platform: Platform, asked: str | None) -> str:
    """A node name for a worker: what was asked for, with something of its own added where that is needed.

    Without it the second worker of a name would be ended by RabbitMQ, and on Redis take the other's remote controls.
    None asks for any name of this machine.
    """
    name = default_nodename(asked or "")
    if asked is not None and name not in _names_in_use(platform):
        return name
    part, _, host = name.partition("@")
    unique = f"{part}-{secrets.token_hex(3)}@{host}"
    if asked is not None:
        log.warning("worker.renamed", asked=name, worker=unique)
    return unique


def wait_for(server: str, patience: float, ask: Callable[[], None]) -> None:
    """Ask until it answers, for so many seconds; raises what `ask` raises when waiting does not help."""
    deadline = time.monotonic() + patience
    while True:
        try:
            ask()
        except Exception as error:
            fault = fault_of_worker(error)
            if fault is None or fault.status is not Exit.AWAY or time.monotonic() + PAUSE > deadline:
                raise
            log.warning("server.away", server=server, retry_in=PAUSE, reason=fault.line)
            time.sleep(PAUSE)
        else:
            return


def fault_of_worker(error: BaseException) -> Fault | None:
    """What an error that ends a worker means; None when it is a fault of ours."""
    if isinstance(error, DatabaseAway) and error.__cause__ is not None:
        return fault_of(error.__cause__)
    if isinstance(error, amqp.PreconditionFailed) and QUORUM_SAID in str(error):
        return Fault(Exit.MISUSED, QUORUM)
    known = next(((status, words) for kinds, status, words in REASONS if isinstance(error, kinds)), None)
    if known is None and isinstance(error, OSError):
        known = _reason_of(error)
    if known is None:
        return fault_of(error)
    status, words = known
    return Fault(status, f"{words}: {one_line(str(error)) or type(error).__name__}")


def _reason_of(error: OSError) -> tuple[Exit, str] | None:
    if error.errno in UNREACHABLE or error.errno is None:  # py-amqp's own, of a connection that the broker has cut
        return Exit.AWAY, "the broker is away"
    return (Exit.FAILED, NO_ROOM) if error.errno in USED_UP else None


def _tell(error: Exception, name: str) -> Exit:
    fault = fault_of_worker(error)
    if fault is None:
        log.critical("worker.failed", worker=name, reason=f"{type(error).__name__}: a fault of its own", exc_info=error)
        return Exit.FAILED
    log.critical("worker.failed", worker=name, reason=fault.line, exit_status=int(fault.status))
    return fault.status


def _is_chosen() -> bool:
    """Whether a person chose the name; Celery's command line passes its default on in the same way."""
    context = click.get_current_context(silent=True)
    return context is None or context.get_parameter_source("hostname") is not ParameterSource.DEFAULT


def _names_in_use(platform: Platform) -> set[str]:
    timeout = timedelta(seconds=platform.settings.lease_timeout)
    try:
        with platform.database.autocommit() as connection:
            return {worker.name for worker in workers.live(connection, timeout)}
    except SQLAlchemyError as error:  # the start will wait for the database, and say so
        log.warning("worker.names_unknown", error=type(error).__name__)
        return set()


def _ask_broker(app: JobApp) -> None:
    with closing(connect(app)) as connection:
        require_fitting_broker(connection)


def _ask_database(platform: Platform) -> None:
    require_fitting(platform.database, platform.settings)
    with platform.database.autocommit() as connection:
        require_newest(connection)
