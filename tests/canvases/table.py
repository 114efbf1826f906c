"""The table of canvases: each is a question that every app must answer in the same way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any

WITHIN = 40  # seconds in which every canvas must have ended
CANVASES: dict[str, Callable[[], Any]] = {}
TYPED: dict[str, Any] = {}  # what canvases give that plain Celery cannot send, or never ends


def canvas(ask: Callable[[], Any]) -> Callable[[], Any]:
    """Add a question to the table."""
    CANVASES[ask.__name__] = ask
    return ask


def typed(expected: Any) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Add a question with its answer."""

    def remember(ask: Callable[[], Any]) -> Callable[[], Any]:
        TYPED[ask.__name__] = expected
        return canvas(ask)

    return remember


def raised(result: Any) -> list[Any]:
    """What `get` raises: module, class and arguments."""
    try:
        return ["value", result.get(timeout=WITHIN)]
    except Exception as error:  # noqa: BLE001 - it is the answer
        return [type(error).__module__, type(error).__qualname__, list(map(str, error.args)), result.state]


def noted(ask: Callable[[Callable[..., Any]], Any], count: int) -> list[str]:
    """What the errbacks of a canvas have written when there are `count` lines; nothing may come after that."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "notes"
        ask(lambda task, role: task.s(path=str(path), role=role))
        path.touch()
        deadline = monotonic() + WITHIN
        while monotonic() < deadline and len(path.read_text().splitlines()) < count:
            sleep(0.02)
        sleep(0.2 if count else 2)  # where none is expected, one that is called all the same has its whole way to go
        return sorted(path.read_text().splitlines())
