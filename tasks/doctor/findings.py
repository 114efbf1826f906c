"""What a check finds, and how many of them are made at once, each with a deadline of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from uuid import uuid4

import structlog

log = structlog.get_logger(__name__)

LONGEST_SAID = 300  # characters of what a server says


class Health(StrEnum):
    """What a finding says. SKIPPED: what it relies on has failed."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


SICK = (Health.FAILED, Health.SKIPPED)  # what needs these says nothing


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check has found: `reason` says what was seen, `mend` what to do; None: nothing. `took` is in seconds."""

    check: str
    health: Health
    reason: str
    mend: str | None = None
    took: float = 0.0


@dataclass(frozen=True, slots=True)
class Check:
    """Something to look at. `needs`: names of checks without whose success it says nothing."""

    name: str
    look: Callable[[], Finding | Sequence[Finding]]
    needs: tuple[str, ...] = ()
    within: float = 10.0  # seconds


def fine(check: str, reason: str) -> Finding:
    """It is as it should be."""
    return Finding(check, Health.OK, reason)


def warning(check: str, reason: str, mend: str) -> Finding:
    """It works, and will not always."""
    return Finding(check, Health.WARNING, reason, mend)


def failed(check: str, reason: str, mend: str) -> Finding:
    """It does not work."""
    return Finding(check, Health.FAILED, reason, mend)


def examine(checks: Sequence[Check]) -> list[Finding]:
    """What all checks find, in their order. They are made at once, each as soon as what it needs was found to be well.

    A check that raises, or is not over in time, has failed; one whose needs have failed is skipped.
    """
    found: dict[str, Sequence[Finding]] = {}
    left = list(checks)
    while left:
        ready = [check for check in left if found.keys() >= set(check.needs)]
        sick = {name for name, findings in found.items() if any(each.health in SICK for each in findings)}
        for check in ready:
            if missing := [name for name in check.needs if name in sick]:
                found[check.name] = [Finding(check.name, Health.SKIPPED, f"it needs {' and '.join(missing)}")]
        found |= _all_at_once([check for check in ready if check.name not in found])
        left = [check for check in left if check.name not in found]
        if not ready:
            raise ValueError(f"checks that need what there is not: {[check.name for check in left]}")
    return [finding for check in checks for finding in found[check.name]]


def _all_at_once(checks: Sequence[Check]) -> dict[str, Sequence[Finding]]:
    made: dict[str, Sequence[Finding]] = {}
    threads = []
    began = time.monotonic()
    for check in checks:
        # A thread that is too late is left behind: what it waits for has deadlines of its own.
        thread = threading.Thread(target=_make, args=(check, made), name=f"doctor: {check.name}", daemon=True)
        thread.start()
        threads.append(thread)
    found: dict[str, Sequence[Finding]] = {}
    for check, thread in zip(checks, threads, strict=True):
        thread.join(max(0.0, began + check.within - time.monotonic()))
        late = failed(check.name, f"it was not over within {check.within:g} s", "look whether its server hangs")
        found[check.name] = made.get(check.name) or [replace(late, took=check.within)]
    return found


def _make(check: Check, made: dict[str, Sequence[Finding]]) -> None:
    began = time.monotonic()
    try:
        found = check.look()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the check has found
        log.info("doctor.check_failed", check=check.name, error=type(error).__name__)
        said = " ".join(str(getattr(error, "orig", error)).split())[:LONGEST_SAID]
        found = failed(check.name, f"{type(error).__name__}: {said}", "see the reason")
    took = time.monotonic() - began
    several = [found] if isinstance(found, Finding) else list(found)
    made[check.name] = [each if each.took else replace(each, took=took) for each in several]


def new_name() -> str:
    """A name that nobody else has, for what a check puts somewhere and removes again."""
    return f"celeriac-doctor-{uuid4().hex}"
