"""Celery's own settings by Celery's own names; the URLs come from the environment."""

from kombu import Queue

from tracking.settings import settings

HIGHEST_PRIORITY = 9

broker_url = settings().broker
broker_connection_retry_on_startup = True
# Read by the worker and by Flower: one list for each of the ten priorities, see tasks/broker/transport.py.
broker_transport_options = {"priority_steps": list(range(HIGHEST_PRIORITY + 1))} if "redis" in broker_url[:7] else {}

result_backend = "tasks.backend:RowBackend"

task_default_queue = "default"
task_queue_max_priority = HIGHEST_PRIORITY
task_queues = [
    Queue(name, routing_key=name, queue_arguments={"x-max-priority": HIGHEST_PRIORITY})
    for name in ("default", "maintenance")
]
task_routes = {name: {"queue": "maintenance"} for name in ("cleanup", "sync")}

# A message is acknowledged after its outcome is written; a child that dies is settled by task_failure instead.
task_acks_late = True
task_reject_on_worker_lost = False

# One message at a time for each child, so that an urgent one waits for nothing that was fetched before it.
worker_prefetch_multiplier = 1
worker_disable_prefetch = "redis" in broker_url[:7]

worker_consumer = "tasks.worker.consumer:Consumer"

# Outcomes are in PostgreSQL; our own log lines carry ids and no payloads.
worker_hijack_root_logger = False
worker_enable_remote_control = True
task_track_started = False
