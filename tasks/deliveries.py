"""Deliveries: each is a job of the organization that delivers for another one, by the worker's queue for them."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from tasks import submission, verbs
from tasks.catalog import handler
from tasks.platform import Platform
from tasks.webhooks.messages import TEST, body
from tracking import audit
from tracking.audit import Deed
from tracking.audited import Action
from tracking.clock import at_present
from tracking.errors import IllegalMove
from tracking.models import JobRecord, JsonObject, NewJob, Owner, Scope, Submitted, Wishes
from tracking.origins import By
from tracking.states import ACTIVE, Status
from tracking.tenancy import confined_to
from tracking.webhooks import DELIVERING, Webhook, delivering

DELIVERY = "webhook_delivery"  # the type of the jobs


def new_delivery(
    platform: Platform,
    webhook: Webhook,
    about: str,
    event: str,
    told: JsonObject,
    *,
    key: int | None,
    again: str | None = None,
) -> NewJob:
    """The job that delivers a message. Its user is what it tells of, a job say, its project the webhook.

    `key`: of what happened, which is delivered once to a webhook, whoever finds it how often; None: it is new.
    `again`: the id of a message that is repeated.
    """
    wishes: Wishes = {"project_id": str(webhook.id)}
    if key is not None:
        wishes |= {"idempotency_key": f"{webhook.id}/{key}", "request_hash": event}
    payload = {"webhookId": str(webhook.id), "event": event, "message": told, "messageId": again}
    owner = Owner(delivering(webhook.organization_id), about)
    return handler(platform.app, DELIVERY).accept(payload, owner, **wishes)


def submit(platform: Platform, new: Sequence[NewJob]) -> list[JobRecord]:
    """Accept deliveries, and send them. Raises the first refusal: it would be a fault of ours."""
    accepted: list[JobRecord] = []
    for answer in submission.submit_many(platform, new, Scope(DELIVERING, None), together=False):
        if not isinstance(answer, Submitted):
            raise answer
        accepted.append(answer.job)
    return accepted


def test(platform: Platform, webhook: Webhook, by: By) -> JobRecord:
    """Deliver something that tells of no job, to try an address."""
    with platform.database.autocommit() as connection:
        told = body(TEST, at_present(connection), {"organizationId": webhook.organization_id, "userId": by.actor})
    _tell(platform, webhook, by, Action.TEST_WEBHOOK, None)
    with confined_to(delivering(webhook.organization_id)):
        [job] = submit(platform, [new_delivery(platform, webhook, by.actor, TEST, told, key=None)])
    return job


def redeliver(platform: Platform, webhook: Webhook, delivery: JobRecord, by: By) -> JobRecord:
    """Deliver a message again, which keeps its id. Raises IllegalMove for one that is still to be delivered."""
    if delivery.status in ACTIVE:
        raise IllegalMove(f"the delivery {delivery.id} is {delivery.status}: it is still to be made")
    _tell(platform, webhook, by, Action.REDELIVER, delivery.id)
    if delivery.status is not Status.SUCCEEDED:
        scope = Scope(delivery.organization_id, None)
        with confined_to(delivery.organization_id):
            return verbs.retry(platform, delivery.id, scope, actor=by.actor, force=True, priority=None, origin=None).job
    told, known_as = delivery.payload, delivery.payload.get("messageId") or message_id(delivery.id)
    again = new_delivery(platform, webhook, delivery.user_id, told["event"], told["message"], key=None, again=known_as)
    with confined_to(delivery.organization_id):
        [job] = submit(platform, [again])
    return job


def message_id(delivery_id: UUID) -> str:
    """How a receiver knows a message again, whichever try it is."""
    return f"msg_{delivery_id.hex}"


def _tell(platform: Platform, webhook: Webhook, by: By, action: Action, delivery_id: UUID | None) -> None:
    detail = {} if delivery_id is None else {"deliveryId": str(delivery_id)}
    with platform.database.begin() as connection:
        deed = Deed(action, by.actor, webhook.organization_id, str(webhook.id), detail=detail)
        audit.write(connection, by.origin, deed)
