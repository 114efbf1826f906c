"""What is typed into the search: words, and qualifiers such as `status:failed type:sync`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from api.schemas.requests import ListQuery
from tracking.reads.answers import Filters

PAGE_SIZE = 25
LONGEST = 500  # characters
TOKEN = re.compile(r'(?:(\w+):)?("[^"]*"|\S+)')
QUALIFIERS = {
    "status": "status",
    "type": "jobType",
    "user": "userId",
    "project": "projectId",
    "id": "ids",
    "from": "createdFrom",
    "to": "createdTo",
}
LISTS = ("status", "ids")


@dataclass(frozen=True, slots=True)
class Search:
    """A search that was understood; `why_not`: what could not be, and then nothing is found."""

    text: str
    statuses: tuple[str, ...]
    filters: Filters | None
    why_not: str | None = None
    given: Mapping[str, Any] = field(default_factory=dict)  # the same as the API takes it

    def with_status(self, status: str) -> str:
        """The same search for another status; for the same one, without it."""
        rest = " ".join(match[0] for match in TOKEN.finditer(self.text) if match[1] != "status")
        return rest if self.statuses == (status,) else f"status:{status} {rest}".strip()


def understood(text: str) -> Search:
    """A search by what was typed. Qualifiers of the same name add up; what is no qualifier is looked for as it is."""
    given: dict[str, Any] = {}
    words = []
    for qualifier, value in ((match[1], match[2]) for match in TOKEN.finditer(text[:LONGEST])):
        name = QUALIFIERS.get(qualifier or "")
        if name is None:
            words.append(f"{qualifier}:{value}" if qualifier else value.strip('"'))
        elif name in LISTS:
            given.setdefault(name, []).append(value.strip('"'))
        else:
            given[name] = value.strip('"')
    if words:
        given["q"] = " ".join(words)
    return _judged(text[:LONGEST].strip(), given)


def _judged(text: str, given: Mapping[str, Any]) -> Search:
    try:
        query = ListQuery.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        named = next((name for name, field in QUALIFIERS.items() if field == first["loc"][0]), "words")
        return Search(text, (), None, f"{named}: {first['msg'].removeprefix('Value error, ')}")
    return Search(text, tuple(str(status) for status in query.status), query.filters(query.project_id), given=given)
