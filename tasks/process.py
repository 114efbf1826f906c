"""The app of this process, for the modules that `tasks.app` is built from: they cannot import it."""

from __future__ import annotations

from typing import Any

_apps: list[Any] = []


def serve(app: Any) -> None:
    """Let this be the app of the process."""
    _apps[:] = [app]


def app() -> Any:
    """It; whoever sends, runs or ends a job has imported `tasks.app`."""
    return _apps[0]
