"""What is typed into the search: words, and qualifiers such as `status:failed type:sync`.

The page takes some of them for the filters of the API, where they add up; all others are in what the API calls `q`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from api.schemas.requests import ListQuery
from tracking.errors import InvalidValue
from tracking.reads import search
from tracking.reads.answers import Filters

PAGE_SIZE = 25
LONGEST = 500  # characters
TOKEN = re.compile(r'(?:([\w.]+):)?("[^"]*"|\S+)')
OURS = {
    "status": "status",
    "type": "jobType",
    "user": "userId",
    "project": "projectId",
    "id": "ids",
    "from": "createdFrom",
    "to": "createdTo",
    "ended": "",
    "alike": "error",
}
LISTS = ("status", "ids")
TIMES = ("createdFrom", "createdTo")
TIME = re.compile(r"(\d{4}-\d\d-\d\d)(?:T(\d\d:\d\d)(:\d\d(?:\.\d+)?)?)?(Z|[+-]\d\d:\d\d)?", re.ASCII)
ENDED = ("completedFrom", "completedTo")
QUALIFIERS = (*OURS, *(name for name in search.QUALIFIERS if name not in OURS))


@dataclass(frozen=True, slots=True)
class Search:
    """A search that was understood; `why_not`: what could not be, and then nothing is found.

    `hint`: what was taken for words and seems to be meant otherwise.
    """

    text: str
    statuses: tuple[str, ...]
    filters: Filters | None
    why_not: str | None = None
    given: Mapping[str, Any] = field(default_factory=dict)  # the same as the API takes it
    hint: str | None = None

    def with_status(self, status: str) -> str:
        """The same search for another status; for the same one, without it."""
        rest = self.without("status")
        return rest if self.statuses == (status,) else f"status:{status} {rest}".strip()

    def narrowed(self, name: str, value: str) -> str:
        """The same search for another value of a qualifier."""
        return f"{self.without(name)} {quoted(name, value)}".strip()

    def without(self, name: str) -> str:
        """The same search without a qualifier."""
        return " ".join(match[0] for match in TOKEN.finditer(self.text) if match[1] != name)


def quoted(name: str, value: str) -> str:
    """A qualifier with a value, whatever that is."""
    said = value if value.split() == [value] else f'"{value}"'
    return f"{name}:{said}"


def understood(text: str) -> Search:
    """A search by what was typed. Qualifiers of the same name add up; what is no qualifier is looked for as it is."""
    given: dict[str, Any] = {}
    rest = []
    for match in TOKEN.finditer(text[:LONGEST]):
        name, value = match[1], match[2].strip('"')
        if name not in OURS:
            rest.append(match[0])
        elif name == "ended":
            given |= dict(_ended(value))
        elif OURS[name] in LISTS:
            given.setdefault(OURS[name], []).append(value)
        else:
            given[OURS[name]] = _moment(value) if OURS[name] in TIMES else value
    if rest:
        given["q"] = " ".join(rest)
    return _judged(text[:LONGEST].strip(), given)


def _ended(value: str) -> Iterator[tuple[str, str]]:
    """`2026-11-01T12:00Z..2026-11-01T13:00Z`: from one time to another; without one of them as long as there is."""
    bounds = dict(zip(ENDED, value.split("..", 1), strict=False))
    return ((name, _moment(bound)) for name, bound in bounds.items() if bound or len(bounds) == 1)


def _moment(typed: str) -> str:
    """A time, or a day, in UTC unless it says its zone, as the API takes times; what is none stays as it is."""
    found = TIME.fullmatch(typed)
    if found is None:
        return typed
    day, minute, second, zone = found.groups()
    return f"{day}T{minute or '00:00'}{second or ':00'}{zone or 'Z'}"


def _judged(text: str, given: Mapping[str, Any]) -> Search:
    try:
        query = ListQuery.model_validate(given)
        search.check(query.q or "")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        named = next((name for name, field in OURS.items() if field == first["loc"][0]), "words")
        named = "ended" if first["loc"][0] in ENDED else named
        return Search(text, (), None, f"{named}: {first['msg'].removeprefix('Value error, ')}")
    except InvalidValue as error:
        return Search(text, (), None, str(error).removeprefix("q: "))
    statuses = tuple(str(status) for status in query.status)
    return Search(text, statuses, query.filters(query.project_id), given=given, hint=_hint(query.q or ""))


def _hint(words: str) -> str | None:
    """What to say of words that look like a qualifier."""
    names = search.unknown(words)
    if not names:
        return None
    if names[0] == "payload":
        return "payload: was looked for as a word. A value in the payload has its place: payload.customer.id:42."
    close = get_close_matches(names[0], QUALIFIERS, 1)
    meant = f"Is {close[0]}: meant?" if close else f"There are {', '.join(f'{name}:' for name in QUALIFIERS)}."
    return f"There is no qualifier {names[0]}:, so it was looked for as a word. {meant}"
