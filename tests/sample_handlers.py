"""Handlers that the tests run in real workers."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

from celery import current_app
from celery.exceptions import Reject, SoftTimeLimitExceeded

from tasks import BaseModel, Job, app
from tasks.attempt.exceptions import PayloadError


class Words(BaseModel):
    words: tuple[str, ...] = ()
    witness: str | None = None


class Count(BaseModel):
    word_count: int


@app.task(bind=True, pydantic=True, name="count_words", public=True, steps=("Count",))
def count_words(self: Job, payload: Words) -> Count:
    """Count the words, and leave a line in the witness file."""
    with self.step("Count", 1, of=1):
        if payload.witness:
            with Path(payload.witness).open("a") as file:
                file.write(" ".join(payload.words) + "\n")
    return Count(word_count=len(payload.words))


class Nap(BaseModel):
    """How long to sleep, in how many steps."""

    seconds: float = 30
    steps: int = 1
    witness: str | None = None


@app.task(bind=True, pydantic=True, name="nap", public=True)
def nap(self: Job, payload: Nap) -> None:
    if payload.witness:
        with Path(payload.witness).open("a") as file:
            file.write(f"{self.request.id}\n")
    for number in range(1, payload.steps + 1):
        with self.step(f"nap {number}", number, of=payload.steps):
            time.sleep(payload.seconds / payload.steps)


@app.task(name="until")
def until(path: str) -> None:
    """Run until there is such a file."""
    deadline = time.monotonic() + 60
    while not Path(path).exists() and time.monotonic() < deadline:
        select.select([], [], [], 0.02)


@app.task(name="short", bundle=True, circuit_failures=0)
def short(what: str = "", path: str = "") -> str:
    """Return at once, or "fail", or "wait" for such a file, with one beside it, or "die" once, which makes it."""
    if what == "fail":
        raise ValueError("broken")
    if what == "wait":
        Path(f"{path}.begun").touch()
        until(path)
    if what == "die" and not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return what


@app.task(bind=True, pydantic=True, name="deaf", public=True)
def deaf(self: Job, payload: Nap) -> None:
    """Say that it sleeps, and do so whatever happens; with more than one step, say so all the time."""
    end, is_said = time.monotonic() + payload.seconds, False
    while time.monotonic() < end:
        try:
            if payload.steps > 1 or not is_said:
                self.progress(50, "deaf")
                is_said = True
            time.sleep(0.1)
        except SoftTimeLimitExceeded:
            continue


@app.task(bind=True, pydantic=True, name="linger", public=True)
def linger(self: Job, payload: Nap) -> None:
    """Sleep in the first attempt, once its witness is there."""
    if self.job is not None and self.job.attempt == 1:
        if payload.witness:
            Path(payload.witness).touch()
        time.sleep(payload.seconds)


class Trouble(BaseModel):
    """After how many failures it goes well."""

    failures: int = 1


@app.task(
    bind=True,
    pydantic=True,
    name="flaky",
    public=True,
    autoretry_for=(ConnectionError,),
    retry_backoff=True,
    retry_jitter=False,
    max_retries=2,
)
def flaky(self: Job, payload: Trouble) -> int:
    """Fail a few times, then return the number of retries."""
    if self.request.retries < payload.failures:
        raise ConnectionError(f"failure {self.request.retries + 1}")
    return int(self.request.retries)


@app.task(name="add", public=True)
def add(x: int, y: int) -> int:
    return x + y


@app.task(name="total")
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task(bind=True, name="parent")
def parent(self: Job, children: int) -> list[str]:
    return [current_app.tasks["add"].delay(number, 1).id for number in range(children)]


@app.task(name="fail", public=True)
def fail(text: str = "broken") -> None:
    raise ValueError(text)


class Fault(BaseModel):
    """The file whose presence is a fault."""

    fault: str


@app.task(bind=True, pydantic=True, name="fragile", public=True, circuit_failures=2, circuit_pause=2.0)
def fragile(self: Job, payload: Fault) -> None:
    """Fail for as long as there is such a file; two failures in a row open the circuit for two seconds."""
    if Path(payload.fault).exists():
        raise ConnectionError("broken")


@app.task(pydantic=True, name="stumble", public=True, circuit_failures=0)
def stumble(payload: Fault) -> None:
    """Fail for as long as there is such a file, which opens no circuit."""
    if Path(payload.fault).exists():
        raise ConnectionError("broken")


class WrongOrder(Exception):
    """The caller's mistake."""


