"""Webhooks and their deliveries, as they are asked for and answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, ConfigDict, Field, HttpUrl, TypeAdapter, ValidationError, model_validator

from api.schemas.answers import Answered, Attempt
from api.schemas.fields import (
    ELSEWHERE,
    END,
    EVERYWHERE_TOO,
    Cursor,
    Limit,
    Name,
    Payload,
    Segment,
    StatusWord,
    Text,
)
from api.schemas.requests import Asked, Elsewhere, InAnother
from tasks.deliveries import message_id
from tasks.webhooks.messages import EVENTS
from tasks.webhooks.signing import PREFIX
from tracking.models import JobRecord
from tracking.reads import lists
from tracking.reads.answers import Filters, HistoryEntry, Page
from tracking.states import Hold, Status
from tracking.values import Instant
from tracking.webhooks import MOST, Wanted
from tracking.webhooks import Webhook as WebhookRecord

LONGEST_URL = 2000
# A little less than is accepted, as the other patterns of the description are.
ADDRESS = r"^https?://[a-z][a-z0-9]{0,30}(\.[a-z][a-z0-9]{1,20}){1,3}/[A-Za-z0-9/_-]{0,200}" + END

_URL: TypeAdapter[HttpUrl] = TypeAdapter(HttpUrl)


def _address(value: str) -> str:
    try:
        url = _URL.validate_python(value)
    except ValidationError as error:
        raise ValueError(error.errors()[0]["msg"]) from None
    if url.username or url.password:
        raise ValueError("A name or password in an address would be shown to all who manage webhooks")
    return str(url)


def _once(names: list[Any]) -> list[Any]:
    return list(dict.fromkeys(names))


Address = Annotated[
    str, Field(max_length=LONGEST_URL, json_schema_extra={"pattern": ADDRESS}), AfterValidator(_address)
]
Event = Literal[EVENTS]  # type: ignore[valid-type]  # from the data
Events = Annotated[list[Event], Field(min_length=1, max_length=2 * len(EVENTS)), AfterValidator(_once)]
JobTypes = Annotated[list[Name], Field(min_length=1, max_length=100), AfterValidator(_once)]


NOT_NULL: dict[str, Any] = {
    "not": {
        "anyOf": [{"required": [name], "properties": {name: {"type": "null"}}} for name in ("url", "events", "enabled")]
    }
}


class NewWebhook(Asked):
    """Where to tell what happens to jobs, workflows and schedules."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"url": "https://hooks.example.com/celeriac", "events": ["job.failed"]}]}
    )

    url: Address = Field(description="http or https, in the public internet.")
    events: Events = Field(default_factory=lambda: ["job.completed", "job.failed", "job.cancelled"])
    job_types: JobTypes | None = Field(
        default=None, description="Unset: jobs and schedules of all types; a workflow has none."
    )
    project_id: Segment | None = Field(default=None, description="Unset: what is of any project, and of none.")
    description: Text | None = None
    enabled: bool = Field(default=True, strict=True)

    @property
    def wanted(self) -> Wanted:
        job_types = None if self.job_types is None else tuple(self.job_types)
        return Wanted(self.url, tuple(self.events), job_types, self.project_id, self.description, self.enabled)


