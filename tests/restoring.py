"""Saving a database of the tests and restoring it, by the lines of docs/backup.md."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from sqlalchemy import make_url

from celeriac.embedded.programs import find_postgres
from tests.commands import PROGRAM

PAGE = Path(__file__).parents[1] / "docs" / "backup.md"
SAVE, RESTORE = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
# An older pg_dump refuses the server of the tests.
PROGRAMS = (find_postgres(None, None).path.parent, Path(PROGRAM).parent)


def save(environment: dict[str, str], directory: Path) -> None:
    """Write the database and the files of a platform to a directory, while it goes on."""
    _run(SAVE, environment, directory)


def restore(environment: dict[str, str], directory: Path) -> str:
    """Let the database be what it was; returns what the commands of the page have printed."""
    return _run(f"{RESTORE.rstrip()} || test $? -eq 1", environment, directory)


def _run(lines: str, environment: dict[str, str], directory: Path) -> str:
    url = make_url(environment["DATABASE_URL"]).set(drivername="postgresql").render_as_string(hide_password=False)
    path = os.pathsep.join([*map(str, PROGRAMS), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euc", lines],
        cwd=directory,
        env={**environment, "DATABASE_URL": url, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done
    return done.stdout
