"""Fields of a form by the JSON Schema of a payload, and the payload that their texts make."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from api.dashboard.asking import NotUnderstood, json_of, moment, whole
from api.dashboard.wording import pretty

DEEPEST = 2  # objects in objects that have fields of their own; what is deeper is said as JSON
KINDS = {"integer": "number", "number": "number", "string": "text"}
FORMATS = {"date-time": "datetime-local", "date": "date"}
SCALARS = ("string", "integer", "number")
# What browsers show in such a field; of any other text they show and send nothing.
VALID = {
    "number": re.compile(r"-?(\d+(\.\d+)?|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII),
    "date": re.compile(r"\d{4}-\d\d-\d\d", re.ASCII),
    "datetime-local": re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,3})?)?", re.ASCII),
}


@dataclass(frozen=True, slots=True)
class Field:
    """A field: `kind` is a type of an input, or choice, json, group, with fields `inside`, or a value a line.

    `choices`: what each of its words stands for. `default`: what an empty one means, in words.
    """

    name: str
    label: str
    kind: str
    required: bool
    help: str
    default: str
    choices: Mapping[str, Any] = field(default_factory=dict)
    inside: Sequence[Field] = ()


def fields_of(schema: Mapping[str, Any]) -> list[Field] | None:
    """The fields for a payload; None: the schema says nothing of what is in it."""
    if not schema.get("properties"):
        return None
    return [*_fields(schema, schema, "payload", 0)]


def flat(fields: Sequence[Field]) -> Iterator[Field]:
    """These fields, and those inside."""
    for each in fields:
        yield each
        yield from flat(each.inside)


def payload_of(fields: Sequence[Field], said: Mapping[str, str]) -> dict[str, Any]:
    """The payload that the texts of these fields make; empty ones are left out. Raises NotUnderstood.

    What is no number stays as it was typed: its handler refuses it at that place.
    """
    found = {each.label: _value(each, said) for each in fields}
    return {name: value for name, value in found.items() if value is not None}


def texts_of(fields: Sequence[Field], payload: Mapping[str, Any]) -> dict[str, str]:
    """The texts that these fields show for a payload: what has no field is in none of them."""
    found: dict[str, str] = {}
    for each in fields:
        value = payload.get(each.label)
        if each.kind == "group":
            found |= texts_of(each.inside, value) if isinstance(value, Mapping) else {}
        elif value is not None:
            found[each.name] = _kept(each, _text(each, value))
    return found


def _text(of: Field, value: Any) -> str:
    if of.kind in ("lines", "numbers") and isinstance(value, list):
        return "\n".join(map(_word, value))
    if of.kind == "datetime-local" and isinstance(value, str):
        return value.removesuffix("Z").removesuffix("+00:00")
    return pretty(value) if of.kind == "json" else _word(value)


def _kept(of: Field, text: str) -> str:
    """What a browser makes of the text of a field that nobody has touched (HTML, value sanitization)."""
    if of.kind in VALID:
        return text if VALID[of.kind].fullmatch(text) else ""
    return _unix(text)


def _unix(text: str) -> str:
    """Browsers send each end of a line in a field as CR LF."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _fields(schema: Mapping[str, Any], root: Mapping[str, Any], within: str, deep: int) -> Iterator[Field]:
    needed = schema.get("required", ())
    for name, given in schema["properties"].items():
        of = _plain(given, root)
        said = given.get("description") or of.get("description") or ""
        default = "" if given.get("default") is None else _word(given["default"])
        make = partial(Field, f"{within}.{name}", name, required=name in needed, help=said, default=default)
        yield _field(make, f"{within}.{name}", of, root, deep)


def _field(make: Callable[..., Field], name: str, of: Mapping[str, Any], root: Mapping[str, Any], deep: int) -> Field:
    words = of.get("enum") or ([of["const"]] if "const" in of else [True, False] if of.get("type") == "boolean" else [])
    if words:
        return make(kind="choice", choices={_word(each): each for each in words})
    kind = str(of.get("type", ""))
    if kind in SCALARS:
        return make(kind=FORMATS.get(of.get("format", ""), KINDS[kind]))
    if kind == "array" and (item := _plain(of.get("items", {}), root).get("type")) in SCALARS:
        return make(kind="lines" if item == "string" else "numbers")
    if kind == "object" and of.get("properties") and deep < DEEPEST:
        return make(kind="group", inside=[*_fields(of, root, name, deep + 1)])
    return make(kind="json")


def _plain(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a schema comes to without its references, and without null beside one other choice."""
    for _ in range(10):  # references to references end somewhere, unless in a circle
        choices = [each for each in schema.get("anyOf", schema.get("allOf", ())) if each.get("type") != "null"]
        if "$ref" in schema:
            schema = root.get("$defs", {}).get(str(schema["$ref"]).rpartition("/")[2], {})
        elif len(choices) == 1:
            schema = choices[0]
        else:
            break
    return schema


def _word(value: Any) -> str:
    return value if isinstance(value, str) else pretty(value)


def _value(of: Field, said: Mapping[str, str]) -> Any:
    """None: it is empty."""
    if of.kind == "group":
        return payload_of(of.inside, said) or ({} if of.required else None)
    text = said.get(of.name, "")
    return _read(of, text) if text.strip() else None


def _read(of: Field, text: str) -> Any:
    if of.kind == "choice":
        return of.choices.get(text, text)
    if of.kind in ("lines", "numbers"):
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines if of.kind == "lines" else [_scalar(line) for line in lines]
    if of.kind == "json":
        return json_of({of.name: text}, of.name)
    if of.kind == "number":
        return _scalar(text)
    return moment(text) if of.kind == "datetime-local" else _unix(text)


def _scalar(text: str) -> Any:
    number = whole(text)
    if isinstance(number, int):
        return number
    try:
        found = json_of({"it": text}, "it")
    except NotUnderstood:
        return text
    return found if isinstance(found, float) else text
