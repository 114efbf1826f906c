"""From where somebody asks for something: what an audit says beside their name."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from psycopg.types.json import Jsonb

OPERATOR = "operator"  # the name of whoever is of no organization, or of another one


class Source(StrEnum):
    """The door by which they come."""

    API = "api"
    CLI = "cli"
    DASHBOARD = "dashboard"
    REMOTE_CONTROL = "remote_control"  # Celery's, which Flower uses


@dataclass(frozen=True, slots=True)
class Origin:
    """From where somebody comes, of which organization they are (None: an operator at a terminal), and the request.

    `actor`: their name, when what they do bears another one, OPERATOR, because it is done in another organization.
    """

    source: Source
    organization_id: str | None = None
    address: str | None = None
    request_id: str | None = None
    actor: str | None = None

    @property
    def plain(self) -> dict[str, Any]:
        """The same as JSON, without what is unknown."""
        said = {
            "source": str(self.source),
            "organization": self.organization_id,
            "address": self.address,
            "request": self.request_id,
            "actor": self.actor,
        }
        return {name: value for name, value in said.items() if value is not None}


@dataclass(frozen=True, slots=True)
class By:
    """Who does it, and from where, for the audit; without an origin it is in none."""

    actor: str
    origin: Origin | None = None


def origin_parameter(origin: Origin | None) -> dict[str, Jsonb | None]:
    """The parameter of a statement that writes an audit; with None it writes none: history alone says who did it."""
    return {"origin": None if origin is None else Jsonb(origin.plain)}
