"""What an organization may do at once, and what it does: its limit, its slots, its line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, text

from tracking.admission.rule import Limits, limit_of
from tracking.schema import IN_FLIGHT


@dataclass(frozen=True, slots=True)
class Organization:
    """How many of its jobs may execute at once (`limit`, 0 = any number), hold a slot now, and stand in line for one.

    A job holds a slot from when it is sent until its body is over.
    """

    id: str
    limit: int
    is_default_limit: bool
    executing: int
    in_line: int


class Slots(NamedTuple):
    """How many jobs of an organization may execute at once (`limit`, 0 = any number), and hold a slot now."""

    limit: int
    executing: int


@dataclass(frozen=True, slots=True)
class Own:
    """What an organization has instead of what all have, and who has last set it, when: the audit forgets that."""

    name: str
    changed_by: str
    changed_at: datetime


def get(connection: Connection, organization_id: str, limits: Limits) -> Organization:
    """An organization; one without any job or limit of its own has the platform's limit, and nothing in its line."""
    parameters = {"organization_id": organization_id, **limits.parameters}
    return Organization(**connection.execute(GET, parameters).one()._mapping)  # noqa: SLF001 - a public name


def slots(connection: Connection, organization_id: str, limits: Limits) -> Slots:
    """An organization's limit and how many of its jobs hold a slot: without its line, which may be long."""
    row = connection.execute(SLOTS, {"organization_id": organization_id, **limits.parameters}).one()
    return Slots(row.limit, row.executing)


def own(connection: Connection, organization_id: str) -> Sequence[Own]:
    """Which of the three an organization has of its own: its limit, how many of its jobs may wait, its weight."""
    rows = connection.execute(OWN, {"organization_id": organization_id})
    return [Own(row.name, row.changed_by, row.changed_at) for row in rows]


_SLOTS = f"""this.id, {limit_of("this.id")} AS "limit",
           (SELECT count(*) FROM jobs WHERE organization_id = this.id AND {IN_FLIGHT}) AS executing"""
_THIS = "(SELECT CAST(:organization_id AS text) AS id) AS this"

SLOTS = text(f"SELECT {_SLOTS} FROM {_THIS}")

GET = text(
    f"""
    SELECT {_SLOTS},
           NOT EXISTS (SELECT FROM organizations WHERE organizations.id = this.id) AS is_default_limit,
           (SELECT count(*) FROM jobs WHERE organization_id = this.id AND hold = 'organization_limit') AS in_line
    FROM {_THIS}"""
)

OWN = text(
    """
    SELECT 'limit' AS name, changed_by, changed_at FROM organizations WHERE id = :organization_id
    UNION ALL SELECT 'may wait', changed_by, changed_at FROM waiting_limits WHERE organization_id = :organization_id
    UNION ALL SELECT 'weight', changed_by, changed_at FROM organization_weights
              WHERE organization_id = :organization_id"""
)
