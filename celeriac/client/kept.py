"""What the API answers of schedules, templates and webhooks, as frozen values."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from celeriac.client.answers import Answer, Paged
from tracking.states import Hold, Status
from tracking.values import Instant


class Outcome(Answer):
    """What became of a due time, or of `count` of them in a row: "job", "skipped" or "failed", with the reason.

    `status`: of the job; None: there is none, or it was removed. `by`: who has asked for it; None: it was due.
    """

    due_at: Instant
    last_due_at: Instant
    count: int
    outcome: str
    job_id: UUID | None
    status: Status | None
    reason: str | None
    by: str | None
    at: Instant


class Schedule(Answer):
    """A schedule. `words`: when it is due, for people; `next_at` None: it is paused, or never due again."""

    id: UUID
    organization_id: str
    user_id: str
    name: str
    job_type: str
    template: str | None
    payload: dict[str, Any]
    priority: int | None
    max_retries: int | None
    project_id: str | None
    metadata: dict[str, Any]
    cron: str | None
    timezone: str | None
    every_seconds: int | None
    words: str
    catch_up: str
    overlap: str
    paused: bool
    paused_by: str | None
    paused_at: Instant | None
    next_at: Instant | None
    version: int
    changed_by: str
    last_outcomes: tuple[Outcome, ...]
    created_at: Instant
    updated_at: Instant


class Schedules(Paged):
    """Some of the schedules; `next_cursor` None: the last ones."""

    schedules: tuple[Schedule, ...]


class Outcomes(Paged):
    """Some of the outcomes; `next_cursor` None: the last ones."""

    outcomes: tuple[Outcome, ...]


class DueTimes(Answer):
    """When a schedule is due next."""

    times: tuple[Instant, ...]


class Template(Answer):
    """A version of a template; `newest`: the number of the newest."""

    id: UUID
    organization_id: str
    name: str
    job_type: str
    version: int
    newest: int
    payload: dict[str, Any]
    metadata: dict[str, Any]
    priority: int | None
    max_retries: int | None
    permission: str | None
    schedule: dict[str, Any]
    changed_by: str
    changed_at: Instant
    created_at: Instant


class Templates(Paged):
    """Some of the templates; `next_cursor` None: the last ones."""

    templates: tuple[Template, ...]


class TemplateVersions(Paged):
    """Some of the versions of a template; `next_cursor` None: the last ones."""

    versions: tuple[Template, ...]


class Webhook(Answer):
    """Who is told of what. `disabled_because`: why the platform has disabled it.

    `former_secret_until`: until then the secret before this one signs as well. `organization_id` None: an older server
    does not say it.
    """

    id: UUID
    organization_id: str | None = None
    url: str
    events: tuple[str, ...]
    job_types: tuple[str, ...] | None
    project_id: str | None
    description: str | None
    enabled: bool
    disabled_because: str | None
    failing_since: Instant | None
    former_secret_until: Instant | None
    created_by: str
    created_at: Instant
    updated_at: Instant


class WebhookWithSecret(Webhook):
    """A webhook, and its new secret, which is shown this once."""

    secret: str


class Webhooks(Answer):
    """All webhooks of an organization."""

    webhooks: tuple[Webhook, ...]


class Delivery(Answer):
    """A message to a webhook, and what became of it. `answer`: the HTTP status of the receiver that has taken it."""

    id: UUID
    message_id: str
    webhook_id: UUID
    event: str
    job_id: UUID | None
    workflow_id: UUID | None
    schedule_id: UUID | None
    status: Status
    hold: Hold | None
    answer: int | None
    error: str | None
    attempts: int
    next_attempt_at: Instant | None
    created_at: Instant
    completed_at: Instant | None


class Try(Answer):
    """One try to deliver a message."""

    attempt: int
    dispatch: int
    worker: str
    started_at: Instant
    completed_at: Instant | None
    outcome: str | None
    error_type: str | None
    error_message: str | None
    traceback: str | None


class DeliveryWithTries(Delivery):
    """A delivery with its message, and each try."""

    message: dict[str, Any]
    tries: tuple[Try, ...]


class Deliveries(Paged):
    """Some of the deliveries; `next_cursor` None: the last ones."""

    deliveries: tuple[Delivery, ...]


class Sent(Answer):
    """A message is on its way."""

    delivery_id: UUID
