"""Points in the code at which a test lets the process die as by kill -9: those that `CELERIAC_CRASH_AT` names.

`CELERIAC_CRASH_AT=submit.committed:0.02,claim.granted` kills a process each fiftieth time that it passes the first
point, on average, and at once at the second. Unset, as in production, a point is a look into an empty dict.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from tracking.errors import ConfigurationError

VARIABLE = "CELERIAC_CRASH_AT"

SUBMITTED = "submit.committed"  # the row of a job is committed, its message not yet handed to the dispatcher
PUBLISHED = "dispatch.published"  # the broker has the message, the row does not say so
CLAIMED = "claim.granted"  # the job runs by its row, its body has not begun
FINISHED = "body.finished"  # the body is over, its outcome is not written
HANDED_OVER = "outcome.handed_over"  # the worker's main process has it, and has not written it
SETTLED = "outcome.committed"  # the outcome is written, the message not acknowledged
GIVEN = "slot.given"  # the next in line may begin by its row, which its worker has without a message and nobody claims
WORKED = "operation.worked"  # a batch of a bulk operation is done, and not committed
ADVANCED = "operation.committed"  # it is committed, its messages not yet handed to the dispatcher
DUE = "schedule.due"  # the jobs of due times are written, the next due time is not, and nothing is committed
FIRED = "schedule.committed"  # all of that is committed, the messages not yet handed to the dispatcher
TOLD = "webhooks.told"  # the deliveries of what has happened are made, how far that goes is not noted
POINTS = (SUBMITTED, PUBLISHED, CLAIMED, FINISHED, HANDED_OVER, SETTLED, GIVEN, WORKED, ADVANCED, DUE, FIRED, TOLD)


def parse(text: str) -> Mapping[str, float]:
    """The probability of each point that is named. Raises ConfigurationError for a point or number that is none."""
    pairs = [part.strip().partition(":") for part in text.split(",") if part.strip()]
    try:
        plan = {name: float(probability or 1) for name, _, probability in pairs}
    except ValueError:
        raise ConfigurationError(f"{VARIABLE}: {text!r} is not like {SUBMITTED}:0.02") from None
    unknown = sorted(plan.keys() - set(POINTS))
    if unknown:
        raise ConfigurationError(f"{VARIABLE}: there is no point {unknown[0]!r}, only {', '.join(POINTS)}")
    return MappingProxyType(plan)


def crash_point(point: str) -> None:
    """Returns, unless this process is to die at the point."""
    if random.random() < _plan().get(point, 0):  # noqa: S311 - chance, not secrecy
        os.write(2, f"crash point {point} pid={os.getpid()}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)


@cache
def _plan() -> Mapping[str, float]:
    return parse(os.environ.get(VARIABLE, ""))  # at the first point: whoever imported this may have forked the process
