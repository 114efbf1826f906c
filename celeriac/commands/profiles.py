"""Which API a command asks, and as whom: addresses and tokens that `celeriac login` keeps, in a file of mode 0600."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracking.errors import ConfigurationError

URL, TOKEN, PROFILE = "CELERIAC_URL", "CELERIAC_TOKEN", "CELERIAC_PROFILE"  # instead of what is kept
DEFAULT = "default"
OTHERS = 0o077  # the bits of a mode that let others look


@dataclass(frozen=True, slots=True)
class Profile:
    """An API, and a token for it. Its text shows no token."""

    url: str
    token: str = field(repr=False)


def chosen(name: str | None) -> Profile:
    """The profile of a name; None: the one that the environment names or is, else the one called default.

    Raises ConfigurationError when there is none, or when others may read the file.
    """
    url, token = os.environ.get(URL), os.environ.get(TOKEN)
    if name is None and token:
        if not url:
            raise ConfigurationError(f"{TOKEN} is set, and {URL} is not: of which API is it?")
        return Profile(url, token)
    wanted = name or os.environ.get(PROFILE) or DEFAULT
    kept = read()
    if wanted not in kept:
        others = f"; there are {', '.join(sorted(kept))}" if kept else ""
        raise ConfigurationError(
            f"there is no profile {wanted!r}{others}: `celeriac login` makes one; on the host, take --operator"
        )
    return kept[wanted]


def keep(name: str, profile: Profile) -> Path:
    """Keep a profile, in place of one of the same name. Returns the file."""
    return _write({**read(), name: profile})


def forget(name: str) -> None:
    """Remove a profile. Raises ConfigurationError when there is none of that name."""
    kept = dict(read())
    if kept.pop(name, None) is None:
        raise ConfigurationError(f"there is no profile {name!r}")
    _write(kept)


def read() -> Mapping[str, Profile]:
    """All profiles, by name. Raises ConfigurationError when others may read the file, or it is none of ours."""
    path = place()
    try:
        if path.stat().st_mode & OTHERS:
            raise ConfigurationError(f"others may read {path}, which holds tokens: chmod 600 {path}")
        kept: dict[str, dict[str, Any]] = json.loads(path.read_text())
        return {name: Profile(str(each["url"]), str(each["token"])) for name, each in kept.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"{path} cannot be read as profiles: {type(error).__name__}") from None


def place() -> Path:
    """The file that holds them, by the XDG base directories."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "celeriac" / "profiles.json"


def _write(kept: Mapping[str, Profile]) -> Path:
    """Write them all, or nothing: the file that is read is always a whole one."""
    path = place()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    content = json.dumps({name: {"url": each.url, "token": each.token} for name, each in kept.items()}, indent=2)
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path
