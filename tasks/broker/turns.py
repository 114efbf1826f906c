"""The next turn of a worker's event loop, which is kombu's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def next_turn(hub: Any, callback: Callable[..., Any], *args: Any) -> None:
    """Have the event loop that this thread is in call this in its next turn, before it waits for anything.

    Of what is asked of it by `call_soon`, kombu's loop is woken only by other threads. What a call of a turn asks for
    itself is called after the wait of that turn: when something has come, or up to a second later.
    """
    hub.call_soon(callback, *args)
    if (waker := hub._waker) is not None:  # noqa: SLF001 - kombu has no other way to end a wait that has not begun
        waker.wake()
