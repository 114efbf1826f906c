"""A report file: one read-only SQL query under a header that declares its typed parameters.

Header lines are SQL comments that begin with `--:`

    --: report     What the report shows, in one line.
    --: parameter  created_from timestamp = none -- what it narrows the report to
    --: range      created_from created_to

A parameter without a default must be given; `= none` makes it optional, null in SQL. In the SQL, `:created_from` stands
for the value and has its declared type. `:organization` is always there, comes from the job's owner, and must be used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NoReturn

import pydantic
from pydantic import AfterValidator, Field, TypeAdapter, create_model, model_validator

from tasks.money import names_money
from tasks.payloads import BaseModel
from tracking.errors import ConfigurationError
from tracking.states import STATUS_WORDS, status_of
from tracking.values import MAX_INTEGER

ORGANIZATION = "organization"
STATES = tuple(STATUS_WORDS)


class ReportFilters(BaseModel):
    """The parameters of a report, typed; each report has its own subclass."""

    ranges: ClassVar[tuple[tuple[str, str], ...]] = ()

    @model_validator(mode="after")
    def check_ranges(self) -> ReportFilters:
        """The start of a range is before its end."""
        for start, end in self.ranges:
            low, high = getattr(self, start), getattr(self, end)
            if low is not None and high is not None and low >= high:
                aliases = [type(self).model_fields[name].alias for name in (start, end)]
                raise ValueError("{} must be before {}".format(*aliases))
        return self


@dataclass(frozen=True, slots=True)
class Parameter:
    """A value that a report takes. `default` is what an optional one has when it is not given."""

    name: str
    type: str
    required: bool
    default: Any
    description: str


@dataclass(frozen=True, slots=True)
class Report:
    """A report type. `sql` has psycopg's named placeholders; `filters` validates and holds its parameters."""

    name: str
    description: str
    parameters: tuple[Parameter, ...]
    sql: str
    filters: type[ReportFilters]


