"""What a value of the database becomes in a file: every digit and character of it, and never a formula.

A value that has no type of its own here is a text already: what PostgreSQL itself writes for it.
"""

from __future__ import annotations

import base64
import json
import math
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from tasks.exports.formulas import neutral
from tracking.values import MAX_INTEGER

EXACT_DIGITS = 15  # all that Excel keeps of a number that it is given in digits (Excel specifications and limits)
SMALLEST, LARGEST = 1e-307, 1e307  # of what Excel takes for a number, rounded inwards (the same)
MAX_XLSX_TEXT = 32_767  # UTF-16 units in a cell (the same)
FIRST_XLSX_DAY = date(1900, 3, 1)  # Excel has a 29 February 1900, so that programs disagree on the days before
MAX_JSON_BRACKETS = 500  # a json value with more of them may be nested too deep for the parser of a reader


class CellTooLong(Exception):
    """A text does not fit in a cell of an xlsx file; csv and json take it."""


class Json(str):
    """A json value as PostgreSQL writes it."""

    __slots__ = ()


def csv_cell(value: Any) -> str | None:
    """A value as the text of a csv field, which no spreadsheet takes for a formula; None for null."""
    text = text_cell(value)
    return text if text is None or isinstance(value, bool | int | float | Decimal) else neutral(text)


def text_cell(value: Any) -> str | None:
    """A value as text with all its digits; None for null."""
    match value:
        case None:
            text = None
        case bool():
            text = str(value).lower()
        case int():
            text = str(value)
        case float() | Decimal():
            text = _digits(value)
        case _:
            text = _text(value)
    return text


def exact_cell(value: Any) -> Any:
    """The value itself, for a format whose columns have types; a json value is PostgreSQL's text."""
    return str(value) if isinstance(value, str) else value


def json_cell(value: Any) -> Any:
    """A value as JSON. A number that a double would change is text, also within a json value."""
    cell: Any
    match value:
        case Json():
            cell = _parsed(value)
        case None | bool() | str() | dict() | list():
            cell = value
        case int():
            cell = value if abs(value) <= MAX_INTEGER else str(value)
        case float() if math.isfinite(value):
            cell = value
        case Decimal() if value.is_finite():
            cell = _number(format(value, "f"))
        case float() | Decimal():
            cell = _digits(value)
        case _:
            cell = _text(value)
    return cell


def xlsx_cell(value: Any) -> str | float | bool | datetime | date | None:
    """A value as an xlsx cell: number, boolean, date or time where Excel keeps it, else text. Raises CellTooLong.

    Times with a zone become UTC without one, and lose what is less than a millisecond: Excel has neither.
    """
    cell: str | float | bool | date | None
    match value:
        case None | bool():
            cell = value
        case int() | Decimal():
            cell = _xlsx_number(value)
        case float() if math.isfinite(value):
            cell = value if value == 0 or SMALLEST <= abs(value) <= LARGEST else str(value)
        case float():
            cell = _digits(value)
        case datetime() if value.date() >= FIRST_XLSX_DAY:
            moment = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
            cell = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
        case date() if not isinstance(value, datetime) and value >= FIRST_XLSX_DAY:
            cell = value
        case _:
            cell = _fitting(_text(value))
    return cell


def _digits(value: float | Decimal) -> str:
    if value.is_finite() if isinstance(value, Decimal) else math.isfinite(value):
        return format(value, "f") if isinstance(value, Decimal) else str(value)
    return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(float(value))]


def _text(value: Any) -> str:
    match value:
        case datetime():
            moment = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
            precision = "microseconds" if moment.microsecond % 1000 else "milliseconds"
            text = moment.isoformat(timespec=precision) + ("Z" if value.tzinfo else "")
        case date():
            text = value.isoformat()
        case bytes():
            text = base64.b64encode(value).decode()
        case dict() | list():  # of a json file that is read back
            text = json.dumps(value, ensure_ascii=False)
        case _:
            text = str(value)
    return text


def _number(digits: str) -> int | float | str:
    """The number that these digits are if a double holds it, else the digits."""
    number = float(digits)
    if abs(number) > MAX_INTEGER or not _is_exact(number, digits):
        return digits
    return int(number) if number.is_integer() else number


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= len(str(-MAX_INTEGER)) and abs(int(digits)) <= MAX_INTEGER else digits


def _fraction(digits: str) -> float | str:
    number = float(digits)
    return number if _is_exact(number, digits) else digits


def _is_exact(number: float, digits: str) -> bool:
    """Whether this double is the number that the digits say, so that its shortest form is theirs."""
    try:
        return math.isfinite(number) and Decimal(repr(number)) == Decimal(digits)
    except ArithmeticError:  # an exponent beyond even those of Decimal
        return False


def _parsed(text: Json) -> Any:
    """The json value; its text when no reader could give it back: a key twice, too deep, half a character."""
    if text.count("[") + text.count("{") > MAX_JSON_BRACKETS:
        return str(text)
    try:
        value = _DECODER.decode(text)
        json.dumps(value, ensure_ascii=False).encode()
    except (_KeyTwice, UnicodeEncodeError):
        return str(text)
    return value


class _KeyTwice(Exception):
    """An object of the type json has this key several times; a reader would keep one of the values."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise _KeyTwice
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_fraction)


def _xlsx_number(value: int | Decimal) -> int | float | str:
    digits = str(value) if isinstance(value, int) else _digits(value)
    significant = digits.lstrip("-").replace(".", "").strip("0")
    number = float(digits)
    if len(significant) > EXACT_DIGITS or not abs(number) < 10**EXACT_DIGITS or 0 < abs(number) < SMALLEST:
        return digits
    if number == 0 and significant:
        return digits
    return int(number) if number.is_integer() else number


def _fitting(text: str) -> str:
    if len(text) > MAX_XLSX_TEXT // 2 and len(text.encode("utf-16-le")) // 2 > MAX_XLSX_TEXT:
        raise CellTooLong(f"{len(text):,} characters do not fit in an xlsx cell; export csv or json instead")
    return text
