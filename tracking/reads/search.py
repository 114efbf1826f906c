"""What somebody looks for in a list: words and qualifiers, as conditions that an index answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, TextClause, and_, any_, cast, false, literal, or_, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.types import Text

from tracking.errors import InvalidValue
from tracking.fingerprints import PATTERN
from tracking.models import Scope
from tracking.schema import jobs
from tracking.sql import listed, own
from tracking.states import ACTIVE, STATUS_WORDS, Status, status_of

LEAST_OF_ID = 8  # digits: what is shorter may well be a word
ID_DIGITS = re.compile(r"[0-9a-f-]+", re.ASCII | re.IGNORECASE)
ID_LENGTH = 32  # digits


def conditions(connection: Connection, scope: Scope, sought: str) -> list[ColumnElement[bool]]:
    """What a job has to fulfil, all of it. Raises InvalidValue for a status that there is none of.

    Qualifiers such as `type:export_report` or `error:"timed out"` come first or last or in between; what is left are
    words, which stand together in a job's type or error, in any case, or are the beginning of its id.
    """
    found = divided(connection, scope, sought)
    named = [jobs.c.job_type.in_(found.types)] if found.types else []
    words = [or_(*named, *found.places)] if found.has_words else []
    return [*found.qualified, *found.unindexed, *words]


def divided(connection: Connection, scope: Scope, sought: str) -> Divided:
    """The same in parts, each of which an index answers. Raises InvalidValue as well."""
    qualifiers, words = parsed(sought)
    qualified = [INDEXED[name](value) for name, value in qualifiers if name in INDEXED]
    unindexed = [_unindexed(name, value) for name, value in qualifiers if name not in INDEXED]
    named = [set(_statuses(value)) for name, value in qualifiers if name == "status"]
    statuses = set(Status).intersection(*named)
    if not words:
        return Divided(qualified, unindexed, statuses, [value for name, value in qualifiers if name == "type"], [])
    known = TYPES_EVERYWHERE if scope.is_everywhere else TYPES
    types = connection.execute(known, {**scope.parameters, "pattern": _pattern(words)}).scalars()
    digits = words.replace("-", "")
    begins = [_id_begins(words)] if len(digits) >= LEAST_OF_ID and ID_DIGITS.fullmatch(words) else []
    return Divided(qualified, unindexed, statuses, types.all(), [*begins, _words_of_error(words)])


@dataclass(frozen=True, slots=True)
class Divided:
    """What a job has to fulfil: all that is `qualified`, and, if there are words, one of the `places` or `types`.

    All that is `unindexed` as well: for that each row has to be looked at. Without words the types are those that the
    qualifiers name. `statuses`: those that the qualifiers leave.
    """

    qualified: list[ColumnElement[bool]]
    unindexed: list[ColumnElement[bool]]
    statuses: set[Status]
    types: Sequence[str]
    places: list[ColumnElement[bool]]

    @property
    def has_words(self) -> bool:
        return bool(self.places)


def parsed(sought: str) -> tuple[Sequence[tuple[str, str]], str]:
    """The qualifiers with their values, and the words; without a qualifier they are all of it, as it is.

    A value in quotes is never a group of errors, and words that are all in quotes are what is in them.
    """
    qualified = [
        (f"{found['name']}{WORDS if found['quoted'] and found['name'] == 'error' else ''}", _value(found))
        for found in QUALIFIED.finditer(sought)
    ]
    words = QUALIFIED.sub(" ", sought).strip() if qualified else sought
    quoted = QUOTED.fullmatch(words.strip())
    return qualified, quoted[1] if quoted else words


def check(sought: str) -> None:
    """Raises InvalidValue for a qualifier whose value makes no sense."""
    for name, value in parsed(sought)[0]:
        (INDEXED.get(name) or partial(_unindexed, name))(value)


def unknown(sought: str) -> Sequence[str]:
    """What looks like a qualifier, and is none: it is looked for as words."""
    rest = QUALIFIED.sub(" ", sought)
    return [found["name"] for found in SEEMS_QUALIFIED.finditer(rest) if not found["value"].startswith("//")]


def _value(found: re.Match[str]) -> str:
    return found["quoted"] or found["plain"]


def _error(value: str) -> ColumnElement[bool]:
    """Of a group of errors, by its fingerprint, or with these words in the error."""
    if re.fullmatch(PATTERN, value) is None:
        return _words_of_error(value)
    return and_(jobs.c.fingerprint == value, jobs.c.status.in_([literal(str(Status.FAILED), literal_execute=True)]))


def _words_of_error(words: str) -> ColumnElement[bool]:
    """In the type of an error, or in what it says."""
    pattern = _pattern(words)
    says, is_one = jobs.c.error_message.ilike(pattern), jobs.c.error_message.is_not(None)
    return or_(says, and_(is_one, jobs.c.error_type.ilike(pattern)))


def _message(words: str) -> ColumnElement[bool]:
    # Without an index: each report of a job would have to change it.
    return jobs.c.message.ilike(_pattern(words))


def _id_begins(digits: str) -> ColumnElement[bool]:
    given = digits.replace("-", "")
    if not ID_DIGITS.fullmatch(digits) or not 0 < len(given) <= ID_LENGTH:
        return false()
    return jobs.c.id.between(UUID(given.ljust(ID_LENGTH, "0")), UUID(given.ljust(ID_LENGTH, "f")))


def _status(words: str) -> ColumnElement[bool]:
    return jobs.c.status.in_([literal(str(status), literal_execute=True) for status in _statuses(words)])


def _statuses(words: str) -> list[Status]:
    try:
        return [status_of(word) for word in words.split(",")]
    except ValueError:
        raise InvalidValue(f"q: a status is one of {', '.join(STATUS_WORDS)}, not {words!r}") from None


def _pattern(words: str) -> str:
    """What contains the words, for ILIKE: each of their characters stands for itself."""
    return "%" + re.sub(r"([\\%_])", r"\\\1", words) + "%"


def _priority(said: str) -> ColumnElement[bool]:
    """One priority, several, or all above or below one."""
    found = PRIORITY.fullmatch(said)
    if found is None:
        raise InvalidValue(f"q: a priority is 0 to 9, several (7,8) or a bound (>=7), not {said!r}")
    if found["bound"] is None:
        return jobs.c.priority.in_([int(each) for each in found["several"].split(",")])
    number = int(found["number"])
    below, above = jobs.c.priority <= number, jobs.c.priority >= number
    return {"<=": below, ">=": above, "<": ~above, ">": ~below}[found["bound"]]


def _in_payload(path: str, said: str) -> ColumnElement[bool]:
    """This value, or a list with it, at a place in the payload: `customer.id`, `lines.0.sku`.

    What could be a number, true, false or null is looked for as such, and as text.
    """
    names = path.split(".")
    if not all(names):
        raise InvalidValue(f"q: payload.{path} is no place in a payload, such as payload.customer.id")
    place = jobs.c.payload.op("#>")(cast(names, ARRAY(Text)))
    values = [json.dumps(said), *([said] if SCALAR.fullmatch(said) else [])]
    # One condition: a list of alternatives would be estimated as if they had to do with each other.
    return place.op("@>", is_comparison=True)(any_(cast(cast(values, ARRAY(Text)), ARRAY(JSONB))))


def _unindexed(name: str, value: str) -> ColumnElement[bool]:
    place = name.removeprefix(PAYLOAD)
    return UNINDEXED[name](value) if place == name else _in_payload(place, value)


WORDS = " words"  # behind a qualifier whose value was in quotes
PAYLOAD = "payload."
PRIORITY = re.compile(r"(?P<several>[0-9](,[0-9])*)|(?P<bound>[<>]=?)(?P<number>[0-9])", re.ASCII)
SCALAR = re.compile(r"true|false|null|-?(0|[1-9][0-9]{0,99})(\.[0-9]{1,99})?", re.ASCII)
QUOTED = re.compile(r'"([^"]+)"')

INDEXED: Mapping[str, Callable[[str], ColumnElement[bool]]] = {
    "type": lambda value: jobs.c.job_type == value,
    "status": _status,
    "user": lambda value: jobs.c.user_id == value,
    "project": lambda value: jobs.c.project_id == value,
    "error": _error,
    f"error{WORDS}": _words_of_error,
    "id": _id_begins,
}
UNINDEXED: Mapping[str, Callable[[str], ColumnElement[bool]]] = {
    "queue": lambda value: jobs.c.queue == value,
    "worker": lambda value: jobs.c.worker == value,
    "priority": _priority,
    "message": _message,
}
QUALIFIERS = (*(name for name in (*INDEXED, *UNINDEXED) if not name.endswith(WORDS)), f"{PAYLOAD}path")
_NAMES = "|".join((*QUALIFIERS[:-1], r'payload\.[^\s:"]+'))
QUALIFIED = re.compile(rf'(?<!\S)(?P<name>{_NAMES}):(?:"(?P<quoted>[^"]+)"|(?P<plain>[^\s"]\S*))(?!\S)')
SEEMS_QUALIFIED = re.compile(r"(?<!\S)(?P<name>[a-z][\w.]*):(?P<value>[^\s\"]\S*)", re.ASCII)


# The types of what has finished, by one probe of an index for each, and of what is active.
def _types(of: str) -> TextClause:
    return text(
        f"""
    WITH RECURSIVE kinds AS (
        (SELECT job_type FROM jobs WHERE {of}completed_at IS NOT NULL ORDER BY job_type LIMIT 1)
        UNION ALL
        SELECT next.job_type FROM kinds CROSS JOIN LATERAL (
            SELECT job_type FROM jobs WHERE {of}completed_at IS NOT NULL AND jobs.job_type > kinds.job_type
            ORDER BY job_type LIMIT 1) AS next
    )
    SELECT job_type FROM kinds WHERE job_type ILIKE :pattern
    UNION
    SELECT job_type FROM jobs
    WHERE {of}status IN ({listed(ACTIVE)}) AND job_type ILIKE :pattern"""
    )


TYPES, TYPES_EVERYWHERE = _types(f"{own()} AND "), _types("")
