"""Tokens that are taken no more before they expire, for operators."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path
from uuid_utils.compat import uuid7

from api import openapi
from api.auth import Principal, requires
from api.denials import life_of
from api.origins import Came
from api.permissions import MANAGE_PLATFORM
from api.reading import Read, Served
from api.schemas.denied_tokens import Denial, DenialPut, Denials
from api.strict import StrictRoute
from tracking import denied_tokens
from tracking.origins import By

router = APIRouter(prefix="/v1/denied-tokens", tags=["tokens"], route_class=StrictRoute)

Operator = Annotated[Principal, requires(MANAGE_PLATFORM)]
DenialId = Annotated[UUID, Path(alias="id")]


@router.get("", responses=openapi.READ)
def list_denied_tokens(principal: Operator, read: Read) -> Denials:  # noqa: ARG001 - its permission counts
    """Which tokens are taken no more, the newest first, until they would have expired."""
    return Denials.of(read(denied_tokens.listed_denials))


@router.put("", responses=openapi.DENIED)
def deny_tokens(principal: Operator, platform: Served, *, origin: Came, body: DenialPut) -> Denial:
    """Take a token no more, or those of a user, in the place of what was said of the same one.

    Within five seconds no process takes them, and sessions and streams that were opened with them have ended.
    """
    life, by = life_of(platform.settings), By(principal.actor, origin)
    with platform.database.begin() as connection:
        found = denied_tokens.put(connection, body.wanted(uuid7()), life, by)
    return Denial.model_validate(found)


@router.delete("/{id}", responses=openapi.DENIAL)  # noqa: FAST003 - DenialId is that parameter
def allow_tokens(principal: Operator, platform: Served, *, origin: Came, denial_id: DenialId) -> Denial:
    """Take these tokens again, as far as they have not expired. The answer is what it was."""
    with platform.database.begin() as connection:
        found = denied_tokens.remove(connection, denial_id, By(principal.actor, origin))
    return Denial.model_validate(found)
