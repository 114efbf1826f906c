"""Handlers that the API of these tests knows besides the platform's own."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

from tasks import BaseModel, Job, app

PERMISSION = "tests.guarded"


class Order(BaseModel):
    """A payload with a field that must be there."""

    kind: Literal["small", "large"]
    count: int = 1
    since: datetime | None = None


@app.task(bind=True, pydantic=True, name="guarded", permission=PERMISSION, steps=("Look", "Do"), max_retries=5)
def guarded(self: Job, payload: Order) -> None:
    """Needs a permission of its own."""


@app.task(name="open", max_retries=1, public=True)
def unguarded(payload: dict[str, object]) -> None:
    """Takes any object from everyone who may create jobs."""


@app.task(name="open_too", public=True)
def open_too(payload: dict[str, object]) -> None:
    """Another one."""


@app.task(name="sum_of", public=True)
def sum_of(x: int, y: int = 1, *, on: date | None = None) -> int:
    """A plain task with arguments of its own."""
    return x + y


@app.task(name="internal")
def internal(x: int) -> int:
    return x
