"""Which of Celery's settings are the platform's own: a project that comes from Celery has values for most."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

from tracking.errors import ConfigurationError

if TYPE_CHECKING:
    from celery import Celery

# With another value jobs would be sent where nobody looks, be lost with their worker, or end without a word in the row.
# `worker_disable_prefetch` is not among them: Celery's command line sets it to what it is, and `celeriac doctor` looks.
OWN = frozenset(
    {
        "accept_content",
        "broker_read_url",
        "broker_transport_options",
        "broker_url",
        "broker_write_url",
        "result_accept_content",
        "result_backend",
        "result_serializer",
        "task_acks_late",
        "task_create_missing_queues",
        "task_default_exchange",
        "task_protocol",
        "task_queue_max_priority",
        "task_reject_on_worker_lost",
        "task_serializer",
        "worker_consumer",
        "worker_prefetch_multiplier",
    }
)


def require_own_settings(app: Celery) -> None:
    """Raise ConfigurationError when somebody has set one of the platform's own settings; it names all of them."""
    changed: Container[str] = app.conf.changes or ()  # before the first look at a setting it cannot be listed
    found = [name for name in sorted(OWN) if name in changed]
    if found:
        raise ConfigurationError(
            f"app.conf: {', '.join(found)} {'is' if len(found) == 1 else 'are'} not to be changed: leave out what"
            " the platform decides itself (docs/migrating.md)"
        )


def broker_of(app: Celery) -> str:
    """The broker of the platform's settings: CELERY_BROKER_URL, which Celery reads by itself, is that of other apps."""
    return str(app.conf.first("broker_url"))
