"""Where finished files are kept: a directory, or a bucket of an S3-compatible storage."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

DRAFTS = ".drafts"


class StoreRefused(Exception):
    """The bucket does not let us do this."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A file in a store: `size` in bytes, `modified` in seconds since the epoch."""

    name: str
    size: int
    modified: float


class Store(Protocol):
    """Files by names that only the server makes. All of it raises ConnectionError when the storage is away.

    `drafts` is a directory of this machine for files that are not finished, made at the first need; `drafts_place` is
    where it is or will be.
    """

    @property
    def drafts(self) -> Path:
        """Where files are written before they are kept."""

    @property
    def drafts_place(self) -> Path:
        """The same, whether it is there or not."""

    def keep(self, source: Path, name: str, media_type: str) -> None:
        """Make a finished file, whose path is below `drafts`, the one of this name, all at once."""

    def find(self, name: str) -> Stored | None:
        """The file of this name; None when there is none."""

    def every(self, beginning: str = "") -> Iterator[Stored]:
        """The files whose names begin so, sorted by name."""

    def remove(self, name: str) -> None:
        """Remove a file. Raises FileNotFoundError when somebody was faster."""

    def reading(self, name: str) -> AbstractContextManager[Path]:
        """The file as one of this machine, for as long as the block runs. Raises FileNotFoundError."""

    def link(self, name: str, seconds: int) -> str | None:
        """An address where anybody may fetch the file for so long; None: only we can hand it out."""


def directory_name(organization: str) -> str:
    """A name for a directory of the organization alone, whatever characters its id has."""
    return quote(organization, safe="").replace(".", "%2E")


class Directory:
    """A directory of this machine, or one that several share."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def drafts(self) -> Path:
        return private_directory(self.drafts_place)

    @property
    def drafts_place(self) -> Path:
        return self.root / DRAFTS

    def keep(self, source: Path, name: str, media_type: str) -> None:  # noqa: ARG002 - a file has no media type
        source.replace(self.root / name)
        sync_directory(self.root)

    def find(self, name: str) -> Stored | None:
        try:
            status = (self.root / name).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        # A link is never followed, wherever it leads.
        return Stored(name, status.st_size, status.st_mtime) if stat.S_ISREG(status.st_mode) else None

    def every(self, beginning: str = "") -> Iterator[Stored]:
        paths = sorted(self.root.iterdir()) if self.root.is_dir() else []
        found = (self.find(path.name) for path in paths if path.name.startswith(beginning))
        return (stored for stored in found if stored is not None)

    def remove(self, name: str) -> None:
        (self.root / name).unlink()

    @contextmanager
    def reading(self, name: str) -> Iterator[Path]:
        if self.find(name) is None:
            raise FileNotFoundError(name)
        yield self.root / name

    def link(self, name: str, seconds: int) -> str | None:  # noqa: ARG002 - it has none
        return None


def private_directory(path: Path) -> Path:
    """Make a directory that only we can read, with its parents; one that is there keeps its mode."""
    for directory in (*reversed(path.parents), path):
        directory.mkdir(mode=0o700, exist_ok=True)
    return path


def private_file(path: Path) -> Any:
    """A new file, binary, that only we can read."""
    return open(path, "x+b", opener=lambda name, flags: os.open(name, flags, 0o600))


def sync_directory(path: Path) -> None:
    """Bring the names in a directory to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
