"""Whether the process lives, whether the platform can do its work, and how much of it there is."""

from __future__ import annotations

import secrets

from fastapi import APIRouter, Request, Response

from api import openapi
from api.auth import unauthorized
from api.looking import OK
from api.metrics import Metrics
from api.problems import RETRY_AFTER, Code, Problem
from api.readiness import Readiness
from api.schemas import answers

router = APIRouter(tags=["health"], generate_unique_id_function=openapi.operation_id)


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


@router.get("/metrics", response_class=Response, responses=openapi.METRICS)
def metrics(request: Request) -> Response:
    """For Prometheus, in its text format: jobs by queue, type and state, workers, and the answers of this process.

    Who may ask is the network's business, unless `CELERIAC_METRICS_TOKEN` is set, which shows organizations as well.
    """
    token = request.app.state.platform.settings.metrics_token.get_secret_value()
    if token:
        _require(token, request.headers.get("authorization"))
    shown: Metrics = request.app.state.metrics
    return Response(shown.text(organizations=bool(token)), media_type=openapi.PROMETHEUS)


def _require(token: str, given: str | None) -> None:
    if given is None:
        raise unauthorized(Code.TOKEN_MISSING, "The metrics of this platform are for those who bring their token.")
    if not secrets.compare_digest(given.encode(), f"Bearer {token}".encode()):
        raise unauthorized(Code.TOKEN_INVALID, "This is not the token of the metrics.")
