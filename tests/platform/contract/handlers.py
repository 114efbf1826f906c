"""Handlers that the tests of the contract run in a real worker, beside those that come with the platform."""

from __future__ import annotations

from tasks import BaseModel, Job, app
from tests.sample_handlers import Words, count_words


class Upload(BaseModel):
    """A file that was uploaded."""

    name: str


@app.task(bind=True, pydantic=True, name="process_upload", public=True, steps=("Read", "Hand on"))
def process_upload(self: Job, payload: Upload) -> dict[str, str]:
    """Read a file, and have a follow-up job made."""
    with self.step("Read", 1, of=2):
        words = Words(words=tuple(payload.name.split(".")))
    with self.step("Hand on", 2, of=2):
        return {"followUp": count_words.apply_async((words,), priority=7).id}


@app.task(name="broken_service", public=True)
def broken_service() -> None:
    """Always away: a circuit of its own, which no other test meets."""
    raise RuntimeError("the service is away")
