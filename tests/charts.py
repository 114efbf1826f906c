"""Renders a chart as Helm does, as far as ours goes: values, `if`, `else`, `range`, pipes and a few functions.

It is no Helm: `rendered-chart.yaml` was made by that, and a test holds the two against each other.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import yaml

ACTION = re.compile(r"(\s*)\{\{(-?)\s*(.*?)\s*(-?)\}\}(\s*)", re.DOTALL)
RANGE = re.compile(r"range (\$\w+), (\$\w+) := (.+)")
WORD = re.compile(r'"[^"]*"|[()|]|[^\s()|]+')
KINDS: Mapping[type, str] = {str: "string", bool: "bool", int: "float64", float: "float64", dict: "map", list: "slice"}


class Refused(Exception):
    """What `fail` says of the values."""


def _fail(why: str) -> NoReturn:
    raise Refused(why)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": lambda *numbers: sum(map(int, numbers)),
    "and": lambda first, second: first and second,
    "deepCopy": copy.deepcopy,
    "default": lambda otherwise, value=None: value or otherwise,
    "dict": dict,
    "eq": lambda first, second: first == second,
    "fail": _fail,
    "join": lambda between, value: between.join(value) if isinstance(value, list) else value,
    "kindIs": lambda kind, value: kind == ("invalid" if value is None else KINDS[type(value)]),
    "lower": str.lower,
    "ne": lambda first, second: first != second,
    "not": lambda value: not value,
    "or": lambda first, second: first or second,
    "printf": lambda form, *given: form % given,
    "quote": lambda value: json.dumps("" if value is None else str(value)),
    "replace": lambda old, new, value: value.replace(old, new),
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
        objects += [each for each in yaml.load_all(text, Loader=_Strict) if each]
    return objects


def _merged(own: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """What is null in `over` is taken away; maps are put together."""
    merged = {**own, **over}
    for name in own.keys() & over.keys():
        if isinstance(own[name], dict) and isinstance(over[name], dict):
            merged[name] = _merged(own[name], over[name])
    return {name: value for name, value in merged.items() if value is not None}


FUNCTIONS["mergeOverwrite"] = _merged


class _Strict(yaml.SafeLoader):
    """Refuses what names a field twice, as Helm does."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - YAML's
        names = [key.value for key, _ in node.value]
        assert len(set(names)) == len(names), names
        return super().construct_mapping(node, deep)


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
        for name, value in _items(_value(over, names)) if shown else ():
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


def _items(value: Any) -> Iterable[tuple[Any, Any]]:
    return sorted(value.items()) if isinstance(value, dict) else enumerate(value)


def _text(said: str, names: Names) -> str:
    value = _value(said, names)
    assert value is not None, f"there is no {said}"
    return str(value)


def _value(expression: str, names: Names) -> Any:
    words = WORD.findall(expression)
    value = _piped(words, names)
    assert not words, expression
    return value


def _piped(words: list[str], names: Names) -> Any:
    """Each command of a pipe gets what the one before has made, as its last argument."""
    value = _command(words, names)
    while words and words[0] == "|":
        words.pop(0)
        value = _command(words, names, value)
    return value


def _command(words: list[str], names: Names, *piped: Any) -> Any:
    if words[0] not in FUNCTIONS:
        return _operand(words, names)
    function, arguments = FUNCTIONS[words.pop(0)], []
    while words and words[0] not in ("|", ")"):
        arguments.append(_operand(words, names))
    return function(*arguments, *piped)


def _operand(words: list[str], names: Names) -> Any:
    word = words.pop(0)
    if word == "(":
        value = _piped(words, names)
        assert words.pop(0) == ")"
        return value
    if word.startswith('"'):
        return word[1:-1]
    if word.isdecimal():
        return int(word)
    if word in FUNCTIONS:  # without an argument
        return FUNCTIONS[word]()
    root, *path = word.split(".")
    value = names[root or "$"]
    for each in path:
        value = value.get(each)
    return value
