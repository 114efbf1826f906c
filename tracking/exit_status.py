"""The exit status of every command: the one place that says them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum


class Exit(IntEnum):
    """How a process has ended, as its supervisor or a shell script reads it."""

    FINE = 0
    FAILED = 1  # a promise is broken, a job failed, or this is a fault of ours
    MISUSED = 2  # wrong use or setting: it fails again until somebody mends it
    AWAY = 3  # a server is away: it may work when it is back
    CANCELLED = 4  # the job that was waited for
    TOO_LATE = 5  # a deadline of the caller has passed; what was waited for goes on
    INTERRUPTED = 130  # 128 + SIGINT, as a shell says it


MEANINGS: Mapping[Exit, str] = {
    Exit.FINE: "all is well",
    Exit.FAILED: "a promise is broken, a job failed, or Celeriac itself is at fault",
    Exit.MISUSED: "wrong use, a wrong setting, or the API has said no",
    Exit.AWAY: "a server is away: try again later",
    Exit.CANCELLED: "the job that was waited for was cancelled",
    Exit.TOO_LATE: "the time for waiting is over; the job goes on",
    Exit.INTERRUPTED: "Ctrl-C",
}
