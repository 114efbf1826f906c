"""Where a list of all organizations goes on that is by organization and name, as one text for a cursor."""

from __future__ import annotations

import re

from tracking.errors import InvalidValue

CURSOR = re.compile("([0-9]{1,3}):(.*)", re.DOTALL)


def cursor_of(organization_id: str, name: str) -> str:
    """The cursor behind this name; the length says where the organization ends, which may have any characters."""
    return f"{len(organization_id)}:{organization_id}{name}"


def place_of(cursor: str | None) -> tuple[str, str]:
    """The organization and the name of a cursor; without one, what is before all. Raises InvalidValue."""
    if cursor is None:
        return "", ""
    found = CURSOR.fullmatch(cursor)
    if found is None or int(found[1]) >= len(found[2]):
        raise InvalidValue("cursor is none that a list of all organizations has given")
    length = int(found[1])
    return found[2][:length], found[2][length:]
