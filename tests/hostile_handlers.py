"""Handlers that do what no handler should, or hand on what they get."""

from __future__ import annotations

from typing import Any

from tasks import BaseModel, Job, app


class Box(BaseModel):
    """A payload that may hold anything."""

    value: Any = None


@app.task(name="hostile.echo", public=True, circuit_failures=0)
def echo(payload: Any = None) -> Any:
    return payload


@app.task(name="hostile.fail", circuit_failures=0)
def fail(text: str) -> None:
    raise ValueError(text)


@app.task(bind=True, name="hostile.again", circuit_failures=0)
def again(self: Job, text: str) -> None:
    raise self.retry(exc=ValueError(text), countdown=0)


@app.task(pydantic=True, name="hostile.open", public=True, circuit_failures=0)
def open_box(payload: Box) -> Any:
    """Return what is in it."""
    return payload.value


@app.task(name="hostile.named", public=True, circuit_failures=0)
def named(**options: Any) -> Any:
    """Return what was given by name."""
    return options


@app.task(bind=True, name="hostile.swap", circuit_failures=0)
def swap(self: Job, value: Any, again: bool = True) -> Any:  # noqa: FBT001, FBT002 - an argument of a task
    """Ask for another attempt with other arguments, which returns the value."""
    if again:
        raise self.retry(args=[value, False], countdown=0)
    return value


@app.task(bind=True, name="hostile.second", public=True, circuit_failures=0)
def second(self: Job, payload: Any) -> Any:
    """Fail at first, then return it."""
    if self.job is not None and self.job.attempt == 1:
        raise ValueError("the first attempt")
    return payload


@app.task(bind=True, name="hostile.headers", circuit_failures=0)
def headers(self: Job) -> Any:
    """Return the header and the stamp that came with the message."""
    return [(self.request.headers or {})["given"], (self.request.stamps or {})["stamp"]]


@app.task(bind=True, name="hostile.report", circuit_failures=0)
def report(self: Job, payload: Any) -> None:
    self.progress(50, detail=payload)
