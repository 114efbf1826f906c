"""What every no-op body does on all sides alike: it leaves the time, 8 bytes, in a file that the bench watches."""

from __future__ import annotations

import os
import struct
import time
from functools import cache
from pathlib import Path

from bench import variables

MARK = struct.Struct("d")  # seconds since the epoch


def leave_mark() -> None:
    """Append the time; costs some 3 µs, and no process waits for another."""
    os.write(_descriptor(), MARK.pack(time.time()))


def count_marks(path: Path) -> int:
    """How many bodies have run."""
    return path.stat().st_size // MARK.size


def read_marks(path: Path) -> list[float]:
    """When they ran, in seconds since the epoch, earliest first."""
    return sorted(time for (time,) in MARK.iter_unpack(path.read_bytes()))


@cache
def _descriptor() -> int:
    return os.open(os.environ[variables.WITNESS], os.O_WRONLY | os.O_APPEND)
