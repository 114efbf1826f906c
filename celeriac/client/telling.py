"""The client's requests about webhooks, and the ledger of what they were told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypedDict, Unpack
from uuid import UUID

from celeriac.client.kept import Deliveries, Delivery, DeliveryWithTries, Sent, Webhook, Webhooks, WebhookWithSecret
from celeriac.client.repeating import RepeatingRequests, in_json
from celeriac.client.transport import given, read
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

    def create_webhook(self, url: str, **wanted: Unpack[Wanted]) -> WebhookWithSecret:
        """Tell a web address what happens to jobs from now on; its `secret` is in this answer alone."""
        return read(WebhookWithSecret, self._ask("POST", "/v1/webhooks", json={"url": url, **in_json(wanted)}))

    def webhooks(self) -> tuple[Webhook, ...]:
        """All webhooks of the organization, the oldest first."""
        return self._get(Webhooks, "/v1/webhooks").webhooks

    def webhook(self, webhook_id: UUID) -> Webhook:
        return self._get(Webhook, f"/v1/webhooks/{webhook_id}")

    def change_webhook(self, webhook_id: UUID, **changes: Unpack[WebhookChange]) -> Webhook:
        """Change what is named; `enabled=True` goes on with one that the platform has disabled."""
        return read(Webhook, self._ask("PATCH", f"/v1/webhooks/{webhook_id}", json=in_json(changes)))

    def remove_webhook(self, webhook_id: UUID) -> None:
        """Tell it nothing more; what waits for it fails."""
        self._ask("DELETE", f"/v1/webhooks/{webhook_id}")

    def rotate_secret(self, webhook_id: UUID) -> WebhookWithSecret:
        """A new secret; for a day messages are signed with the former one as well."""
        return read(WebhookWithSecret, self._ask("POST", f"/v1/webhooks/{webhook_id}/rotate-secret"))

    def test_webhook(self, webhook_id: UUID) -> UUID:
        """Send a message of the type webhook.test; returns the id of its delivery."""
        return read(Sent, self._ask("POST", f"/v1/webhooks/{webhook_id}/test")).delivery_id

    def deliveries(self, webhook_id: UUID, *, status: Status | None = None) -> Iterator[Delivery]:
        """What it was told, newest first."""
        for page in self._pages(
            Deliveries, f"/v1/webhooks/{webhook_id}/deliveries", **given({"status": status, "limit": 100})
        ):
            yield from page.deliveries

    def delivery(self, webhook_id: UUID, delivery_id: UUID) -> DeliveryWithTries:
        """One delivery with its message, and each try."""
        return self._get(DeliveryWithTries, f"/v1/webhooks/{webhook_id}/deliveries/{delivery_id}")

    def redeliver(self, webhook_id: UUID, delivery_id: UUID) -> UUID:
        """Send a message again, with the same `webhook-id`; returns the id of the new delivery."""
        path = f"/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver"
        return read(Sent, self._ask("POST", path)).delivery_id
