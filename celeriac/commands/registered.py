"""What the handlers of this installation are called and ask for, without any server."""

from __future__ import annotations

from api.permissions import (
    CANCEL_JOBS,
    CREATE_JOBS,
    DELETE_JOBS,
    MANAGE_JOBS,
    MANAGE_PLATFORM,
    MANAGE_SCHEDULES,
    MANAGE_TEMPLATES,
    MANAGE_WEBHOOKS,
    RETRY_JOBS,
    TRACK_JOBS,
    VIEW_ALL,
    VIEW_AUDIT,
    VIEW_JOBS,
)

# Of an organization; jobs.manage_platform reaches beyond it and has to be asked for by name.
IN_ORGANIZATION = frozenset(
    {
        *(CREATE_JOBS, VIEW_JOBS, CANCEL_JOBS, RETRY_JOBS, TRACK_JOBS, DELETE_JOBS),
        *(VIEW_ALL, VIEW_AUDIT, MANAGE_JOBS, MANAGE_SCHEDULES, MANAGE_TEMPLATES, MANAGE_WEBHOOKS),
    }
)
OF_PLATFORM = frozenset({MANAGE_PLATFORM})


def job_types() -> set[str]:
    """The names of the handlers. Raises ConfigurationError when one cannot be imported."""
    return {name for name, _ in _registered()}


def permissions() -> set[str]:
    """What handlers ask for to create their jobs. Raises ConfigurationError like `job_types`."""
    asked = (getattr(handler, "permission", None) for _, handler in _registered())
    return {permission for permission in asked if permission}


def queues() -> set[str]:
    """The queues that jobs are sent to unless they name another one. Raises ConfigurationError like `job_types`."""
    own = {getattr(handler, "queue", None) for _, handler in _registered()}
    from tasks.app import app  # noqa: PLC0415 - as below

    return {*app.amqp.queues, *(queue for queue in own if queue)}


def _registered() -> list[tuple[str, object]]:
    from tasks.app import app  # noqa: PLC0415 - it loads Celery, which most commands do without

    return [(name, handler) for name, handler in app.tasks.items() if not name.startswith("celery.")]