@app.task(
    bind=True,
    name="picky",
    max_retries=1,
    circuit_failures=2,
    payload_errors=(WrongOrder,),
    circuit_key=lambda payload: payload.get("host"),
)
def picky(self: Job, what: str = "", host: str = "") -> None:
    """Fail by the fault of the payload, or of the service behind; two of the latter in a row open a host's circuit."""
    if what == "order":
        raise WrongOrder
    if what == "payload":
        raise PayloadError("there is no such thing")
    if what == "again":
        raise self.retry(exc=WrongOrder(), countdown=60)
    if what == "service":
        raise ValueError("broken")


@app.task(name="odd_result")
def odd_result() -> Any:
    """Return what is not JSON."""
    return object()


@app.task(name="remember")
def remember(task_id: str) -> str:
    return task_id


@app.task(name="noop", public=True, ignore_result=True)
def noop() -> None:
    """Do nothing: for the bench."""


class Ending(BaseModel):
    """How to end, and how often; a line in the witness file counts the starts."""

    witness: str
    signal: int = 9
    times: int = 1


@app.task(bind=True, pydantic=True, name="die", public=True)
def die(self: Job, payload: Ending) -> int:
    """Kill the process that runs this job, the first few times."""
    with Path(payload.witness).open("a") as file:
        file.write(f"{self.request.id}\n")
    starts = len(Path(payload.witness).read_text().splitlines())
    if starts <= payload.times:
        os.kill(os.getpid(), payload.signal)
        time.sleep(10)
    return starts


@app.task(bind=True, pydantic=True, name="limited", public=True, time_limit=2)
def limited(self: Job, payload: Nap) -> None:
    """Run into the hard time limit."""
    time.sleep(payload.seconds)


@app.task(bind=True, pydantic=True, name="soft_limited", public=True, soft_time_limit=1)
def soft_limited(self: Job, payload: Nap) -> None:
    """Run into the soft time limit."""
    time.sleep(payload.seconds)


@app.task(name="exhaust")
def exhaust() -> None:
    raise MemoryError


@app.task(name="recurse")
def recurse(depth: int = 0) -> int:
    return 1 + int(recurse(depth + 1))


@app.task(bind=True, name="doubting")
def doubting(self: Job, witness: str) -> bool:
    """Wait until the first attempt is not the job's any more, and leave a line in the witness file."""
    deadline = time.monotonic() + 20
    heard = signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # an interruption would be another way to know
    try:
        while self.job is not None and self.job.attempt == 1 and self.still_mine():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        with Path(witness).open("a") as file:
            file.write(f"{self.still_mine()}\n")
        return self.still_mine()
    finally:
        signal.signal(signal.SIGUSR1, heard)


@app.task(bind=True, name="slow_at_first")
def slow_at_first(self: Job, witness: str) -> int:
    """Leave a line in the witness file; the first attempt would take minutes, the others no time."""
    with Path(witness).open("a") as file:
        file.write(f"{self.request.id}\n")
    starts = len(Path(witness).read_text().splitlines())
    if starts == 1:
        time.sleep(300)
    return starts


@app.task(bind=True, name="identified", max_retries=5, circuit_failures=0)
def identified(self: Job, witness: str, failures: int) -> str:
    """Leave a line with the id that Celery gives this attempt, and ask for another one, so many times."""
    with Path(witness).open("a") as file:
        file.write(f"{self.request.id}\n")
    if self.request.retries < failures:
        raise self.retry(countdown=0)
    return str(self.request.id)


@app.task(bind=True, name="updating")
def updating(self: Job, meta: dict[str, int]) -> None:
    """Say how far it is, and wait to be interrupted."""
    self.update_state(state="PROGRESS", meta=meta)
    time.sleep(30)


@app.task(name="rejecting")
def rejecting() -> None:
    raise Reject("no", requeue=False)


@app.task(bind=True, name="context_of")
def context_of(self: Job) -> dict[str, Any]:
    """What Celery's context of this attempt says."""
    names = ("retries", "group", "root_id", "parent_id", "headers", "other")
    return {name: getattr(self.request, name, None) for name in names}


@app.task(name="kill_worker")
def kill_worker() -> None:
    """Take the whole worker down, and never return."""
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


@app.task(name="printing", public=True)
def printing() -> None:
    """Print, as libraries do: in several pieces, over several lines, and without an end."""
    print("one", "two")  # noqa: T201 - what it is for
    sys.stderr.write("three\nfour")
    sys.stdout.buffer.write(b"")
    sys.stderr.flush()
