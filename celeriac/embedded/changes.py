"""Which Python files below a directory have changed, for `celeriac up --reload`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

INTERVAL = 0.7  # seconds between two looks
MOST = 5000  # files
PASSED_BY = frozenset({"node_modules", "__pycache__", "site-packages"})  # and what begins with a dot


class Changes:
    """Looks at the times of the files, at most each INTERVAL."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._seen = dict(self._times())
        self._next = 0.0

    def look(self) -> list[str]:
        """The files that were changed, added or removed since the last look; usually none."""
        if time.monotonic() < self._next:
            return []
        found = dict(self._times())
        self._next = time.monotonic() + INTERVAL
        changed = {name for name, _ in found.items() ^ self._seen.items()}
        self._seen = found
        return sorted(os.path.relpath(name, self._directory) for name in changed)

    def _times(self) -> Iterator[tuple[str, int]]:
        count = 0
        for place, directories, names in os.walk(self._directory):
            directories[:] = [name for name in directories if not name.startswith(".") and name not in PASSED_BY]
            for name in names:
                if name.endswith(".py"):
                    count += 1
                    if count > MOST:
                        return
                    path = os.path.join(place, name)  # noqa: PTH118 - thousands of them, each second
                    try:
                        yield path, os.stat(path).st_mtime_ns  # noqa: PTH116 - as above
                    except OSError:  # removed since
                        continue
