"""Celery's ids and ours: every job has a UUID, and a task of Celery's may be named by any text."""

from __future__ import annotations

from uuid import UUID, uuid5

NAMESPACE = UUID("6f0a7b1e-6a35-5d0c-9f57-0d7b1f3c2a48")  # made at random, once


def job_id_of(task_id: str) -> UUID:
    """The id of the job that Celery knows by this id: the same when it is a UUID, else one made of the text."""
    try:
        return UUID(task_id)
    except ValueError:
        return uuid5(NAMESPACE, task_id)
