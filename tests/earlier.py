"""The code of an earlier release of this project, to be run beside the code that is here."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

# The commit that brought this file, whatever its name is in a clone. Its dependencies are among those of today. A later
# one takes its place when a migration contracts, or when the dependencies cannot be those of both any more.
BROUGHT = "tracking/migrations/versions/0044_long_backlogs.py"

ROOT = Path(__file__).parents[1]


def extract(directory: Path) -> Path:
    """Write its files to a directory, and return that; skips in a clone that does not have them, fails in CI."""
    commit = _git("log", "-1", "--diff-filter=A", "--format=%H", "--", BROUGHT).decode().strip()
    if not commit:
        reason = f"this clone has no commit that brought {BROUGHT}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    subprocess.run(["tar", "-x", "-C", directory], input=_git("archive", commit), check=True)
    return directory


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False).stdout
