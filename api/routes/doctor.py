"""Whether the platform works, proved on the live system."""

from __future__ import annotations

import threading
from typing import Annotated

from fastapi import APIRouter

from api import openapi
from api.auth import Principal, requires
from api.examining import findings
from api.permissions import MANAGE_PLATFORM
from api.problems import RETRY_AFTER, Code, Problem
from api.reading import Served
from api.schemas.doctor import Examination
from api.strict import StrictRoute

router = APIRouter(prefix="/v1", tags=["fleet"], route_class=StrictRoute)

_one_at_a_time = threading.Lock()  # it sends jobs, and takes up to half a minute


@router.get("/doctor", responses=openapi.READ)
def get_examination(_: Annotated[Principal, requires(MANAGE_PLATFORM)], platform: Served) -> Examination:
    """Look at database, broker, workers and secrets, with a canary job through each queue; up to half a minute."""
    if not _one_at_a_time.acquire(blocking=False):
        raise Problem(Code.OVERLOADED, "The platform is being examined already.", headers=RETRY_AFTER)
    try:
        return Examination.of(findings(platform))
    finally:
        _one_at_a_time.release()
