"""Python's search for garbage, kept from what programs import: that stays until their end."""

from __future__ import annotations

import atexit
import gc
from typing import Any

ALL = 500_000  # objects: more than all imports of any part of the platform make
USUAL = gc.get_threshold()


def leave_imports_alone() -> None:
    """Look for garbage only when more has been made than any program imports, and at the end not at all.

    To look at what is imported takes an eighth of a start, and up to half a second of an end.
    """
    gc.callbacks.append(_first)
    gc.set_threshold(ALL, *USUAL[1:])
    atexit.register(gc.freeze)


def look_from_now_on() -> None:
    """Look as usual for what is made from now on, since a program that lasts has imported all that it needs.

    What is there is left out of all later looks: none of them stops a server for a tenth of a second.
    """
    if _first in gc.callbacks:
        gc.callbacks.remove(_first)
        gc.freeze()
        gc.set_threshold(*USUAL)


def _first(*_: Any) -> None:
    look_from_now_on()
