"""What an audit tells of: the actions, and their outcomes."""

from __future__ import annotations

from enum import StrEnum


class Action(StrEnum):
    """What somebody did, or tried to do."""

    CREATE_JOB = "job.create"
    CANCEL_JOB = "job.cancel"
    RETRY_JOB = "job.retry"
    CHANGE_JOB = "job.change"
    PAUSE = "jobs.pause"
    RESUME = "jobs.resume"
    PAUSE_QUEUE = "queue.pause"
    RESUME_QUEUE = "queue.resume"
    REACH = "organization.reach"
    SET_LIMIT = "organization.limit"
    SET_WAITING_LIMIT = "organization.waiting_limit"
    SET_WEIGHT = "organization.weight"
    PUT_LIMIT = "limit.put"
    REMOVE_LIMIT = "limit.remove"
    PUT_TYPE = "type.put"
    MARK_ERROR = "error.mark"
    BULK = "bulk.create"
    ABORT_BULK = "bulk.abort"
    REMOVE_TYPE = "type.remove"
    CREATE_WEBHOOK = "webhook.create"
    CHANGE_WEBHOOK = "webhook.change"
    ROTATE_WEBHOOK = "webhook.rotate_secret"
    TEST_WEBHOOK = "webhook.test"
    REDELIVER = "webhook.redeliver"
    REMOVE_WEBHOOK = "webhook.remove"
    UPLOAD_FILE = "file.upload"
    REMOVE_FILE = "file.remove"
    CREATE_SCHEDULE = "schedule.create"
    CHANGE_SCHEDULE = "schedule.change"
    REMOVE_SCHEDULE = "schedule.remove"
    PAUSE_SCHEDULE = "schedule.pause"
    RESUME_SCHEDULE = "schedule.resume"
    RUN_SCHEDULE = "schedule.run"
    SKIP_NEXT = "schedule.skip_next"
    CREATE_WORKFLOW = "workflow.create"
    CANCEL_WORKFLOW = "workflow.cancel"
    RETRY_WORKFLOW = "workflow.retry"
    CREATE_TEMPLATE = "template.create"
    CHANGE_TEMPLATE = "template.change"
    REMOVE_TEMPLATE = "template.remove"
    SAVE_VIEW = "view.save"
    CHANGE_VIEW = "view.change"
    REMOVE_VIEW = "view.remove"
    DENY_TOKENS = "tokens.deny"
    ALLOW_TOKENS = "tokens.allow"


class Outcome(StrEnum):
    """What became of it. DENIED: a permission was missing; REFUSED: it could not be, as things were."""

    DONE = "done"
    DENIED = "denied"
    REFUSED = "refused"