class WebhookChange(Asked):
    """What is to be different; what is left out stays, and null widens again."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, **NOT_NULL, "examples": [{"enabled": False}]})

    url: Address | None = None
    events: Events | None = None
    job_types: JobTypes | None = None
    project_id: Segment | None = None
    description: Text | None = None
    enabled: bool | None = Field(default=None, strict=True)

    @model_validator(mode="after")
    def check_something(self) -> Self:
        """Something changes, and what every webhook has is not taken away."""
        if not self.model_fields_set:
            raise ValueError("Say what is to be different")
        if any(getattr(self, name) is None for name in self.model_fields_set & {"url", "events", "enabled"}):
            raise ValueError("A webhook has a url and events, and is enabled or not")
        return self

    def applied(self, to: Wanted) -> Wanted:
        """What the webhook wants from now on."""
        said = {name: getattr(self, name) for name in self.model_fields_set}
        said |= {name: tuple(said[name]) for name in ("events", "job_types") if said.get(name) is not None}
        return replace(to, **said)


class Webhook(Answered):
    """Who is told of what."""

    id: UUID
    organization_id: str
    url: str
    events: list[str]
    job_types: list[str] | None
    project_id: str | None
    description: str | None
    enabled: bool
    disabled_because: str | None = Field(description="Why the platform has disabled it.")
    failing_since: Instant | None = Field(description="The first failure after the last success.")
    former_secret_until: Instant | None = Field(description="Until then the secret before this one signs as well.")
    created_by: str
    created_at: Instant
    updated_at: Instant

    @classmethod
    def of(cls, webhook: WebhookRecord, **more: Any) -> Self:
        """The webhook without its secrets."""
        own = ("id", "organization_id", "disabled_because", "failing_since", "created_by", "created_at", "updated_at")
        wanted = {name: getattr(webhook.wanted, name) for name in NewWebhook.model_fields}
        return cls(
            **{name: getattr(webhook, name) for name in own},
            **wanted,
            former_secret_until=webhook.former_until,
            **more,
        )


class WebhookWithSecret(Webhook):
    """A webhook, and its new secret, which is shown this once."""

    secret: str = Field(description="Standard Webhooks: `whsec_` and base64.")

    @classmethod
    def of(cls, webhook: WebhookRecord, **more: Any) -> Self:
        """The webhook with the secret that signs from now on."""
        return super().of(webhook, secret=f"{PREFIX}{webhook.secrets[0]}", **more)


class WebhooksQuery(Elsewhere):
    """Which webhooks; unless it is asked for less, all of an organization are on one page."""

    limit: Limit = MOST
    cursor: UUID | None = Field(default=None, description="Those that follow this nextCursor.")


class Webhooks(Answered):
    """A page of webhooks, the oldest first."""

    webhooks: list[Webhook]
    next_cursor: UUID | None = Field(description="Where the next page begins; null: there is none.")

    @classmethod
    def of(cls, found: Sequence[WebhookRecord], size: int) -> Self:
        """At most `size` of those that were found, and where the others begin."""
        shown = [Webhook.of(each) for each in found[:size]]
        return cls(webhooks=shown, next_cursor=shown[-1].id if len(found) > size else None)


class Removed(Answered):
    """A webhook is no more."""

    message: str


class DeliveriesQuery(InAnother):
    """Which deliveries, newest first."""

    status: StatusWord | None = None
    cursor: Cursor = ""
    limit: Limit = 20

    def filters(self, webhook_id: UUID | None = None) -> Filters:
        """The same for `tracking`: a delivery is a job whose project is the webhook."""
        statuses = () if self.status is None else (self.status,)
        return Filters(project_id=None if webhook_id is None else str(webhook_id), statuses=statuses)


class JobDeliveriesQuery(DeliveriesQuery):
    """Which deliveries of a job, whoever has it."""

    organization: Name | None = Field(default=None, description=f"{ELSEWHERE} {EVERYWHERE_TOO}")


class Delivery(Answered):
    """A message to a webhook, and what became of it."""

    id: UUID
    message_id: str = Field(description="The header `webhook-id`: the same at every try, and when delivered again.")
    webhook_id: UUID
    event: str
    job_id: UUID | None = Field(description="Of which it tells, or that the schedule has made.")
    workflow_id: UUID | None = Field(description="Of which it tells.")
    schedule_id: UUID | None = Field(description="Of which it tells.")
    status: Status
    hold: Hold | None
    answer: int | None = Field(
        description="HTTP status of the receiver at the last try that has ended; null: there was none."
    )
    error: str | None = Field(description="Why the last try has failed.")
    attempts: int
    next_attempt_at: Instant | None
    created_at: Instant
    completed_at: Instant | None

    @classmethod
    def of(cls, job: JobRecord, **more: Any) -> Self:
        """The delivery that a job makes."""
        told = job.payload["message"]["data"]
        return cls(
            id=job.id,
            message_id=job.payload.get("messageId") or message_id(job.id),
            webhook_id=UUID(job.project_id),
            event=job.payload["event"],
            **{f"{subject}_id": told.get(f"{subject}Id") for subject in ("job", "workflow", "schedule")},
            status=job.status,
            hold=job.hold,
            answer=(job.result or job.progress_detail or {}).get("status"),
            error=job.error_message,
            attempts=job.attempt,
            next_attempt_at=job.next_retry_at,
            created_at=job.created_at,
            completed_at=job.completed_at,
            **more,
        )


class DeliveryWithTries(Delivery):
    """A delivery with its message, and each try."""

    message: Payload
    tries: list[Attempt]

    @classmethod
    def with_tries(cls, job: JobRecord, timeline: Sequence[HistoryEntry]) -> Self:
        """The delivery that a job makes, by its history."""
        tries = [Attempt.model_validate(each) for each in lists.attempts(timeline)]
        return cls.of(job, message=job.payload["message"], tries=tries)


class Deliveries(Answered):
    """A page of deliveries, newest first."""

    deliveries: list[Delivery]
    next_cursor: str | None = Field(description="Where the next page begins; null: there is none.")

    @classmethod
    def of(cls, page: Page) -> Self:
        """The page as it is shown."""
        return cls(deliveries=[Delivery.of(job) for job in page.jobs], next_cursor=page.next_cursor)


class Sent(Answered):
    """A message is on its way."""

    delivery_id: UUID
    message: str
