"""Whether the process lives, and whether the platform can do its work."""

from __future__ import annotations

from fastapi import APIRouter, Request

from api import openapi
from api.problems import RETRY_AFTER, Code, Problem
from api.readiness import OK, Readiness
from api.schemas import answers

router = APIRouter(tags=["health"])


@router.get("/healthz", operation_id="healthz")  # as it was called first
@router.get("/livez")
async def livez() -> answers.Health:
    """The process answers: from its event loop, whatever its threads wait for."""
    return answers.Health(status="ok")


@router.get("/readyz", responses=openapi.READY)
async def readyz(request: Request) -> answers.Readiness:
    """The database can be read and written. Workers and the broker are told of, but jobs are accepted without them."""
    readiness: Readiness = request.app.state.readiness
    checks = readiness.checks
    if checks["database"] != OK:
        detail = f"The database is {checks['database'].replace('_', ' ')}."
        raise Problem(Code.NOT_READY, detail, headers=RETRY_AFTER, extra={"checks": checks})
    return answers.Readiness(status="ready", checks=checks)
