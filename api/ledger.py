"""What webhooks were told of something: a job, a workflow or a schedule."""

from __future__ import annotations

from uuid import UUID

from api.reading import Reading
from api.schemas.webhooks import Deliveries, DeliveriesQuery
from tracking.models import Scope
from tracking.reads import lists
from tracking.tenancy import confined_to
from tracking.webhooks import delivering


def told_of(read: Reading, organization_id: str, subject: UUID, query: DeliveriesQuery) -> Deliveries:
    """The deliveries about it, newest first. Whether the caller sees it has been asked before."""
    told = Scope(delivering(organization_id), str(subject))
    with confined_to(told.organization_id):
        return Deliveries.of(read(lists.after, told, query.filters(), cursor=query.cursor or None, size=query.limit))
