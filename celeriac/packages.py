"""Celeriac's own packages besides `celeriac`, which have names that a user's modules may have as well.

Ours are found in the directory where `celeriac` stands, whatever stands before it on `sys.path`: a `tasks.py` beside
the program, say. That is left alone as long as nobody imports it; two modules of one name cannot be in one process.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

HOME = Path(__file__).resolve().parents[1]
NEEDED = ("tracking", "tasks")  # by those who write handlers and producers; `api` by the commands alone


class Ours:
    """Finds our packages in our own directory; see importlib.abc.MetaPathFinder."""

    claimed: set[str] = set()  # noqa: RUF012 - of the process, as sys.meta_path is

    @classmethod
    def find_spec(
        cls,
        name: str,
        path: Sequence[str] | None = None,  # noqa: ARG003 - of every finder
        target: ModuleType | None = None,  # noqa: ARG003 - as above
    ) -> ModuleSpec | None:
        """Where one of them is; None for every other module."""
        return PathFinder.find_spec(name, [str(HOME)]) if name in cls.claimed else None


def claim(*names: str) -> None:
    """From now on these names are our packages. Raises ImportError when another module of a name is loaded already."""
    for name in names:
        loaded = sys.modules.get(name)
        if loaded is not None and not _is_ours(loaded):
            raise ImportError(
                f"{_place(loaded)} has the name of a package that Celeriac needs, {name!r}, "
                "and both cannot be in one process: rename it"
            )
    Ours.claimed.update(names)
    if Ours not in sys.meta_path:
        sys.meta_path.insert(0, Ours)


def hidden(name: str) -> Path | None:
    """The file or directory of a user's own module that a package of ours hides; None when there is none."""
    if name not in (*NEEDED, "api"):
        return None
    spec = PathFinder.find_spec(name, [each for each in sys.path if Path(each).resolve() != HOME])
    return None if spec is None or spec.origin is None else Path(spec.origin)


def _is_ours(module: ModuleType) -> bool:
    return any(Path(place).resolve().parent == HOME for place in getattr(module, "__path__", ()))


def _place(module: ModuleType) -> str:
    return getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), repr(module))
