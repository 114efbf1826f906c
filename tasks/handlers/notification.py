"""notification: a message of the organization, to a web address or to the platform's notification file."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, HttpUrl, JsonValue, model_validator

from tasks import BaseModel, Job, app
from tasks.exports.files import private_directory
from tasks.handlers.identity import Identity, identity_of
from tasks.money import PayloadWithoutMoney
from tasks.webhooks.delivery import DeliveryDelayed, DeliveryRefused, deliver, receiver
from tracking.values import in_milliseconds

LOG_FILE = "notifications.jsonl"


class SendNotification(PayloadWithoutMoney):
    """What to say, and where: `webhook` posts it to `url`, `log` appends it to notifications.jsonl on the server."""

    channel: Literal["webhook", "log"] = "webhook"
    url: HttpUrl | None = Field(default=None, description="An http or https address in the public internet.")
    subject: str = Field(min_length=1, max_length=200)
    message: str = Field(default="", max_length=10_000)
    data: dict[str, JsonValue] = Field(default_factory=dict, description="Ids for the receiver; no monetary values.")

    @model_validator(mode="after")
    def check_url(self) -> SendNotification:
        """A webhook has an address, the log has none."""
        if (self.channel == "webhook") != (self.url is not None):
            raise ValueError("a webhook needs a url, and the log takes none")
        return self


class SentNotification(BaseModel):
    """Where the message went. `status` is the receiver's HTTP status; None for the log."""

    channel: Literal["webhook", "log"]
    receiver: str
    status: int | None


def receiver_of(payload: dict[str, Any]) -> str | None:
    """Whose failures hold whose messages: each receiver's its own."""
    url = payload.get("url")
    return None if url is None else receiver(url)


@app.task(
    bind=True,
    pydantic=True,
    name="notification",
    permission="notifications.send_notifications",
    steps=("Deliver",),
    autoretry_for=(ConnectionError,),
    retry_backoff=True,
    max_retries=5,
    soft_time_limit=60,
    time_limit=90,
    payload_errors=(DeliveryRefused,),  # the receiver is there, and will not have it
    circuit_key=receiver_of,
)
def notification(self: Job, payload: SendNotification) -> SentNotification:
    """Deliver a message. Every attempt carries the job's id as Idempotency-Key: the receiver can take it once."""
    who, settings = identity_of(self), self.app.platform.settings
    with self.step("Deliver", 1, of=1):
        if payload.url is None:
            return SentNotification(channel="log", receiver=_append(settings.data_dir, who, payload), status=None)
        try:
            key, private = str(who.job_id), settings.webhooks_private
            status = deliver(str(payload.url), _body(who, payload), idempotency_key=key, may_be_private=private)
        except DeliveryDelayed as error:
            if error.retry_after is None:
                raise  # the back-off of the handler decides
            raise self.retry(exc=error, countdown=error.retry_after) from error
        return SentNotification(channel="webhook", receiver=payload.url.host or "", status=status)


def _body(who: Identity, payload: SendNotification) -> dict[str, Any]:
    return {
        "jobId": str(who.job_id),
        "organizationId": who.organization_id,
        "subject": payload.subject,
        "message": payload.message,
        "data": payload.data,
    }


def _append(directory: Path, who: Identity, payload: SendNotification) -> str:
    """A file of its own: the words of an organization have no place in the log lines of the platform."""
    moment = in_milliseconds(datetime.now(UTC))
    line = json.dumps({"at": moment, **_body(who, payload)}, ensure_ascii=False) + "\n"
    path = private_directory(directory) / LOG_FILE
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        file.write(line.encode())  # in one write, so that lines of several workers do not mix
        os.fsync(file.fileno())
    return LOG_FILE