def read_report(path: Path) -> Report:
    """The report in this file. Raises ConfigurationError, one line with the file and the line, when it is wrong."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # a byte order mark, which some editors write, is none of the SQL
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"{path}:{line}: a report file is in UTF-8, and this line is not") from None
    except OSError as error:
        raise ConfigurationError(f"{path}:1: the report file cannot be read: {error.strerror}") from None
    return _Source(path, text).report()


def _in_utc(value: datetime) -> datetime:
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _state(word: str) -> str:
    return status_of(word).value


@dataclass(frozen=True, slots=True)
class _Type:
    sql: str
    python: Any


_TYPES: Mapping[str, _Type] = {
    "text": _Type("text", str),
    "integer": _Type("bigint", Annotated[int, Field(strict=True, ge=-MAX_INTEGER, le=MAX_INTEGER)]),
    "date": _Type("date", date),
    "timestamp": _Type("timestamptz", Annotated[datetime, AfterValidator(_in_utc)]),
    "boolean": _Type("boolean", Annotated[bool, Field(strict=True)]),
    "status": _Type("text", Annotated[Literal[STATES], AfterValidator(_state)]),
}

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_HEADER = re.compile(r"--:\s*(?P<keyword>\w*)\s*(?P<rest>.*?)\s*$")
_PARAMETER = re.compile(r"(?P<name>\w+)\s+(?P<type>\w+)(\s*=\s*(?P<default>.+?))??(\s+--\s*(?P<description>.*))?")
_RANGE = re.compile(r"(?P<start>\w+)\s+(?P<end>\w+)")

# As much of SQL's lexical structure as it takes to tell code from comments and quoted text (PostgreSQL manual, 4.1).
_TOKEN = re.compile(
    r"""(?P<comment> --[^\n]* )
      | (?P<quoted> (?<!\w)[eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*"
                  | (?<![\w$])\$(?P<tag>[A-Za-z_]*)\$.*?\$(?P=tag)\$ )
      | (?P<unsupported> /\* | ['"] )
      | (?P<cast> :: )
      | : (?P<name> [A-Za-z_]\w* )
      | (?P<end> ; )
      | (?P<percent> % )""",
    re.VERBOSE | re.DOTALL,
)


class _Source:
    """A report file while it is read."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.text = text
        self.description = ""
        self.parameters: dict[str, Parameter] = {}
        self.lines: dict[str, int] = {}
        self.ranges: list[tuple[str, str]] = []

    def report(self) -> Report:
        if not _NAME.fullmatch(self.path.stem):
            self.refuse(1, "a report's file name is made of lower-case words, digits and _")
        for token in self.tokens("comment"):
            self.read_header(token)
        if not self.description:
            self.refuse(1, "the header line `--: report <description>` is missing")
        self.check_usage()
        return Report(self.path.stem, self.description, tuple(self.parameters.values()), self.sql(), self.filters())

    def read_header(self, token: re.Match[str]) -> None:
        header = _HEADER.fullmatch(token["comment"])
        if header is None:
            return
        line, rest = self.line(token), header["rest"]
        match header["keyword"]:
            case "report":
                self.description = rest
            case "parameter":
                self.add_parameter(line, rest)
            case "range":
                self.add_range(line, rest)
            case other:
                self.refuse(line, f"unknown header {other!r}; known: report, parameter, range")

    def add_parameter(self, line: int, declaration: str) -> None:
        found = _PARAMETER.fullmatch(declaration)
        if found is None:
            self.refuse(line, "a parameter is declared as: parameter <name> <type> [= <default>] [-- <description>]")
        name, kind = found["name"], found["type"]
        self.check_name(line, name)
        if kind not in _TYPES:
            self.refuse(line, f"unknown type {kind!r}; known: {', '.join(_TYPES)}")
        default = self.default(line, name, kind, found["default"])
        required = found["default"] is None
        self.parameters[name] = Parameter(name, kind, required, default, found["description"] or "")
        self.lines[name] = line

    def check_name(self, line: int, name: str) -> None:
        if not _NAME.fullmatch(name):
            self.refuse(line, f"the parameter {name!r} is not made of lower-case words, digits and _")
        if name == ORGANIZATION:
            self.refuse(line, "the parameter organization is always there and is not declared")
        if name in self.parameters:
            self.refuse(line, f"the parameter {name} is declared twice")
        if hasattr(pydantic.BaseModel, name) or hasattr(ReportFilters, name):
            self.refuse(line, f"the parameter name {name} is reserved")
        if names_money(name):
            self.refuse(line, f"the parameter {name} names a monetary value, which a payload never holds")

    def default(self, line: int, name: str, kind: str, written: str | None) -> Any:
        if written is None or written == "none":
            return None
        try:
            return TypeAdapter(_TYPES[kind].python).validate_strings(written)
        except pydantic.ValidationError:
            self.refuse(line, f"the default {written!r} of {name} is no {kind}")

    def add_range(self, line: int, declaration: str) -> None:
        found = _RANGE.fullmatch(declaration)
        if found is None:
            self.refuse(line, "a range is declared as: range <start parameter> <end parameter>")
        ends = [self.parameters.get(name) for name in (found["start"], found["end"])]
        types = {end.type if end else None for end in ends}
        if len(types) != 1 or not types <= {"date", "timestamp", "integer"}:
            self.refuse(line, "a range takes two parameters declared above it, both date, timestamp or integer")
        self.ranges.append((found["start"], found["end"]))

    def check_usage(self) -> None:
        used = {token["name"]: self.line(token) for token in self.tokens("name")}
        for name, line in used.items():
            if name != ORGANIZATION and name not in self.parameters:
                self.refuse(line, f"the parameter :{name} is not declared")
        for name in self.parameters.keys() - used.keys():
            self.refuse(self.lines[name], f"the parameter {name} is declared and never used")
        if ORGANIZATION not in used:
            self.refuse(1, "the query does not use :organization, so it would show every organization's rows")

    def sql(self) -> str:
        for token in self.tokens("unsupported"):
            self.refuse(self.line(token), f"{token['unsupported']} is not closed, or not supported here")
        query = _TOKEN.sub(self.translated, self.text).strip()
        if ";" in (token.group() for token in _TOKEN.finditer(query)):
            self.refuse(self.line(next(self.tokens("end"))), "a report is one statement")
        if not re.match(r"\(*\s*(select|with|values|table)\b", query, re.IGNORECASE):
            self.refuse(1, "a report is a query: it begins with SELECT, WITH, VALUES or TABLE")
        return query

    def translated(self, token: re.Match[str]) -> str:
        if token["comment"]:
            return ""
        if token["end"]:
            return "" if self.only_comments_follow(token) else ";"
        if token["name"]:
            name = token["name"]
            kind = "text" if name == ORGANIZATION else _TYPES[self.parameters[name].type].sql
            return f"CAST(%({name})s AS {kind})"
        return token.group().replace("%", "%%")

    def only_comments_follow(self, token: re.Match[str]) -> bool:
        return not re.sub(r"--[^\n]*", "", self.text[token.end() :]).strip()

    def filters(self) -> type[ReportFilters]:
        fields: dict[str, Any] = {}
        for parameter in self.parameters.values():
            kind: Any = _TYPES[parameter.type].python
            default = ... if parameter.required else parameter.default
            optional = not parameter.required and parameter.default is None
            info = Field(default, description=parameter.description or None)
            fields[parameter.name] = (kind | None if optional else kind, info)
        name = f"{self.path.stem.title().replace('_', '')}Filters"
        model = create_model(name, __base__=ReportFilters, __doc__=self.description, **fields)
        model.ranges = tuple(self.ranges)
        return model

    def tokens(self, group: str) -> Iterator[re.Match[str]]:
        return (token for token in _TOKEN.finditer(self.text) if token[group] is not None)

    def line(self, token: re.Match[str]) -> int:
        return self.text.count("\n", 0, token.start()) + 1

    def refuse(self, line: int, what: str) -> NoReturn:
        raise ConfigurationError(f"{self.path}:{line}: {what}")
