"""What somebody looks for in a list: words and qualifiers, as conditions that an index answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, TextClause, and_, false, literal, or_, text

from tracking.errors import InvalidValue
from tracking.models import Scope
from tracking.schema import jobs
from tracking.sql import listed
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
    return [*found.qualified, or_(*named, *found.places)] if found.has_words else found.qualified


def divided(connection: Connection, scope: Scope, sought: str) -> Divided:
    """The same in parts, each of which an index answers. Raises InvalidValue as well."""
    qualifiers, words = parsed(sought)
    qualified = [QUALIFIERS[name](value) for name, value in qualifiers]
    named = [set(_statuses(value)) for name, value in qualifiers if name == "status"]
    statuses = set(Status).intersection(*named)
    if not words:
        return Divided(qualified, statuses, [value for name, value in qualifiers if name == "type"], [])
    known = TYPES_EVERYWHERE if scope.is_everywhere else TYPES
    types = connection.execute(known, {**scope.parameters, "pattern": _pattern(words)}).scalars()
    digits = words.replace("-", "")
    begins = [_id_begins(words)] if len(digits) >= LEAST_OF_ID and ID_DIGITS.fullmatch(words) else []
    return Divided(qualified, statuses, types.all(), [*begins, _error(words)])


@dataclass(frozen=True, slots=True)
class Divided:
    """What a job has to fulfil: all that is `qualified`, and, if there are words, one of the `places` or `types`.

    Without words the types are those that the qualifiers name. `statuses`: those that the qualifiers leave.
    """

    qualified: list[ColumnElement[bool]]
    statuses: set[Status]
    types: Sequence[str]
    places: list[ColumnElement[bool]]

    @property
    def has_words(self) -> bool:
        return bool(self.places)


def parsed(sought: str) -> tuple[Sequence[tuple[str, str]], str]:
    """The qualifiers with their values, and the words; without a qualifier they are all of it, as it is."""
    qualified = [(found["name"], found["quoted"] or found["plain"]) for found in QUALIFIED.finditer(sought)]
    return qualified, QUALIFIED.sub(" ", sought).strip() if qualified else sought


def _error(words: str) -> ColumnElement[bool]:
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


QUALIFIERS: Mapping[str, Callable[[str], ColumnElement[bool]]] = {
    "type": lambda value: jobs.c.job_type == value,
    "status": _status,
    "user": lambda value: jobs.c.user_id == value,
    "project": lambda value: jobs.c.project_id == value,
    "worker": lambda value: jobs.c.worker == value,
    "error": _error,
    "message": _message,
    "id": _id_begins,
}
QUALIFIED = re.compile(rf'(?<!\S)(?P<name>{"|".join(QUALIFIERS)}):(?:"(?P<quoted>[^"]+)"|(?P<plain>[^\s"]\S*))(?!\S)')


# The types of all that has finished, by one probe of the index for each, and of what is active in the organization.
def _types(of: str) -> TextClause:
    return text(
        f"""
    WITH RECURSIVE kinds AS (
        (SELECT job_type FROM jobs WHERE completed_at IS NOT NULL ORDER BY job_type LIMIT 1)
        UNION ALL
        SELECT next.job_type FROM kinds CROSS JOIN LATERAL (
            SELECT job_type FROM jobs WHERE completed_at IS NOT NULL AND jobs.job_type > kinds.job_type
            ORDER BY job_type LIMIT 1) AS next
    )
    SELECT job_type FROM kinds WHERE job_type ILIKE :pattern
    UNION
    SELECT job_type FROM jobs
    WHERE {of}status IN ({listed(ACTIVE)}) AND job_type ILIKE :pattern"""
    )


TYPES, TYPES_EVERYWHERE = _types("organization_id = :organization_id AND "), _types("")
