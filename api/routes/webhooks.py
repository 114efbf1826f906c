"""Webhooks: who is told what happens to jobs, and the ledger of what was told."""

from __future__ import annotations

import ipaddress
from typing import Annotated
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import APIRouter, Path, Query, Response
from uuid_utils.compat import uuid7

from api import openapi
from api.auth import Principal, Reach, requires
from api.origins import Came
from api.permissions import MANAGE_WEBHOOKS
from api.problems import Code, Problem
from api.reading import Read, Reading, Served, SlowRead
from api.schemas.webhooks import (
    Deliveries,
    DeliveriesQuery,
    DeliveryWithTries,
    NewWebhook,
    Removed,
    Sent,
    Webhook,
    WebhookChange,
    Webhooks,
    WebhooksQuery,
    WebhookWithSecret,
)
from api.strict import StrictRoute
from tasks import deliveries
from tasks.platform import Platform
from tasks.webhooks.addresses import is_public
from tracking import webhooks
from tracking.errors import JobNotFound
from tracking.models import JobRecord, Scope
from tracking.origins import By
from tracking.reads import lists
from tracking.tenancy import confined_to
from tracking.webhooks import delivering

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], route_class=StrictRoute)

Manager = Annotated[Principal, requires(MANAGE_WEBHOOKS, reach=Reach.ONE)]
WebhookId = Annotated[UUID, Path(alias="id")]
DeliveryId = Annotated[UUID, Path(alias="deliveryId")]


@router.post("", status_code=201, responses=openapi.WEBHOOK_CREATED)
def create_webhook(
    principal: Manager, platform: Served, new: NewWebhook, *, origin: Came, response: Response
) -> WebhookWithSecret:
    """Tell this address from now on. The answer alone has the secret that signs."""
    _require_public(platform, new.url)
    by = By(principal.actor, origin)
    with platform.database.begin() as connection:
        created = webhooks.create(connection, uuid7(), principal.organization, new.wanted, by)
    response.headers["Location"] = f"/v1/webhooks/{created.id}"
    return WebhookWithSecret.of(created)


@router.get("", responses=openapi.READ)
def list_webhooks(
    principal: Annotated[Principal, requires(MANAGE_WEBHOOKS, reach=Reach.ALL)],
    read: Read,
    query: Annotated[WebhooksQuery, Query()],
) -> Webhooks:
    """The webhooks of the organization."""
    found = read(webhooks.page, principal.sees, after=query.cursor, size=query.limit + 1)
    return Webhooks.of(found, query.limit)


@router.get("/{id}", responses=openapi.WEBHOOK)  # noqa: FAST003 - WebhookId is that parameter
def get_webhook(principal: Manager, read: Read, webhook_id: WebhookId) -> Webhook:
    """One webhook."""
    return Webhook.of(read(webhooks.get, webhook_id, principal.organization))


@router.patch("/{id}", responses=openapi.WEBHOOK_CHANGED)  # noqa: FAST003 - as above
def change_webhook(
    principal: Manager, platform: Served, webhook_id: WebhookId, said: WebhookChange, *, origin: Came
) -> Webhook:
    """Change a webhook. What waits to be delivered goes to the address that it has by then."""
    if said.url is not None:
        _require_public(platform, said.url)
    by = By(principal.actor, origin)
    with platform.database.begin() as connection:
        known = webhooks.get(connection, webhook_id, principal.organization)
        changed = webhooks.change(connection, webhook_id, principal.organization, said.applied(known.wanted), by)
    return Webhook.of(changed)


@router.delete("/{id}", responses=openapi.WEBHOOK)  # noqa: FAST003 - as above
def remove_webhook(principal: Manager, platform: Served, webhook_id: WebhookId, origin: Came) -> Removed:
    """Tell this address nothing more. What waits to be delivered is not."""
    with platform.database.begin() as connection:
        webhooks.remove(connection, webhook_id, principal.organization, By(principal.actor, origin))
    return Removed(message="Webhook removed successfully")


