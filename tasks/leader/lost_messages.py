"""The leader's look for messages that the broker has lost after it had confirmed them: their jobs are sent again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import structlog
from amqp.exceptions import ChannelError
from kombu import Connection as BrokerConnection

from tasks.broker.publisher import close_quietly, connect
from tasks.failures import failures
from tasks.platform import Platform
from tracking import jobs, workers
from tracking.db import Connection
from tracking.models import Fence

log = structlog.get_logger(__name__)

BATCH = 500
SHARE = 5  # of its time the leader spends one part in so many: counting a very long queue may take a second
NOT_FOUND = "404"  # AMQP 0-9-1, 1.2; kombu says the same of an empty list of Redis


class Resending:
    """What is known from one look to the next: the jobs whose messages were missing, and when to look again.

    Of each queue the jobs that wait for a worker are counted, then the messages that the broker has ready. Where there
    are fewer messages than jobs, the oldest jobs are under suspicion; those that still are at the next look are sent
    again. A message that is on its way to a worker in one look has been claimed by the next. A job that is sent twice
    is refused at its second claim; and the second message counts as ready, so that it stays at that.
    """

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        self._platform: Platform = worker.app.platform
        self._broker: BrokerConnection | None = None
        self._suspects: frozenset[Fence] = frozenset()
        self._look_at = 0.0

    def turn(self) -> None:
        """Look if it is time; after an error of the database or the broker, which is raised, the next begins anew."""
        if time.monotonic() < self._look_at:
            return
        interval, began = self._platform.settings.resend_after / 2, time.monotonic()
        try:
            self._look(timedelta(seconds=interval))
        except Exception:
            self._suspects = frozenset()
            self.close()
            raise
        finally:
            self._look_at = began + max(interval, SHARE * (time.monotonic() - began))

    def close(self) -> None:
        """Drop the connection to the broker; the next look makes a new one."""
        broker, self._broker = self._broker, None
        close_quietly(broker, "resending.close_failed")

    def _look(self, age: timedelta) -> None:
        suspects: list[Fence] = []
        with self._platform.database.autocommit() as connection:
            for queue, at in jobs.waiting_queues(connection, age):
                try:
                    ready = self._ready(queue)
                except Exception as error:  # noqa: BLE001 - a name that the broker refuses costs this queue alone
                    failures.note("resending.queue_failed", error, queue=queue)
                    self.close()
                    continue
                failures.clear("resending.queue_failed", queue=queue)
                missing = jobs.missing(connection, queue, at, age, ready=ready, limit=BATCH)
                known = [fence for fence in missing if fence in self._suspects]
                self._send_again(connection, queue, known)
                suspects += missing
        self._suspects = frozenset(suspects)

    def _send_again(self, connection: Connection, queue: str, fences: Sequence[Fence]) -> None:
        if not fences:
            return
        certain = len(fences) - self._held_by_workers(connection, queue)
        again = jobs.send_again(connection, fences[: max(1, certain)])
        log.warning("messages.lost", queue=queue, count=len(again), jobs=[str(job_id) for job_id in again[:10]])

    def _held_by_workers(self, connection: Connection, queue: str) -> int:
        """How many messages workers may hold behind those that they run."""
        if self._worker.app.conf.worker_disable_prefetch:
            return 0
        each = self._worker.prefetch_multiplier - 1  # -1: any number
        alive = workers.live(connection, timedelta(seconds=self._platform.settings.lease_timeout))
        return sum(worker.concurrency * each if each >= 0 else BATCH for worker in alive if queue in worker.queues)

    def _ready(self, queue: str) -> int:
        """How many messages of this queue no worker has been given yet."""
        if self._broker is None:
            self._broker = connect(self._worker.app)
        channel: Any = self._broker.channel()  # which RabbitMQ closes when there is no such queue
        try:
            return int(channel.queue_declare(queue, passive=True).message_count)
        except ChannelError as error:
            if str(error.reply_code) != NOT_FOUND:
                raise
            return 0
        finally:
            channel.close()
