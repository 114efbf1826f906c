"""`make docs`: the reference of the API as pages of the documentation, from its own OpenAPI description.

A page for each part of the API says of each operation what it asks for and answers; what several parts have in common
is on a page of its own. Lists instead of tables: they are read on a phone as well.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1] / "docs"
DIRECTORY, COMMON = "reference", "objects"
# The description needs settings, and reaches none of what they name.
NOWHERE = {"DATABASE_URL": "postgresql://nobody@nowhere/none", "BROKER_URL": "redis://nowhere/0"}
HEAD = """# The API

Every operation, by what it is about; each leads to its permission, parameters, body, answers and an example. The same
is at `/docs` where the API runs, drawn by files of its own, and as OpenAPI 3.1 at `/openapi.json`, from which clients
can be made. All of `/v1` takes `Authorization: Bearer …`; [what can go wrong](errors.md) has a code. [The client for
Python](client.md) has each as a method.
"""
EVERYWHERE = "Beside the codes that are named, each operation may answer {codes}{bodies}."
WITH_BODY = ", and each that takes JSON {codes}"
CODE = re.compile(r"`([a-z_]+)`")
REF = "#/components/schemas/"
# What an example says where the description has none.
EXAMPLES: Mapping[str, Any] = {
    "jobType": "export_report", "type": "export_report", "organizationId": "acme", "organization": "acme",
    "userId": "mara", "projectId": "q4-close", "actor": "mara", "by": "mara", "createdBy": "mara", "changedBy": "mara",
    "worker": "worker-1@host", "queue": "default", "name": "nightly", "message": "Querying data",
    "payload": {"reportType": "jobs"}, "timezone": "UTC", "cron": "0 6 * * *", "progress": 60, "percentage": 60,
    "url": "https://hooks.example.com/celeriac", "timestamp": "2026-01-31T12:00:00.000Z", "permission": None,
    "sentence": "Waiting for one of 5 slots: 5 of 5 are taken; 3rd in line.", "description": "Each morning",
}  # fmt: skip
FORMATS = {
    "uuid": "019aa0f3-7c1e-7d5a-9f57-3a1f6a0c9d11",
    "date-time": "2026-01-31T12:00:00.000Z",
    "date": "2026-01-31",
    "binary": "…",
}
TYPE = "jobType"  # the types are those of an installation
DEEPEST = 4  # levels of an example
KINDS = {"uuid": "id", "date-time": "time", "date": "date", "binary": "bytes"}


def pages(described: Mapping[str, Any]) -> dict[str, str]:
    """The pages by their paths within docs/."""
    return _Reference(described).pages()


def write(texts: Mapping[str, str]) -> None:
    """Write these pages, and no other one stays."""
    for page in (DOCS / DIRECTORY).glob("*.md"):
        page.unlink()
    for path, text in texts.items():
        file = DOCS / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)


class _Reference:
    """One description, and where each of its objects stands."""

    def __init__(self, described: Mapping[str, Any]) -> None:
        self._schemas: Mapping[str, Any] = described["components"]["schemas"]
        self._shown: set[tuple[str, str | None]] = set()
        self._parts: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = {}
        for path, methods in described["paths"].items():
            for method, operation in methods.items():
                self._parts.setdefault(operation["tags"][0], []).append((method.upper(), path, operation))
        used = {tag: self._used(operation for _, _, operation in of) for tag, of in self._parts.items()}
        times = Counter(name for names in used.values() for name in names)
        self._own = {tag: [name for name in names if times[name] == 1] for tag, names in used.items()}
        self._common = sorted(name for name, count in times.items() if count > 1)
        self._page = {name: tag for tag, names in self._own.items() for name in names} | dict.fromkeys(
            self._common, COMMON
        )
        every = [each for of in self._parts.values() for _, path, each in of if path.startswith("/v1")]
        self._everywhere = sorted(set.intersection(*(set(_codes(each)) for each in every)))
        asking = [set(_codes(each)) for each in every if _asks_json(each)]
        self._with_body = sorted(set.intersection(*asking) - set(self._everywhere))
        self._asked = self._used(iter([{**each, "responses": {}} for each in every]))

    def pages(self) -> dict[str, str]:
        found = {f"{DIRECTORY}/{_file(tag)}.md": self._part(tag) for tag in self._parts}
        common = "\n".join(self._object(name, COMMON) for name in self._common)
        found[f"{DIRECTORY}/{COMMON}.md"] = f"# Objects\n\nWhat several parts of the API take or answer.\n\n{common}"
        return {"api.md": self._index(), **found}

    def _index(self) -> str:
        bodies = WITH_BODY.format(codes=_listed(self._with_body))
        texts = [HEAD, EVERYWHERE.format(codes=_listed(self._everywhere), bodies=bodies), ""]
        for tag, of in self._parts.items():
            texts += [f"## {_title(tag)}", ""]
            for method, path, operation in of:
                address = f"{DIRECTORY}/{_file(tag)}.md#{_anchor(operation)}"
                texts += [f"- [`{method} {path}`]({address}): {_summary(operation)}"]
            texts += [""]
        return "\n".join(texts)

    def _part(self, tag: str) -> str:
        operations = [self._operation(tag, *each) for each in self._parts[tag]]
        objects = [self._object(name, tag) for name in self._own[tag]]
        head = (
            f"# API: {_title(tag)}\n\nA part of [the API](../api.md), which says what all operations have in common.\n"
        )
        return "\n".join([head, *operations, *(["## Objects\n", *objects] if objects else [])])

    def _operation(self, tag: str, method: str, path: str, operation: Mapping[str, Any]) -> str:
        lines = [f"## {_name(operation)}", "", f"`{method} {path}`", "", operation.get("description", ""), ""]
        lines += [f"Permission: {_permission(operation)}.", ""]
        if parameters := operation.get("parameters"):
            lines += ["**Parameters**", ""]
            lines += [self._field(_called(each), each["schema"], tag, **_about(each)) for each in parameters]
            lines += [""]
        for media, body in operation.get("requestBody", {}).get("content", {}).items():
            schema = body["schema"]
            lines += [f"**Body**: {self._kind(schema, tag)}, as `{media}`", ""]
            if media == "application/json":
                lines += _json(self._example(schema, asked=True))
        lines += ["**Answers**", ""]
        lines += [line for status in sorted(operation["responses"]) for line in self._answer(operation, status, tag)]
        return "\n".join([*lines, ""])

    def _answer(self, operation: Mapping[str, Any], status: str, tag: str) -> Iterator[str]:
        said = operation["responses"][status]
        if int(status) >= 400:
            known = [*self._everywhere, *(self._with_body if _asks_json(operation) else ())]
            codes = [code for code in CODE.findall(said["description"]) if code not in known]
            if codes:
                yield f"- {status}: {_listed(codes)}"
            return
        words = "" if said.get("description") == "Successful Response" else said.get("description", "")
        kinds = ", ".join(f"`{kind}`" for kind in said.get("content", {}) if kind != "application/json")
        schema = said.get("content", {}).get("application/json", {}).get("schema")
        what = self._kind(schema, tag) if schema else kinds or "nothing"
        headers = ", ".join(f"`{name}`" for name in said.get("headers", {}))
        yield f"- {status}: {what}{f', with {headers}' if headers else ''}. {words}".rstrip()
        if schema and self._is_new(tag, schema):
            yield ""
            yield from (f"    {line}".rstrip() for line in _json(self._example(schema)))

    def _is_new(self, tag: str, schema: Mapping[str, Any]) -> bool:
        """Whether a page has no example of this yet."""
        key = (tag, schema.get("$ref"))
        is_new = key not in self._shown
        self._shown.add(key)
        return is_new

    def _object(self, name: str, tag: str) -> str:
        schema = self._schemas[name]
        lines = [f"### {_short(name)}", "", schema.get("description", "").replace("\n", " "), ""]
        if "enum" in schema:
            lines += [" · ".join(f"`{value}`" for value in schema["enum"]), ""]
        # What is answered is there anyway, or said to be null.
        needed = schema.get("required", ()) if name in self._asked else ()
        fields = schema.get("properties", {})
        lines += [self._field(each, fields[each], tag, needed=each in needed) for each in fields]
        return "\n".join([*lines, ""])

    def _field(self, name: str, schema: Mapping[str, Any], tag: str, *, needed: bool, place: str = "") -> str:
        if name == TYPE:
            schema = {key: value for key, value in schema.items() if key != "enum"}
        told = [self._kind(schema, tag), place, "needed" if needed and place != "path" else "", *_bounds(schema)]
        words = schema.get("description", "").replace("\n", " ")
        return f"- `{name}`: {', '.join(filter(None, told))}{f'. {words}' if words else ''}"

    def _kind(self, schema: Mapping[str, Any], tag: str) -> str:  # noqa: PLR0911 - one for each form of a schema
        """What a value is, in words."""
        if "$ref" in schema:
            name = schema["$ref"].removeprefix(REF)
            page = self._page.get(name)
            if page is None:
                return "any JSON"
            return f"[{_short(name)}]({'' if page == tag else f'{_file(page)}.md'}#{_short(name).lower()})"
        if "enum" in schema or "const" in schema:
            return " · ".join(f"`{each}`" for each in schema.get("enum", [schema.get("const")]))
        if any_of := schema.get("anyOf", schema.get("oneOf")):
            return " or ".join(dict.fromkeys(self._kind(each, tag) for each in any_of))
        kind = schema.get("type")
        if kind == "array":
            return f"list of {self._kind(schema.get('items', {}), tag)}"
        if isinstance(kind, list):
            return " or ".join(kind)
        return KINDS.get(schema.get("format", ""), {"string": "text", None: "any JSON"}.get(kind, str(kind)))

    def _example(  # noqa: PLR0911 - as above
        self, schema: Mapping[str, Any], name: str = "", *, asked: bool = False, depth: int = 0
    ) -> Any:
        if "$ref" in schema:
            found = self._schemas.get(schema["$ref"].removeprefix(REF), {})
            return self._example(found, name, asked=asked, depth=depth)
        if examples := schema.get("examples"):
            return examples[0]
        if "const" in schema or "enum" in schema:
            return schema.get("const", schema.get("enum", [None])[0])
        if name in EXAMPLES and "properties" not in schema:
            return EXAMPLES[name]
        if any_of := schema.get("anyOf", schema.get("oneOf")):
            return None if {"type": "null"} in any_of else self._example(any_of[0], name, asked=asked, depth=depth)
        kind = schema.get("type")
        if kind == "array":
            inner = schema.get("items", {})
            return [] if depth > DEEPEST else [self._example(inner, name, asked=asked, depth=depth + 1)]
        if kind == "object" or "properties" in schema:
            fields = schema.get("properties", {})
            chosen = [each for each in fields if not asked or each in schema.get("required", ())]
            return {each: self._example(fields[each], each, asked=asked, depth=depth + 1) for each in chosen}
        if kind == "string":
            return FORMATS.get(schema.get("format", ""), "…")
        return {"integer": int(schema.get("minimum", 1)), "number": 1.0, "boolean": False}.get(str(kind))

    def _used(self, of: Iterator[Mapping[str, Any]]) -> list[str]:
        """The objects that operations take and answer, and those within these, by name."""
        found: dict[str, None] = {}
        waiting = [name for each in of for name in _named(_without_problems(each))]
        while waiting:
            name = waiting.pop()
            if name in self._schemas and name not in found:
                found[name] = None
                waiting += _named(self._schemas[name])
        return sorted(found)


def _asks_json(operation: Mapping[str, Any]) -> bool:
    return "application/json" in operation.get("requestBody", {}).get("content", {})


def _listed(codes: Iterable[str]) -> str:
    return ", ".join(f"`{code}`" for code in codes)


def _short(name: str) -> str:
    """Of two models of the same name FastAPI says the modules as well."""
    return name.rpartition("__")[2]


def _called(parameter: Mapping[str, Any]) -> str:
    return str(parameter["name"]).title() if parameter["in"] == "header" else str(parameter["name"])


def _without_problems(operation: Mapping[str, Any]) -> Mapping[str, Any]:
    answers = {status: said for status, said in operation["responses"].items() if int(status) < 400}
    return {**operation, "responses": answers}


def _named(said: Any) -> Iterator[str]:
    if isinstance(said, Mapping):
        if isinstance(said.get("$ref"), str):
            yield said["$ref"].removeprefix(REF)
        for value in said.values():
            yield from _named(value)
    elif isinstance(said, list):
        for value in said:
            yield from _named(value)


def _codes(operation: Mapping[str, Any]) -> Sequence[str]:
    refused = (said for status, said in operation["responses"].items() if int(status) >= 400)
    return [code for said in refused for code in CODE.findall(said["description"])]


def _permission(operation: Mapping[str, Any]) -> str:
    if not operation.get("security"):
        return "none, and no token"
    named = " or ".join(f"`{name}`" for name in operation.get("x-permissions", ()))
    own = "that of the job's handler" if operation.get("x-handler-permission") else ""
    return " and ".join(filter(None, (named, own))) or "none beside a token or a ticket"


def _about(parameter: Mapping[str, Any]) -> dict[str, Any]:
    return {"needed": parameter.get("required", False), "place": parameter["in"]}


def _bounds(schema: Mapping[str, Any]) -> Iterator[str]:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None or most is not None:
        ends = f"{least:g} to {most:g}" if None not in (least, most) else ""
        yield ends or (f"from {least:g} on" if most is None else f"up to {most:g}")
    if (longest := schema.get("maxLength")) is not None:
        yield f"at most {longest} characters"
    if (longest := schema.get("maxItems")) is not None:
        yield f"at most {longest}"
    if schema.get("default") not in (None, [], {}, ""):
        yield f"default `{json.dumps(schema['default'])}`"


def _summary(operation: Mapping[str, Any]) -> str:
    said = operation.get("description", operation["summary"]).split("\n\n")[0]
    return re.split(r"(?<=[.:]) ", said)[0].rstrip(":")


def _name(operation: Mapping[str, Any]) -> str:
    return str(operation["operationId"]).replace("_", " ").capitalize()


def _anchor(operation: Mapping[str, Any]) -> str:
    return _name(operation).lower().replace(" ", "-")


def _title(tag: str) -> str:
    return tag.capitalize()


def _file(tag: str) -> str:
    return tag.replace(" ", "-")


def _json(value: Any) -> list[str]:
    return ["```json", *json.dumps(value, indent=2, ensure_ascii=False).splitlines(), "```", ""]


def main() -> None:
    """Write docs/api.md and docs/reference/ anew."""
    os.environ |= {name: os.environ.get(name, value) for name, value in NOWHERE.items()}
    from api.app import create_app  # noqa: PLC0415 - it reads the settings

    write(pages(create_app().openapi()))


if __name__ == "__main__":
    main()
