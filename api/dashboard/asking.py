"""What the forms of the pages have in common: their texts as values, and what is wrong at which field."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import ValidationError

from api.problems import Problem, invalid_by, problem_of
from tracking.errors import TrackingError

REFUSED = (409, 412, 422, 429)  # what is said on the page, which keeps what was typed

Made = TypeVar("Made")


class NotUnderstood(ValueError):
    """A text that is not what its field takes."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class NotMade(Exception):
    """What a form asks for cannot be: `errors` by the names of its fields. `is_refused`: as things are now."""

    def __init__(self, errors: Mapping[str, str], *, is_refused: bool = False) -> None:
        super().__init__("; ".join(errors.values()))
        self.errors = errors
        self.is_refused = is_refused

    def kept(self, said: Mapping[str, str]) -> dict[str, str]:
        """What the form says again; what was refused is asked for anew then, with another key."""
        return {**said, "key": ""} if self.is_refused else {**said}


def made(make: Callable[[], Made], shown: Mapping[str, str]) -> Made:
    """What `make` makes; `shown`: see `wrong`. Raises NotMade for what the page is to say, and what else it raises."""
    try:
        return make()
    except NotUnderstood as error:
        raise NotMade({error.field: str(error)}) from error
    except ValidationError as error:
        raise NotMade(wrong(invalid_by(error, outer=False), shown)) from error
    except (Problem, TrackingError) as error:
        refused = problem_of(error)
        if refused.status_code not in REFUSED:
            raise
        raise NotMade(wrong(refused, shown), is_refused=True) from error


def json_of(said: Mapping[str, str], field: str) -> Any:
    """The JSON in a field. Raises NotUnderstood for what is none."""
    try:
        return json.loads(said.get(field) or "{}", parse_constant=_refuse)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise NotUnderstood(field, f"This is no JSON: {error.msg}, {where}.") from None
    except (ValueError, RecursionError) as error:
        raise NotUnderstood(field, str(error) or "This is too deep.") from None


def object_of(said: Mapping[str, str], field: str) -> dict[str, Any]:
    """The JSON object in a field, {} for an empty one. Raises NotUnderstood."""
    value = json_of(said, field)
    if not isinstance(value, dict):
        raise NotUnderstood(field, "This has to be an object: { … }.")
    return value


def whole(text: str | None) -> int | str | None:
    """The number of a field, None for an empty one; what is none stays as it is, to be refused where numbers are."""
    stripped = (text or "").strip()
    digits = stripped.removeprefix("-")
    return int(stripped) if digits.isascii() and digits.isdigit() and len(digits) < 19 else stripped or None  # noqa: PLR2004 - of 64 bits


def moment(text: str | None) -> str | None:
    """The time of a field, which browsers have without a zone: it is of UTC; None: it is empty."""
    if not text:
        return None
    if text.endswith(("Z", "z")) or "+" in text:
        return text
    return f"{text}:00Z" if len(text) == len("2026-01-31T12:00") else f"{text}Z"


def shown(at: datetime | None) -> str:
    """A time as its field shows it, in UTC; empty: none."""
    return "" if at is None else f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S}"


def wrong(problem: Problem, shown: Mapping[str, str]) -> dict[str, str]:
    """What is wrong, by the names of the fields that are `shown`; "" for what is wrong with none of them.

    `shown`: each field's name by its place in a request. An error further inside one is told at that one.
    """
    told: dict[str, str] = {}
    for error in problem.extra.get("errors") or [{"field": "", "message": problem.detail}]:
        place, message = str(error["field"]), str(error["message"])
        around = [name for name in shown if place == name or place.startswith(f"{name}.")]
        nearest = max(around, key=len, default=None)
        if nearest is None:
            told.setdefault("", f"{place}: {message}" if place else message)
            continue
        inside = place[len(nearest) :].removeprefix(".")
        told.setdefault(shown[nearest], f"{inside}: {message}" if inside else message)
    return told


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON.")
