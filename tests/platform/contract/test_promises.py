"""The table of the five systems has a test for each of its rows."""

from __future__ import annotations

import pytest

from tests.platform.contract import test_exports, test_media, test_queue, test_testing, test_tracking
from tests.platform.contract.promises import PROMISES

MODULES = (test_exports, test_media, test_queue, test_testing, test_tracking)
UNRUN = {"skip", "skipif", "xfail"}
SHOWN = {
    shown
    for module in MODULES
    for name, test in vars(module).items()
    if name.startswith("test_") and UNRUN.isdisjoint(mark.name for mark in getattr(test, "pytestmark", ()))
    for shown in getattr(test, "shown", ())
}


@pytest.mark.parametrize("system", PROMISES)
def test_each_promise_has_a_test_that_shows_it(system: str) -> None:
    """Whatever the users of a system rely on has a test of this package that shows it, and that is always run."""
    assert [promise for promise in PROMISES[system] if (system, promise) not in SHOWN] == []
