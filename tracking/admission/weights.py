"""How great an organization's share is of the workers that several organizations want."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, text
from sqlalchemy.dialects.postgresql import insert

from tracking import audit
from tracking.admission.rule import weight_of
from tracking.audit import Deed
from tracking.audited import Action
from tracking.limit_tables import organization_weights
from tracking.origins import Origin

HEAVIEST = 100


def set_weight(
    connection: Connection, organization_id: str, weight: int | None, *, actor: str, origin: Origin | None
) -> None:
    """Serve so many jobs of an organization, 1 to HEAVIEST, while another has one served; None: as all others, 1.

    With an `origin` it wants a transaction, for the entry in the audit.
    """
    if weight is None:
        connection.execute(
            delete(organization_weights).where(organization_weights.c.organization_id == organization_id)
        )
    else:
        row = {"organization_id": organization_id, "weight": weight, "changed_by": actor}
        given = insert(organization_weights).values(row)
        changed = {"weight": weight, "changed_by": actor, "changed_at": text("clock_timestamp()")}
        connection.execute(given.on_conflict_do_update(index_elements=["organization_id"], set_=changed))
    deed = Deed(Action.SET_WEIGHT, actor, organization_id, organization_id, detail={"weight": weight})
    audit.write(connection, origin, deed)


def weight(connection: Connection, organization_id: str) -> int:
    """How many jobs of this organization are served while one is of another."""
    return int(connection.execute(WEIGHT, {"organization_id": organization_id}).scalar_one())


def weights(connection: Connection, organizations: Sequence[str]) -> dict[str, int]:
    """The same of several organizations, in their order."""
    rows = connection.execute(WEIGHTS, {"organizations": list(organizations)})
    found = {row.organization_id: row.weight for row in rows}
    return {organization_id: found.get(organization_id, 1) for organization_id in organizations}


WEIGHT = text(f"SELECT {weight_of(':organization_id')}")
WEIGHTS = text("SELECT organization_id, weight FROM organization_weights WHERE organization_id = ANY(:organizations)")
