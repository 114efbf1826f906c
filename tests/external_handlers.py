"""A type of jobs whose work is done elsewhere, as code declares it."""

from __future__ import annotations

from tasks import app


@app.task(name="torch", public=True, external=True)
def torch() -> None:
    """No worker runs this: it would end the worker's process if one did."""
    raise SystemExit("a worker ran what is done elsewhere")
