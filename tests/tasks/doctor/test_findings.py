"""How checks are made: each with a deadline, and none on what has failed."""

from __future__ import annotations

import threading
import time

import pytest

from tasks.doctor.findings import Check, Finding, Health, examine, failed, fine


def bad() -> Finding:
    raise ValueError("no such thing")


def test_findings_come_in_the_order_of_the_checks() -> None:
    """What is needed is looked at first, and what needs it only when that was well; the order stays."""
    checks = [
        Check("third", lambda: fine("third", "3"), ("second",)),
        Check("first", lambda: fine("first", "1")),
        Check("second", lambda: [fine("second", "2"), fine("second too", "2")], ("first",)),
        Check("raises", bad),
        Check("skipped", lambda: fine("skipped", "?"), ("raises", "first")),
        Check("after", lambda: fine("after", "?"), ("skipped",)),
    ]
    found = examine(checks)
    assert [(each.check, each.health) for each in found] == [
        ("third", Health.OK),
        ("first", Health.OK),
        ("second", Health.OK),
        ("second too", Health.OK),
        ("raises", Health.FAILED),
        ("skipped", Health.SKIPPED),
        ("after", Health.SKIPPED),
    ]
    assert found[4].reason == "ValueError: no such thing"


def test_a_check_that_hangs_has_failed_at_its_deadline() -> None:
    """A check that does not come back has failed when its time is over, and the others are told."""
    never = threading.Event()
    began = time.monotonic()
    hangs = Check("hangs", lambda: fine("hangs", str(never.wait(60))), within=0.3)
    found = examine([hangs, Check("other", lambda: failed("other", "is broken", "mend it"))])
    never.set()
    assert time.monotonic() - began < 5
    assert [(each.health, each.mend is not None) for each in found] == [(Health.FAILED, True)] * 2
    assert found[0].reason == "it was not over within 0.3 s"


def test_a_check_that_needs_what_there_is_not_is_a_fault() -> None:
    """A name that no check has is a fault of the program, told at once."""
    with pytest.raises(ValueError, match="lonely"):
        examine([Check("lonely", lambda: fine("lonely", ""), ("nobody",))])
