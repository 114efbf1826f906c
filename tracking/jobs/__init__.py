"""The verbs that change a job: each one guarded statement together with its history row.

Every verb takes a connection, and is one transaction of its own on `Database.autocommit()` or part of the caller's on
`Database.begin()`. Nothing back from a verb means that the world has moved on: an answer, not an error. Each verb's SQL
stands below it; as it is sent, all of it stands in tracking/rendered.sql.
"""

from tracking.jobs.bulk import submit_all, submit_most
from tracking.jobs.cancel import cancel, cancel_dispatch, cancel_each, expire, seen, stopped, stopping
from tracking.jobs.claim import claim, refuse
from tracking.jobs.delete import delete_each
from tracking.jobs.dispatch import (
    fail_waiting,
    mark_dispatched,
    missing,
    redispatch,
    send_again,
    undispatched,
    waiting_queues,
)
from tracking.jobs.each import Applied
from tracking.jobs.edit import edit, reprioritize_each
from tracking.jobs.progress import report
from tracking.jobs.retry import retry, retry_anew, retry_each
from tracking.jobs.settle import orphans, running, settle
from tracking.jobs.submit import submit
from tracking.jobs.track import abandon, track

__all__ = [
    "Applied",
    "abandon",
    "cancel",
    "cancel_dispatch",
    "cancel_each",
    "claim",
    "delete_each",
    "edit",
    "expire",
    "fail_waiting",
    "mark_dispatched",
    "missing",
    "orphans",
    "redispatch",
    "refuse",
    "report",
    "reprioritize_each",
    "retry",
    "retry_anew",
    "retry_each",
    "running",
    "seen",
    "send_again",
    "settle",
    "stopped",
    "stopping",
    "submit",
    "submit_all",
    "submit_most",
    "track",
    "undispatched",
    "waiting_queues",
]