@router.post("/{id}/rotate-secret", responses=openapi.WEBHOOK_ROTATED)  # noqa: FAST003 - as above
def rotate_webhook_secret(
    principal: Manager, platform: Served, webhook_id: WebhookId, origin: Came
) -> WebhookWithSecret:
    """Sign with a new secret, and with each former one as well until a day after it was replaced."""
    by = By(principal.actor, origin)
    with platform.database.begin() as connection:
        return WebhookWithSecret.of(webhooks.rotate(connection, webhook_id, principal.organization, by))


@router.post("/{id}/test", status_code=202, responses=openapi.WEBHOOK)  # noqa: FAST003 - as above
def test_webhook(principal: Manager, platform: Served, read: Read, webhook_id: WebhookId, origin: Came) -> Sent:
    """Deliver a message that tells of no job."""
    webhook = read(webhooks.get, webhook_id, principal.organization)
    sent = deliveries.test(platform, webhook, By(principal.actor, origin))
    return Sent(delivery_id=sent.id, message="A test is on its way")


@router.get("/{id}/deliveries", responses=openapi.WEBHOOK_DELIVERIES)  # noqa: FAST003 - as above
def list_deliveries(
    principal: Manager, read: SlowRead, webhook_id: WebhookId, query: Annotated[DeliveriesQuery, Query()]
) -> Deliveries:
    """What was delivered, or is to be, newest first."""
    read(webhooks.get, webhook_id, principal.organization)
    scope = _deliveries(principal)
    with confined_to(scope.organization_id):
        found = read(lists.after, scope, query.filters(webhook_id), cursor=query.cursor or None, size=query.limit)
    return Deliveries.of(found)


@router.get("/{id}/deliveries/{deliveryId}", responses=openapi.DELIVERY)  # noqa: FAST003 - as above
def get_delivery(principal: Manager, read: Read, webhook_id: WebhookId, delivery_id: DeliveryId) -> DeliveryWithTries:
    """One delivery, with its message and each try."""
    job = _delivery(principal, read, webhook_id, delivery_id)
    with confined_to(job.organization_id):
        return DeliveryWithTries.with_tries(job, read(lists.timeline, delivery_id))


@router.post("/{id}/deliveries/{deliveryId}/redeliver", status_code=202, responses=openapi.REDELIVERED)  # noqa: FAST003 - as above
def redeliver(
    principal: Manager, platform: Served, read: Read, webhook_id: WebhookId, delivery_id: DeliveryId, *, origin: Came
) -> Sent:
    """Deliver a message again, with the same id: one that has failed goes on, one that was taken is sent once more."""
    webhook = read(webhooks.get, webhook_id, principal.organization)
    job = _delivery(principal, read, webhook_id, delivery_id)
    sent = deliveries.redeliver(platform, webhook, job, By(principal.actor, origin))
    return Sent(delivery_id=sent.id, message="The message is on its way")


def _deliveries(principal: Principal) -> Scope:
    return Scope(delivering(principal.organization), None)


def _delivery(principal: Principal, read: Reading, webhook_id: UUID, delivery_id: UUID) -> JobRecord:
    """A delivery of this webhook. Raises WebhookNotFound or the 404 problem."""
    read(webhooks.get, webhook_id, principal.organization)
    scope = _deliveries(principal)
    try:
        with confined_to(scope.organization_id):
            job = read(lists.get, delivery_id, scope)
    except JobNotFound:
        job = None
    if job is None or job.project_id != str(webhook_id):
        raise Problem(Code.DELIVERY_NOT_FOUND, f"There is no delivery {delivery_id} of this webhook.")
    return job


def _require_public(platform: Platform, url: str) -> None:
    """Raise the problem of an address that nothing would ever be delivered to.

    A name is looked up at each delivery, which sees to the port as well: the workers know which they may connect to.
    """
    host = (urlsplit(url).hostname or "").strip("[]")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return
    if not platform.settings.webhooks_private and not is_public(host):
        message = "Input should be an address in the public internet"
        raise Problem(Code.INVALID_REQUEST, f"url: {message}", extra={"errors": [{"field": "url", "message": message}]})
