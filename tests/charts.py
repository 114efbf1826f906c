"""Renders a chart as Helm does, as far as ours goes: values, `if`, `else`, `range` over a map, `quote` and `toJson`.

It is no Helm: `rendered-chart.yaml` was made by that, and a test holds the two against each other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ACTION = re.compile(r"(\s*)\{\{(-?)\s*(.*?)\s*(-?)\}\}(\s*)", re.DOTALL)
RANGE = re.compile(r"range (\$\w+), (\$\w+) := (\S+)")
WORD = re.compile(r"\(|\)|[^\s()]+")
FILTERS: Mapping[str, Callable[[Any], str]] = {
    "quote": lambda value: json.dumps(str(value)),
    "toJson": lambda value: json.dumps(value, sort_keys=True),
}

Names = Mapping[str, Any]
Token = tuple[str, str]  # "text" or "action", and what it says


def rendered(chart: Path, values: Mapping[str, Any], revision: int = 1) -> list[dict[str, Any]]:
    """The objects of a chart with these values over its own."""
    merged = _merged(yaml.safe_load((chart / "values.yaml").read_text()), values)
    names = {"$": {"Values": merged, "Release": {"Revision": revision}}}
    objects: list[dict[str, Any]] = []
    for template in sorted((chart / "templates").iterdir()):
        text = _Template(template.read_text()).rendered(names)
        objects += [each for each in yaml.safe_load_all(text) if each]
    return objects


def _merged(own: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = {name: _merged(own[name], over[name]) for name in own.keys() & over.keys() if isinstance(own[name], dict)}
    return {**own, **over, **both}


class _Template:
    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._place = 0

    def rendered(self, names: Names) -> str:
        text = self._block(names, shown=True)
        assert self._place == len(self._tokens), "an `end` too many"
        return text

    def _block(self, names: Names, *, shown: bool) -> str:
        """Up to the `else` or `end` that belongs to it."""
        out = []
        while self._place < len(self._tokens):
            kind, said = self._tokens[self._place]
            if kind == "action" and said in ("else", "end"):
                break
            self._place += 1
            if kind == "text":
                out.append(said)
            elif said.startswith("if "):
                out.append(self._choice(names, shown=shown, holds=shown and bool(_value(said[3:], names))))
            elif said.startswith("range "):
                out.append(self._repeated(said, names, shown=shown))
            elif shown:
                out.append(_text(said, names))
        return "".join(out) if shown else ""

    def _choice(self, names: Names, *, shown: bool, holds: bool) -> str:
        first, second = self._block(names, shown=shown and holds), ""
        if self._tokens[self._place][1] == "else":
            self._place += 1
            second = self._block(names, shown=shown and not holds)
        self._place += 1
        return first + second

    def _repeated(self, said: str, names: Names, *, shown: bool) -> str:
        found = RANGE.fullmatch(said)
        assert found is not None, said
        key, item, over = found.groups()
        begin, out = self._place, []
        for name, value in sorted(_value(over, names).items()) if shown else ():
            self._place = begin
            out.append(self._block({**names, key: name, item: value}, shown=True))
        self._place = begin
        self._block(names, shown=False)
        self._place += 1
        return "".join(out)


def _tokens(text: str) -> Iterator[Token]:
    place = 0
    for found in ACTION.finditer(text):
        before, left, said, right, after = found.groups()
        yield "text", text[place : found.start()] + ("" if left else before)
        yield "action", said
        place = found.end() if right else found.end() - len(after)
    yield "text", text[place:]


def _text(said: str, names: Names) -> str:
    expression, *filters = (part.strip() for part in said.split("|"))
    value = _value(expression, names)
    for each in filters:
        value = FILTERS[each](value)
    assert value is not None, f"there is no {expression}"
    return str(value)


def _value(expression: str, names: Names) -> Any:
    return _evaluated(WORD.findall(expression), names)


def _evaluated(words: list[str], names: Names) -> Any:
    word = words.pop(0)
    if word == "(":
        value = _evaluated(words, names)
        assert words.pop(0) == ")"
        return value
    if word == "not":
        return not _evaluated(words, names)
    if word == "and":
        first, second = _evaluated(words, names), _evaluated(words, names)
        return first and second
    root, *path = word.split(".")
    value = names[root or "$"]
    for each in path:
        value = value.get(each)
    return value
