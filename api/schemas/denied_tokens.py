"""Tokens that are taken no more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import ConfigDict, Field, model_validator

from api.schemas.answers import Answered
from api.schemas.fields import KeptInstant, Name, Text
from api.schemas.requests import Asked
from tracking.denied_tokens import Denial as DenialRecord
from tracking.denied_tokens import NewDenial
from tracking.values import Instant


def _conditions() -> list[dict[str, Any]]:
    """JSON Schema: what comes with what in a DenialPut."""
    absent = {"type": "null"}
    token = {"token": {"type": "string"}, "user": absent, "issuedBefore": absent}
    user = {"user": {"type": "string"}, "token": absent}
    return [{"required": ["token"], "properties": token}, {"required": ["user"], "properties": user}]


class DenialPut(Asked):
    """One token, or those of a user."""

    model_config = ConfigDict(
        json_schema_extra=lambda schema: schema.update(
            oneOf=_conditions(), examples=[{"user": "mara", "reason": "left"}]
        )
    )

    token: Name | None = Field(default=None, description="The `jti` of a token.")
    user: Name | None = Field(default=None, description="The `sub` of tokens.")
    organization: Name | None = Field(default=None, description="Their `org`; null: any.")
    issued_before: Annotated[KeptInstant | None, Field(description="Those that are older; null: later ones too.")] = (
        None
    )
    reason: Text | None = Field(default=None, description="For operators and the audit.")

    @model_validator(mode="after")
    def check_fit(self) -> Self:
        if (self.token is None) is (self.user is None):
            raise ValueError("Say either token or user")
        if self.token is not None and self.issued_before is not None:
            raise ValueError("issuedBefore is of the tokens of a user")
        return self

    def wanted(self, denial_id: UUID) -> NewDenial:
        return NewDenial(self.organization, self.token, self.user, self.issued_before, denial_id, self.reason)


class Denial(Answered):
    """Tokens that are taken no more."""

    id: UUID
    token: str | None = Field(validation_alias="token_id", description="The `jti` of one.")
    user: str | None = Field(validation_alias="user_id", description="The `sub` of those.")
    organization: str | None = Field(validation_alias="organization_id", description="Their `org`; null: any.")
    issued_before: Instant | None = Field(description="Those that are older; null: later ones too.")
    expires_at: Instant | None = Field(description="When all of them have expired; null: until it is taken back.")
    reason: str | None
    denied_by: str
    denied_at: Instant


class Denials(Answered):
    """All that hold, the newest first."""

    denials: list[Denial]

    @classmethod
    def of(cls, found: Sequence[DenialRecord]) -> Self:
        """These, as clients see them."""
        return cls(denials=[Denial.model_validate(each) for each in found])
