"""Celery's own settings by Celery's own names; the URLs come from the environment."""

from typing import Any

from kombu import Queue

from tasks.command_line import wrong_settings_told
from tracking import sentinels
from tracking.settings import QUEUES, settings

HIGHEST_PRIORITY = 9

broker_connection_retry_on_startup = True

result_backend = "tasks.backend:RowBackend"

task_default_queue = "default"
task_default_exchange = "celeriac"  # no queue's name: to bind a queue one needs to read the exchange, and not the queue
task_queue_max_priority = HIGHEST_PRIORITY
task_queues = [Queue(name, routing_key=name, queue_arguments={"x-max-priority": HIGHEST_PRIORITY}) for name in QUEUES]
task_routes = {name: {"queue": "maintenance"} for name in ("cleanup", "sync")}
task_routes["webhook_delivery"] = {"queue": "webhooks"}  # slow receivers keep no worker of the others busy

# A message is acknowledged after its outcome is written; a child that dies is settled by task_failure instead.
task_acks_late = True
task_reject_on_worker_lost = False

# One message at a time for each child, so that an urgent one waits for nothing that was fetched before it.
worker_prefetch_multiplier = 1

worker_consumer = "tasks.worker.consumer:Consumer"

# Outcomes are in PostgreSQL; our own log lines carry ids and no payloads.
worker_hijack_root_logger = False
worker_enable_remote_control = True
task_track_started = False


def __getattr__(name: str) -> Any:
    """What follows from BROKER_URL, read at its first use: who declares a handler and calls it may have no broker."""
    if name == "broker_url":
        return sentinels.place_of(_broker())
    if name == "broker_transport_options":
        # Read by the worker and by Flower: one list for each of the ten priorities, see tasks/broker/transport.py.
        steps = {"priority_steps": list(range(HIGHEST_PRIORITY + 1))} if _is_redis() else {}
        return {**steps, **sentinels.options_of(_broker())}
    if name == "worker_disable_prefetch":
        return _is_redis()
    raise AttributeError(name)


def _is_redis() -> bool:
    return _broker().startswith(("redis:", "rediss:", "sentinel:"))


def _broker() -> str:
    with wrong_settings_told():
        return settings().broker
