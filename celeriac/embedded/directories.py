"""The data directories that `celeriac up` has made: which there are, what they take, and how one is removed whole.

Each start notes its directory among the state files of the user. As root the databases lie elsewhere, with the path of
their data directory beside them: so one is found whose data directory somebody has deleted by hand.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from celeriac.embedded import flower, postgres, predecessors, valkey
from celeriac.embedded.processes import hold, is_held, own_directory, write_private
from tracking.errors import ConfigurationError
from tracking.settings import SERVERS_FILE

# All that a data directory holds; whatever else lies there is somebody's own, and then none of it is removed.
OURS = frozenset(
    {"postgres", "postgres.home", "valkey", "exports", "jwt_secret", "notifications.jsonl"}
    | {SERVERS_FILE, flower.PASSWORD_FILE, predecessors.FILE}
)
SIGNS = ("postgres/data/PG_VERSION", "postgres.home", "valkey/access.json")  # one of them is in each
BLOCK = 512  # bytes, whatever the file system's own are: stat(2)


@dataclass(frozen=True, slots=True)
class Found:
    """A data directory. `postgres`: the version of its data, None without; `size` in bytes.

    `is_running`: an `up`, or a server, runs on it. `is_gone`: somebody has deleted it, and its database is still there.
    """

    path: Path
    postgres: int | None
    size: int
    used_at: datetime
    is_running: bool
    is_gone: bool


def note(data_dir: Path) -> None:
    """Note a directory, by its absolute path, and forget those that are no more. Raises OSError."""
    place = _notes()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    for file, path in _noted():
        if not path.is_dir():
            file.unlink(missing_ok=True)
    write_private(place / hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:32], f"{data_dir}\n")


def found(usual: Path) -> list[Found]:
    """All that are known, and the `usual` one, of the settings, if it is one; by their paths."""
    paths = {path for _, path in _noted()} | {path for path, _ in postgres.shared_homes()} | {usual.absolute()}
    return list(_seen(sorted(paths)))


def look(path: Path) -> Found:
    """What one takes, which can be removed. Raises ConfigurationError for anything that is none, and one that runs."""
    path = _required(path)
    seen = _look(path)
    if seen.is_running:
        raise ConfigurationError(f"{path} is in use by a `celeriac up`: stop it first")
    return seen


def remove(path: Path) -> None:
    """Remove one with its database. Raises ConfigurationError for anything that is none, and for one that runs."""
    path = _required(path)
    with ExitStack() as stack:
        if path.exists():
            stack.enter_context(hold(path))
            _require_whole(path)  # again: now nobody adds anything
            postgres.discard(path)
        for owner, home in postgres.shared_homes():
            if owner == path:
                with hold(home):
                    shutil.rmtree(home)
        if path.exists():
            shutil.rmtree(path)
    for file, noted in _noted():
        if noted == path:
            file.unlink(missing_ok=True)


def _seen(paths: Iterable[Path]) -> Iterator[Found]:
    for path in paths:
        try:
            if _is_gone(path) or (not path.is_symlink() and _has_a_sign(path)):
                yield _look(path)
        except FileNotFoundError:  # removed meanwhile
            continue


def _required(path: Path) -> Path:
    path = path.absolute()
    if path.is_symlink():
        raise ConfigurationError(f"{path} is a symbolic link: name the directory itself")
    path = path.resolve()
    if _is_gone(path):
        return path
    if not path.is_dir() or not _has_a_sign(path):
        raise ConfigurationError(f"{path} is no data directory of `celeriac up`; `celeriac data list` tells which are")
    _require_whole(own_directory(path))
    return path


def _require_whole(path: Path) -> None:
    others = sorted(
        entry.name
        for entry in os.scandir(path)
        if entry.is_symlink() or not (entry.name in OURS or _is_partial(entry.name))
    )
    if others:
        raise ConfigurationError(f"{path} holds what `celeriac up` has not made, and stays: {', '.join(others[:5])}")
    if other := postgres.other_owner(path):
        raise ConfigurationError(f"the database of {path} is that of {other}, of which it is a copy: it stays")


def _is_partial(name: str) -> bool:
    return name.startswith(".") and name.removeprefix(".").removesuffix(".partial") in OURS


def _has_a_sign(path: Path) -> bool:
    return any((path / sign).is_file() for sign in SIGNS)


def _is_gone(path: Path) -> bool:
    return not os.path.lexists(path) and any(owner == path for owner, _ in postgres.shared_homes())


def _look(path: Path) -> Found:
    homes = {home for owner, home in postgres.shared_homes() if owner == path}
    places = [place for place in (path, *homes, postgres.home_of(path)) if place is not None and place.exists()]
    if not places:
        raise FileNotFoundError(path)
    versions = [version for place in places if (version := postgres.version_of(place / "data")) is not None]
    return Found(
        path=path,
        postgres=max(versions, default=None),
        size=sum(_size(place) for place in set(places) if path not in place.parents),
        used_at=datetime.fromtimestamp(max(place.stat().st_mtime for place in places), UTC),
        is_running=valkey.is_running(path) or any(postgres.is_running(place) or is_held(place) for place in places),
        is_gone=not path.exists(),
    )


def _size(place: Path) -> int:
    total = 0
    for directory, _, names in os.walk(place):
        for name in names:
            try:
                total += (Path(directory) / name).lstat().st_blocks * BLOCK
            except FileNotFoundError:  # a server that runs removes files
                continue
    return total


def _notes() -> Path:
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "celeriac" / "data"


def _noted() -> Iterator[tuple[Path, Path]]:
    """The notes, and the directories that they name."""
    for file in sorted(_notes().glob("[0-9a-f]*")):
        try:
            yield file, Path(file.read_text().removesuffix("\n"))
        except FileNotFoundError:  # forgotten meanwhile
            continue
