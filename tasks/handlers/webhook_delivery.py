"""webhook_delivery: a message to a webhook, signed. The platform makes these jobs; nobody can ask for one."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from uuid import UUID

import structlog
from pydantic import JsonValue

from tasks import BaseModel, Job, app
from tasks.deliveries import DELIVERY, message_id
from tasks.handlers.identity import identity_of
from tasks.platform import Platform
from tasks.webhooks.delivery import Answer, DeliveryDelayed, DeliveryRefused, Reach, post
from tasks.webhooks.messages import TEST, encoded
from tasks.webhooks.signing import headers
from tracking import webhooks
from tracking.webhooks import Webhook

log = structlog.get_logger(__name__)

MINUTE, HOUR = 60.0, 3600.0
DELAYS = (5.0, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 8 * HOUR, 10 * HOUR)  # seconds; a day, all together
JITTER = (0.9, 1.1)
GONE = 410  # the receiver wants no more of it (Standard Webhooks)


class Delivery(BaseModel):
    """What is delivered, and to which webhook. `message_id`: of the first delivery, when this one repeats it."""

    webhook_id: UUID
    event: str
    message: dict[str, JsonValue]
    message_id: str | None = None


class Delivered(BaseModel):
    """The receiver's HTTP status."""

    status: int


@app.task(
    bind=True,
    pydantic=True,
    name=DELIVERY,
    steps=("Deliver",),
    max_retries=len(DELAYS),
    soft_time_limit=60,
    time_limit=90,
    payload_errors=(DeliveryRefused,),
    circuit_key=lambda payload: payload.get("webhookId"),
)
def webhook_delivery(self: Job, payload: Delivery) -> Delivered:
    """Deliver a message. Whatever a receiver answers but a success is tried again; 410 disables its webhook."""
    platform: Platform = self.app.platform
    webhook = _living(platform, payload)
    with self.step("Deliver", 1, of=1):
        try:
            answer = _send(platform, webhook, payload, payload.message_id or message_id(identity_of(self).job_id))
        except (DeliveryDelayed, DeliveryRefused) as error:
            _note_refusal(platform, webhook, because=None)
            if isinstance(error, DeliveryRefused):
                raise
            raise self.retry(exc=error, countdown=_delay(self.request.retries, None)) from error
        self.progress(0, detail={"status": answer.status})  # the ledger has it whether it is a success or not
        if answer.status == GONE:
            _note_refusal(platform, webhook, because="its address has answered 410, Gone")
            raise DeliveryRefused(f"{answer}: the webhook is disabled")
        if not answer.is_success:
            _note_refusal(platform, webhook, because=None)
            delayed = DeliveryDelayed(str(answer), answer.wish)
            raise self.retry(exc=delayed, countdown=_delay(self.request.retries, answer.wish))
    with platform.database.autocommit() as connection:
        webhooks.was_delivered(connection, webhook.id)
    return Delivered(status=answer.status)


def _living(platform: Platform, payload: Delivery) -> Webhook:
    with platform.database.autocommit() as connection:
        webhook = webhooks.find(connection, payload.webhook_id)
    if webhook is None:
        raise DeliveryRefused("the webhook was removed")
    if not webhook.wanted.enabled and payload.event != TEST:  # whether it may be enabled again, a test is to show
        raise DeliveryRefused("the webhook is disabled")
    return webhook


def _send(platform: Platform, webhook: Webhook, payload: Delivery, known_as: str) -> Answer:
    content = encoded(payload.message)
    signed = headers(known_as, datetime.now(UTC), content, webhook.secrets)
    return post(webhook.wanted.url, content, signed, reach=Reach.of(platform.settings))


def _note_refusal(platform: Platform, webhook: Webhook, *, because: str | None) -> None:
    with platform.database.autocommit() as connection:
        is_disabled = webhooks.was_refused(connection, webhook.id, because=because)
    if is_disabled:
        log.warning("webhook.disabled", webhook=str(webhook.id), organization=webhook.organization_id, reason=because)


def _delay(retries: int, wish: float | None) -> float:
    """Seconds until the next try, after so many: those of DELAYS, and no less than the receiver asks for."""
    usual = DELAYS[min(retries, len(DELAYS) - 1)] * random.uniform(*JITTER)  # noqa: S311 - no secret
    return max(usual, wish or 0.0)
