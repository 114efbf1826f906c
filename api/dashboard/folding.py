"""JSON as text whose objects, lists and long strings can be folded, in parts that a template writes as <details>.

The parts one after another are the text as `pretty` writes it, to the letter; its numbers are as Python has read them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from api.dashboard.wording import pretty, spelled

OPEN_DEPTH = 2  # what lies deeper is folded at first
OPEN_ENTRIES = 40  # an object or list with more is folded at first
LONGEST = 120  # characters of a string that is not folded
BEGINNING = 60  # of a longer one, which are always shown
MOST_FOLDS = 1000  # in one text: the rest of it is text alone
MOST_DEPTH = 20  # below it there is text alone
MOST_LINES = 5000  # a longer text is folded as a whole


@dataclass(frozen=True, slots=True)
class Fold:
    """A part that can be folded: `head` is always seen, `inner` when it is open; `hidden` says how much that is.

    A line ends between the two, but not in a string: `is_long`.
    """

    path: str
    head: str
    inner: Sequence[Fold | str]
    hidden: str
    is_open: bool
    is_long: bool = False


def folded(value: Any, name: str) -> Sequence[Fold | str]:
    """The parts of a value; `name` begins the ids of its folds."""
    text = pretty(value)
    lines = text.count("\n")
    if lines > MOST_LINES:
        return [Fold(f"{name}-1", text[:1], [f"{text[2:]}\n"], f"{lines:,} lines", is_open=False)]
    return list(_Folding(name).parts(value, "", "", 0))


class _Folding:
    """One text that is taken apart."""

    def __init__(self, name: str) -> None:
        self.name, self.count = name, 0

    def parts(self, value: Any, before: str, after: str, depth: int) -> Iterator[Fold | str]:
        """The lines of a value; `before` stands in front of it on its first line, `after` behind its last."""
        if isinstance(value, str) and len(value) > LONGEST and self._may_fold():
            path, text = self._path(), pretty(value)
            rest = [f"{text[BEGINNING:]}{after}\n"]
            yield Fold(path, before + text[:BEGINNING], rest, f"{len(value):,} characters", is_open=False, is_long=True)
        elif isinstance(value, dict | list) and value and depth < MOST_DEPTH and self._may_fold():
            path, is_list = self._path(), isinstance(value, list)
            entries, count = self._entries(value, depth), len(value)
            inner = [*_joined(entries), f"{'  ' * depth}{']' if is_list else '}'}{after}\n"]
            word = ("item" if is_list else "entry") if count == 1 else ("items" if is_list else "entries")
            is_open = depth < OPEN_DEPTH and count <= OPEN_ENTRIES
            yield Fold(path, f"{before}{'[' if is_list else '{'}", inner, f"{count:,} {word}", is_open=is_open)
        else:
            lines = pretty(value).replace("\n", f"\n{'  ' * depth}")
            yield f"{before}{lines}{after}\n"

    def _entries(self, value: dict[str, Any] | list[Any], depth: int) -> Iterator[Fold | str]:
        indent, last = "  " * (depth + 1), len(value) - 1
        named = (
            ((f"{spelled(key)}: ", each) for key, each in value.items())
            if isinstance(value, dict)
            else (("", each) for each in value)
        )
        for number, (key, each) in enumerate(named):
            yield from self.parts(each, f"{indent}{key}", "" if number == last else ",", depth + 1)

    def _may_fold(self) -> bool:
        return self.count < MOST_FOLDS

    def _path(self) -> str:
        self.count += 1
        return f"{self.name}-{self.count}"


def _joined(parts: Iterator[Fold | str]) -> list[Fold | str]:
    """Lines that follow each other as one text."""
    found: list[Fold | str] = []
    lines: list[str] = []
    for part in parts:
        if isinstance(part, str):
            lines.append(part)
        else:
            found += ["".join(lines), part] if lines else [part]
            lines = []
    return [*found, "".join(lines)] if lines else found
