"""What `celeriac data` prints."""

from __future__ import annotations

from pathlib import Path

import click
import pydantic

from celeriac.client.answers import Answer
from celeriac.commands.screen import Columns, Screen, ago
from celeriac.embedded import directories
from tracking.settings import settings
from tracking.values import Instant

UNIT = 1024


class DataDirectory(Answer):
    """A data directory; the fields are those of celeriac.embedded.directories.Found."""

    model_config = pydantic.ConfigDict(from_attributes=True, validate_by_name=True)

    path: Path
    postgres: int | None
    size: int
    used_at: Instant
    is_running: bool
    is_gone: bool

    @property
    def state(self) -> str:
        """For people."""
        if self.is_gone:
            return "deleted but for its database"
        return "running" if self.is_running else "stopped"


def print_all(*, as_json: bool) -> None:
    """Print all that are known."""
    screen = Screen(as_json=as_json)
    columns: Columns = {
        "path": lambda each: str(each.path),
        "postgres": lambda each: each.postgres,
        "size": lambda each: in_units(each.size),
        "used": lambda each: ago(each.used_at) if screen.is_terminal else each.used_at,
        "is": lambda each: each.state,
    }
    found = [DataDirectory.model_validate(each) for each in directories.found(settings().data_dir)]
    screen.rows(found, columns, empty="`celeriac up` has made none.")


def remove(path: Path, *, yes: bool) -> None:
    """Remove one, after a question unless `yes`. Raises ConfigurationError, and UsageError without an answer."""
    found = directories.look(path)
    if not yes:
        used, size = ago(found.used_at), in_units(found.size)
        try:
            click.confirm(f"Remove {found.path}, {size}, used {used}, for good?", abort=True, err=True)
        except click.Abort:
            raise click.UsageError("Nothing was removed; --yes removes without a question.") from None
    directories.remove(found.path)
    click.echo(f"{found.path}: removed, {in_units(found.size)}.")


def in_units(size: int) -> str:
    """A number of bytes, for people."""
    return f"{size / UNIT**2:.0f} MiB" if size < UNIT**3 else f"{size / UNIT**3:.1f} GiB"
