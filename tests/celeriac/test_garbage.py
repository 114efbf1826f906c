"""When a program of the platform begins to look for garbage."""

from __future__ import annotations

from tests.commands import python

LOOKS = """
import gc
from celeriac import garbage
usual = gc.get_threshold()
looks = []
gc.callbacks.append(lambda phase, _: looks.append(phase))
garbage.leave_imports_alone()
made = [[] for _ in range(garbage.ALL // 2)]
assert not looks, "it looked at what a program may import"
frozen = gc.get_freeze_count()
made += [[] for _ in range(garbage.ALL)]
assert looks
assert gc.get_freeze_count() - frozen >= garbage.ALL // 2
assert gc.get_threshold() == usual
"""

LASTS = """
import gc
from celeriac import garbage
usual = gc.get_threshold()
garbage.leave_imports_alone()
frozen = gc.get_freeze_count()
made = [[] for _ in range(1000)]
for _ in range(2):
    garbage.look_from_now_on()
    assert gc.get_threshold() == usual
    assert gc.get_freeze_count() - frozen >= len(made)
assert not gc.callbacks
"""


def test_the_first_look_for_garbage_comes_after_all_imports_and_later_ones_leave_them_out() -> None:
    """No look for garbage while a program imports; the first one sets the usual times, and leaves out what is there."""
    ended = python("-c", LOOKS)
    assert ended.status == 0, ended.err


def test_a_program_that_lasts_looks_as_usual_once_it_has_begun() -> None:
    """Once a program that lasts has begun it looks for garbage at the usual times, but not at what it began with."""
    ended = python("-c", LASTS)
    assert ended.status == 0, ended.err
