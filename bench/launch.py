"""Programs of a run: their output goes to files, and they end with us."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from celeriac.embedded.processes import Steps, spawn
from celeriac.embedded.supervisor import Part, always

PATIENCE = 60.0  # seconds for a start, a filling or an answer on a busy machine
NO_STEPS: Steps = ()  # killed at once: whatever they had to do has been checked, and a polite end takes Celery 2 s

# What a Celeriac process would read; a run must not depend on the shell that it is started from.
OURS = ("CELERIAC_", "BENCH_", "DATABASE_URL", "BROKER_URL")


def program(
    name: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    *,
    ready: Callable[[int], bool] = always,
    keep: Sequence[int] = (),
) -> Part:
    """A program of a run; `keep` are file descriptors that it inherits."""
    # To a file by itself: a pipe would have to be read by us, on the processors that are measured.
    shell = ["/bin/sh", "-c", 'exec "$@" >"$LOG" 2>&1', "sh", *command]
    surroundings = {**clean_environment(), **environment, "LOG": str(log)}
    return Part(
        name=name,
        launch=lambda: spawn(shell, death_signal=signal.SIGKILL, environment=surroundings, keep=keep),
        steps=NO_STEPS,
        ready=ready,
        patience=PATIENCE,
    )


def clean_environment() -> dict[str, str]:
    """Our environment without the platform's settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith(OURS)}


def say_nothing(_name: str, _line: str) -> None:
    """For a supervisor whose programs write their own logs."""
