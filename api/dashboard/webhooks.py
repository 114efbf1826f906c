"""The pages of the webhooks: those there are, the ledger of one, and a delivery with its message and its tries."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from http.client import responses
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from starlette.responses import RedirectResponse, Response

from api.dashboard.site import Visit, render
from api.permissions import MANAGE_WEBHOOKS
from api.problems import invalid_by
from api.routes import webhooks as routes
from api.schemas.webhooks import DeliveriesQuery, Delivery, WebhookChange, WebhooksQuery
from tracking.states import ACTIVE

SHOWN = 25  # deliveries on one page
DONE = {
    "tested": "A test is on its way.",
    "enabled": "It is told again what happens from now on.",
    "disabled": "It is told nothing until it is enabled.",
    "redelivered": "The message is on its way again.",
}


def webhooks_page(visit: Visit) -> Response:
    """All webhooks of the organization, with what becomes of their messages."""
    visit.principal.must_have(MANAGE_WEBHOOKS)
    found = routes.list_webhooks(visit.principal, visit.read, WebhooksQuery()).webhooks
    return _shown(
        visit,
        "webhooks",
        webhooks=sorted(found, key=lambda each: (each.enabled and each.failing_since is None, each.created_at)),
    )


def webhook_page(visit: Visit) -> Response:
    """One webhook, and what was delivered to it, or is to be, newest first."""
    visit.principal.must_have(MANAGE_WEBHOOKS)
    asked, webhook_id = visit.request.query_params, visit.request.path_params["id"]
    given = {name: asked[name] for name in ("status", "cursor") if asked.get(name)}
    try:
        query = DeliveriesQuery.model_validate({**given, "limit": SHOWN})
    except ValidationError as error:
        raise invalid_by(error, outer=False) from None
    found = routes.list_deliveries(visit.principal, visit.read, webhook_id, query)
    return _shown(
        visit,
        "webhook",
        webhook=routes.get_webhook(visit.principal, visit.read, webhook_id),
        deliveries=found.deliveries,
        further=found.next_cursor,
        chosen=given.get("status", ""),
        is_first="cursor" not in given,
    )


def delivery_page(visit: Visit) -> Response:
    """One delivery: what is asked, what was answered, and each try."""
    visit.principal.must_have(MANAGE_WEBHOOKS)
    places = visit.request.path_params
    delivery = routes.get_delivery(visit.principal, visit.read, places["id"], places["deliveryId"])
    return _shown(
        visit,
        "delivery",
        webhook=routes.get_webhook(visit.principal, visit.read, places["id"]),
        delivery=delivery,
        tries=list(reversed(delivery.tries)),
        answered=_answered(delivery),
        why_not="It is still to be made." if delivery.status in ACTIVE else None,
    )


def test_webhook(visit: Visit) -> Response:
    """Send a message that tells of no job, as `POST /v1/webhooks/{id}/test` does."""
    return _act(visit, "tested", routes.test_webhook, read=visit.read)


def enable_webhook(visit: Visit) -> Response:
    """Tell it again, as `PATCH /v1/webhooks/{id}` does."""
    return _act(visit, "enabled", routes.change_webhook, said=WebhookChange(enabled=True))


def disable_webhook(visit: Visit) -> Response:
    """Tell it nothing, as `PATCH /v1/webhooks/{id}` does."""
    return _act(visit, "disabled", routes.change_webhook, said=WebhookChange(enabled=False))


def redeliver(visit: Visit) -> Response:
    """Deliver a message again, as `POST /v1/webhooks/{id}/deliveries/{deliveryId}/redeliver` does."""
    delivery_id: UUID = visit.request.path_params["deliveryId"]
    return _act(visit, "redelivered", routes.redeliver, read=visit.read, delivery_id=delivery_id)


def _act(visit: Visit, what: str, route: Callable[..., Any], **given: Any) -> Response:
    visit.principal.must_have(MANAGE_WEBHOOKS)
    webhook_id: UUID = visit.request.path_params["id"]
    done = route(visit.principal, visit.platform, webhook_id=webhook_id, origin=visit.origin, **given)
    if what == "redelivered":  # one that was taken is sent once more, as another delivery
        return RedirectResponse(f"/webhooks/{webhook_id}/deliveries/{done.delivery_id}?done={what}", 303)
    return RedirectResponse(f"/webhooks/{webhook_id}?done={what}", 303)


def _shown(visit: Visit, name: str, **values: Any) -> Response:
    asked = visit.request.query_params
    return render(
        visit.request,
        f"{name}_body.html" if asked.get("part") == "body" else f"{name}.html",
        principal=visit.principal,
        last_event=visit.last_event,
        notice=DONE.get(asked.get("done", "")),
        now=datetime.now(UTC),
        **values,
    )


def _answered(delivery: Delivery) -> str:
    """What the receiver has said to the last try."""
    if delivery.answer is not None:
        return f"{delivery.answer} {responses.get(delivery.answer, '')}".strip()
    return delivery.error or "Not sent yet."
