"""Handlers that leave their work to threads."""

from __future__ import annotations

import _thread
import asyncio
import gc
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

from celery import current_app
from celery.exceptions import SoftTimeLimitExceeded

from tasks import Job, app

SHARED = ThreadPoolExecutor(1)  # one thread for all bodies of a process
PATIENCE = 20.0  # seconds


@app.task(name="threads.imported")
def imported() -> int:
    """How many objects its process does not look at when it looks for garbage."""
    return gc.get_freeze_count()


@app.task(name="threads.child")
def child() -> None:
    """What a thread sends."""


def _in_thread(work: Callable[[], Any]) -> Any:
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(work()))
    thread.start()
    thread.join(PATIENCE)
    return answers[0]


def _in_timer(work: Callable[[], Any]) -> Any:
    answers: list[Any] = []
    thread = threading.Timer(0.01, lambda: answers.append(work()))
    thread.start()
    thread.join(PATIENCE)
    return answers[0]


def _in_executor(work: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(PATIENCE)


def _in_a_pool_of_processes_made_of_threads(work: Callable[[], Any]) -> Any:
    with ThreadPool(1) as pool:
        return pool.apply(work)


async def _awaited(work: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(work)


def _unknown(work: Callable[[], Any]) -> Any:
    answers: list[Any] = []
    _thread.start_new_thread(lambda: answers.append(work()), ())
    deadline = time.monotonic() + PATIENCE
    while not answers and time.monotonic() < deadline:
        time.sleep(0.01)
    return answers[0]


WAYS: dict[str, Callable[[Callable[[], Any]], Any]] = {
    "a thread": _in_thread,
    "a thread of a thread": lambda work: _in_thread(lambda: _in_thread(work)),
    "a timer": _in_timer,
    "an executor": _in_executor,
    "an executor in a thread": lambda work: _in_thread(lambda: _in_executor(work)),
    "an executor of all bodies": lambda work: SHARED.submit(work).result(PATIENCE),
    "a pool of threads": _in_a_pool_of_processes_made_of_threads,
    "asyncio": lambda work: asyncio.run(_awaited(work)),
    "a thread of asyncio's": lambda work: asyncio.run(_awaited(lambda: _in_thread(work))),
}


def _tell(task: Job) -> dict[str, Any]:
    """What a thread gets to know, and does."""
    task.progress(42, "from a thread")
    attempt = task.job
    return {
        "job": str(attempt.job_id) if attempt else None,
        "mine": task.still_mine(),
        "child": current_app.tasks["threads.child"].delay().id,
    }


@app.task(bind=True, name="threads.ask")
def ask(self: Job, way: str) -> Any:
    """What a thread of this way says; it is the same in each."""
    return WAYS[way](lambda: _tell(self))


@app.task(bind=True, name="threads.unknown")
def unknown(self: Job) -> list[str]:
    """What a thread gets to hear that nobody knows."""

    def work() -> list[str]:
        said = []
        for question in (self.still_mine, lambda: self.progress(1), current_app.tasks["threads.child"].delay):
            try:
                said.append(str(question()))
            except Exception as error:  # noqa: BLE001 - what it is told, is the question
                said.append(type(error).__name__)
        return said

    answer: list[str] = _unknown(work)
    return answer


@app.task(bind=True, name="threads.watch")
def watch(self: Job, way: str, witness: str) -> None:
    """Let a thread ask until the job is not its attempt's any more, and leave a line in the witness file."""

    def work() -> None:
        deadline = time.monotonic() + PATIENCE
        while self.still_mine() and time.monotonic() < deadline:
            time.sleep(0.05)
        Path(witness).write_text(f"{self.still_mine()}\n")

    done = threading.Thread(target=lambda: WAYS[way](work))
    done.start()
    while done.is_alive():
        try:
            done.join(0.1)
        except SoftTimeLimitExceeded:
            continue


@app.task(bind=True, name="threads.leave")
def leave(self: Job, go: str, witness: str) -> None:
    """Leave a thread behind, which asks when it may go on."""

    def told(question: Callable[[], Any]) -> str:
        try:
            return str(question())
        except Exception as error:  # noqa: BLE001 - what it is told, is the question
            return type(error).__name__

    def work() -> None:
        deadline = time.monotonic() + PATIENCE
        while not Path(go).exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        said = [told(self.still_mine), told(lambda: self.progress(99, "from the past"))]
        said += [_in_thread(lambda: told(self.still_mine)), _in_executor(lambda: told(self.still_mine))]
        said.append(current_app.tasks["threads.child"].delay().id)
        temporary = Path(f"{witness}.new")
        temporary.write_text(json.dumps(said))
        temporary.rename(witness)

    threading.Thread(target=work, daemon=True).start()
