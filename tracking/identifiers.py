"""Celery's ids and ours: every job has a UUID, and a task of Celery's may be named by any text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid5

NAMESPACE = UUID("6f0a7b1e-6a35-5d0c-9f57-0d7b1f3c2a48")  # made at random, once
TRACE = "trace"  # in a row's `delivery`: where it was submitted
PARTS = 4  # of a traceparent (W3C Trace Context): version, trace, span, flags


def job_id_of(task_id: str) -> UUID:
    """The id of the job that Celery knows by this id: the same when it is a UUID, else one made of the text."""
    try:
        return UUID(task_id)
    except ValueError:
        return uuid5(NAMESPACE, task_id)


def trace_ids(delivery: Mapping[str, Any]) -> dict[str, str]:
    """The id of the trace in which a job was submitted, for a log line; also where nobody makes spans."""
    parts = str((delivery.get(TRACE) or {}).get("traceparent", "")).split("-")
    return {"trace_id": parts[1]} if len(parts) == PARTS else {}


def trace_of(delivery: Mapping[str, Any]) -> dict[str, Any]:
    """Of what a row has for its messages, what says in which trace it was submitted."""
    return {TRACE: delivery[TRACE]} if TRACE in delivery else {}
