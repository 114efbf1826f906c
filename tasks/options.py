"""The options of a call: every one of Celery's and the platform's own. What is neither is refused by its name."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from tracking.errors import InvalidValue

PLATFORM = frozenset(
    {
        "organization",
        "user",
        "project",
        "idempotency_key",
        "request_hash",
        "metadata",
        "message",
        "depends_on",
        "max_retries",
        "actor",
    }
)
# Celery 5.7: Task.apply_async and Celery.send_task
CALL = frozenset(
    {
        "countdown",
        "eta",
        "expires",
        "task_id",
        "producer",
        "publisher",
        "connection",
        "router",
        "result_cls",
        "link",
        "link_error",
        "add_to_parent",
        "group_id",
        "group_index",
        "retries",
        "chord",
        "reply_to",
        "time_limit",
        "soft_time_limit",
        "root_id",
        "parent_id",
        "route_name",
        "shadow",
        "chain",
        "task_type",
        "replaced_task_nesting",
        "ignore_result",
    }
)
# What becomes of them in celery.app.amqp, by as_task_v2 and send_task_message
MESSAGE = frozenset(
    {
        "origin",
        "argsrepr",
        "kwargsrepr",
        "stamped_headers",
        "stamps",
        "create_sent_event",
        "now",
        "timezone",
        "exchange",
        "exchange_type",
        "routing_key",
        "queue",
        "event_dispatcher",
        "retry",
        "retry_policy",
        "serializer",
        "delivery_mode",
        "compression",
        "declare",
        "headers",
        "timeout",
        "confirm_timeout",
    }
)
# kombu.Producer.publish, and the properties of an AMQP 0-9-1 message
PUBLISH = frozenset(
    {
        "priority",
        "mandatory",
        "immediate",
        "content_type",
        "content_encoding",
        "expiration",
        "correlation_id",
        "message_id",
        "timestamp",
        "type",
        "user_id",
        "app_id",
        "cluster_id",
    }
)
# What Celery's canvas hands on with a signature's options: celery.canvas, chord and the tasks of celery.app.builtins
CANVAS = frozenset({"interval", "eager", "chord_size", "propagate", "body", "args", "kwargs"})

KNOWN = PLATFORM | CALL | MESSAGE | PUBLISH | CANVAS


def check_options(options: Mapping[str, Any]) -> None:
    """Raise InvalidValue for an option that neither Celery nor we read; it names the first, and what may be meant."""
    for name in options:
        if name not in KNOWN and name not in (options.get("stamped_headers") or ()):
            meant = get_close_matches(name, sorted(KNOWN), 1)
            hint = f"; did you mean {meant[0]!r}?" if meant else ""
            raise InvalidValue(f"there is no option {name!r}{hint}")
