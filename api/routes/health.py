"""Whether the process lives, and whether the platform can do its work."""

from __future__ import annotations

from datetime import timedelta

from fastapi import APIRouter

from api import openapi
from api.problems import RETRY_AFTER, UNAVAILABLE, Code, Problem
from api.reading import read
from api.schemas import answers
from tasks.dispatch import broker_alive
from tracking import workers
from tracking.settings import settings

BROKER_PATIENCE = 2.0  # seconds

router = APIRouter(tags=["health"])


@router.get("/healthz", operation_id="healthz")  # as it was called first
@router.get("/livez")
async def livez() -> answers.Health:
    """The process answers: from its event loop, whatever its threads wait for."""
    return answers.Health()


@router.get("/readyz", responses=openapi.READY)
def readyz() -> answers.Readiness:
    """The database and the broker answer, and a worker lives."""
    checks = {**_check_database(), "broker": "ok" if broker_alive(BROKER_PATIENCE) else "away"}
    if set(checks.values()) != {"ok"}:
        missing = ", ".join(f"{name} {state}" for name, state in checks.items() if state != "ok")
        raise Problem(Code.NOT_READY, missing, headers=RETRY_AFTER, extra={"checks": checks})
    return answers.Readiness(checks=checks)


def _check_database() -> dict[str, str]:
    try:
        alive = read(workers.live, timedelta(seconds=settings().lease_timeout))
    except UNAVAILABLE:
        return {"database": "away", "worker": "unknown"}
    return {"database": "ok", "worker": "ok" if alive else "none"}
