"""Tracebacks as people read them: the frames of libraries stand back behind those of a handler's own code."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

# The platform's own are as good as a library's to who reads their handler's traceback, also where it is a checkout.
LIBRARIES = (
    *("/site-packages/", "/dist-packages/", "/lib/python"),
    *(f"{files(name)}/" for name in ("tasks", "tracking", "celeriac")),
)
MARGIN = re.compile(r"(?: *\| ?)?")  # before each line of a group of exceptions
FRAME = re.compile(r' *File "')


@dataclass(frozen=True, slots=True)
class Part:
    """Lines of a traceback that follow each other; `is_own`: they are not of a library. `count`: of calls in them."""

    text: str
    is_own: bool

    @property
    def count(self) -> int:
        return sum(FRAME.match(_said(line)) is not None for line in self.text.splitlines())


def parts(traceback: str | None) -> Sequence[Part]:
    """One after another they are the traceback; those of libraries can be passed over."""
    found: list[Part] = []
    is_own = True
    for line in (traceback or "").splitlines():
        said = _said(line)
        if FRAME.match(said):
            is_own = not is_of_library(said)
        elif (said and not said.startswith(" ")) or line.lstrip().startswith("+"):
            is_own = True
        if found and found[-1].is_own is is_own:
            found[-1] = Part(f"{found[-1].text}\n{line}", is_own)
        else:
            found.append(Part(line, is_own))
    return found


def is_of_library(file: str) -> bool:
    """Whether a file is of an installed package, of Python, or of the platform."""
    return file.startswith("<frozen") or any(library in file for library in LIBRARIES)


def _said(line: str) -> str:
    """A line without the margin that it has in a group of exceptions."""
    margin = MARGIN.match(line)
    return line[margin.end() :] if margin else line
