"""The client's requests about webhooks, and the ledger of what they were told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict, Unpack
from uuid import UUID

from celeriac.client.calling import Flow, Steps, call, listing, picked
from celeriac.client.kept import Deliveries, Delivery, DeliveryWithTries, Sent, Webhook, Webhooks, WebhookWithSecret
from celeriac.client.repeating import RepeatingRequests, in_json
from celeriac.client.transport import given
from tracking.states import Status


class Wanted(TypedDict, total=False):
    """What a webhook is told: these `events`, of these types, of this project; None: of all of them."""

    events: Sequence[str]
    job_types: Sequence[str] | None
    project_id: str | None
    description: str | None
    enabled: bool


class WebhookChange(Wanted, total=False):
    """What may be changed of one."""

    url: str


class TellingRequests(RepeatingRequests):
    """Requests about webhooks. What changes something is not repeated."""

    @call
    def create_webhook(self, url: str, **wanted: Unpack[Wanted]) -> Steps[WebhookWithSecret]:
        """Tell a web address what happens to jobs from now on; its `secret` is in this answer alone."""
        return self._ask(WebhookWithSecret, "POST", "/v1/webhooks", json={"url": url, **in_json(wanted)})

    @call
    def webhooks(self) -> Steps[tuple[Webhook, ...]]:
        """All webhooks of the organization, the oldest first."""
        return picked(self._get(Webhooks, "/v1/webhooks"), lambda answer: answer.webhooks)

    @call
    def webhook(self, webhook_id: UUID) -> Steps[Webhook]:
        return self._get(Webhook, f"/v1/webhooks/{webhook_id}")

    @call
    def change_webhook(self, webhook_id: UUID, **changes: Unpack[WebhookChange]) -> Steps[Webhook]:
        """Change what is named; `enabled=True` goes on with one that the platform has disabled."""
        return self._ask(Webhook, "PATCH", f"/v1/webhooks/{webhook_id}", json=in_json(changes))

    @call
    def remove_webhook(self, webhook_id: UUID) -> Steps[None]:
        """Tell it nothing more; what waits for it fails."""
        return self._tell("DELETE", f"/v1/webhooks/{webhook_id}")

    @call
    def rotate_secret(self, webhook_id: UUID) -> Steps[WebhookWithSecret]:
        """A new secret; for a day messages are signed with the former one as well."""
        return self._ask(WebhookWithSecret, "POST", f"/v1/webhooks/{webhook_id}/rotate-secret")

    @call
    def test_webhook(self, webhook_id: UUID) -> Steps[UUID]:
        """Send a message of the type webhook.test; returns the id of its delivery."""
        return picked(self._ask(Sent, "POST", f"/v1/webhooks/{webhook_id}/test"), lambda answer: answer.delivery_id)

    @listing
    def deliveries(self, webhook_id: UUID, *, status: Status | None = None) -> Flow[Delivery]:
        """What it was told, newest first."""
        wanted = given({"status": status, "limit": 100})
        path = f"/v1/webhooks/{webhook_id}/deliveries"
        return self._pages(Deliveries, path, lambda page: page.deliveries, **wanted)

    @call
    def delivery(self, webhook_id: UUID, delivery_id: UUID) -> Steps[DeliveryWithTries]:
        """One delivery with its message, and each try."""
        return self._get(DeliveryWithTries, f"/v1/webhooks/{webhook_id}/deliveries/{delivery_id}")

    @call
    def redeliver(self, webhook_id: UUID, delivery_id: UUID) -> Steps[UUID]:
        """Send a message again, with the same `webhook-id`; returns the id of the new delivery."""
        path = f"/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver"
        return picked(self._ask(Sent, "POST", path), lambda answer: answer.delivery_id)
