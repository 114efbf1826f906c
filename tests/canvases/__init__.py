"""Canvases that mean the same on plain Celery and here, by kind; each is a question with one answer."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.canvases import errbacks, failures, options, payloads, replacements, returned, shapes, stamps, values
from tests.canvases.table import CANVASES, TYPED

__all__ = [
    "CANVASES",
    "TYPED",
    "answers",
    "errbacks",
    "failures",
    "options",
    "payloads",
    "replacements",
    "returned",
    "shapes",
    "stamps",
    "values",
]


def answers(app: Any, names: list[str]) -> dict[str, Any]:
    """The answers to these canvases on one app; what goes wrong is an answer, too."""
    app.set_default()
    with ThreadPoolExecutor(4) as pool:
        return dict(zip(names, pool.map(lambda name: _answer(app, name), names), strict=True))


def _answer(app: Any, name: str) -> Any:
    app.set_current()
    try:
        return json.loads(json.dumps(CANVASES[name]()))
    except Exception as error:  # noqa: BLE001 - the other one must give the same
        return f"{type(error).__name__}: {error}"
