"""The witness: a line for each real start and end of a body, which no database can fake."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from uuid import UUID

from bench.chaos import variables
from tracking.models import Attempt


@dataclass(frozen=True, slots=True)
class Line:
    """What a body left at its start and, with how it ended, at its end: by the machine's clock and its steady one."""

    what: str
    job: UUID
    dispatch: int
    attempt: int
    organization: str
    at: float
    tick: float
    pid: int
    parent: int

    @property
    def is_start(self) -> bool:
        """Whether the body began here."""
        return self.what == "start"


@contextmanager
def witnessed(attempt: Attempt) -> Iterator[None]:
    """Leave a line before and after the block. A process that is killed in between leaves one."""
    _leave(attempt, "start")
    try:
        yield
    except BaseException as error:
        _leave(attempt, type(error).__name__)
        raise
    _leave(attempt, "returned")


def read_lines(path: Path) -> list[Line]:
    """All lines so far, in the order in which they were written."""
    return [_parse(text) for text in path.read_bytes().splitlines()]


def open_bodies(lines: list[Line]) -> dict[tuple[UUID, int], Line]:
    """The starts that have no end."""
    found: dict[tuple[UUID, int], Line] = {}
    for line in lines:
        if line.is_start:
            found[line.job, line.attempt] = line
        else:
            found.pop((line.job, line.attempt), None)
    return found


def _leave(attempt: Attempt, what: str) -> None:
    line = {
        "what": what,
        "job": str(attempt.job_id),
        "dispatch": attempt.fence.dispatch,
        "attempt": attempt.attempt,
        "organization": attempt.owner.organization_id,
        "at": time.time(),
        "tick": time.monotonic(),
        "pid": os.getpid(),
        "parent": os.getppid(),
    }
    os.write(_descriptor(), json.dumps(line).encode() + b"\n")  # one write: lines of several processes do not mix


def _parse(text: bytes) -> Line:
    found = json.loads(text)
    return Line(**{**found, "job": UUID(found["job"])})


@cache
def _descriptor() -> int:
    return os.open(os.environ[variables.WITNESS], os.O_WRONLY | os.O_APPEND)
