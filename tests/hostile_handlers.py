"""Handlers that do what no handler should, or hand on what they get."""

from __future__ import annotations

from typing import Any

from tasks import Job, app


@app.task(name="hostile.echo", public=True, circuit_failures=0)
def echo(payload: Any = None) -> Any:
    """Return it."""
    return payload


@app.task(name="hostile.fail", circuit_failures=0)
def fail(text: str) -> None:
    """Raise."""
    raise ValueError(text)


@app.task(bind=True, name="hostile.again", circuit_failures=0)
def again(self: Job, text: str) -> None:
    """Ask for another attempt."""
    raise self.retry(exc=ValueError(text), countdown=0)
