"""What a database value becomes in a file: lossless, readable by everyone, and never a formula.

A spreadsheet runs a cell that begins with = + - @ (or what it reads as one of them), whoever wrote it. Such a text gets
an apostrophe in front, which makes it a text for spreadsheets too; so does what follows a separator or a line break
within a text, because a reader that expects another separator begins a new cell there. Numbers stay numbers.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from tracking.values import MAX_INTEGER

EXACT_DIGITS = 15  # all that Excel keeps of a number (Excel specifications and limits)
MAX_XLSX_TEXT = 32_767  # UTF-16 units in a cell (Excel specifications and limits)
FIRST_XLSX_YEAR = 1900


class CellTooLong(Exception):
    """A text does not fit in a cell of an xlsx file; csv and json take it."""


def neutral(text: str) -> str:
    """`text` with an apostrophe wherever a spreadsheet could begin to read a formula."""
    return _FORMULA_START.sub("'", text)


def csv_cell(value: Any) -> str:
    """A value as the text of a csv field; null is empty."""
    match value:
        case str():
            field = neutral(value)
        case None:
            field = ""
        case bool():
            field = str(value).lower()
        case int():
            field = str(value)
        case float() | Decimal() if _is_finite(value):
            field = format(value, "f") if isinstance(value, Decimal) else str(value)
        case timedelta():
            field = str(value.total_seconds())
        case _:
            field = neutral(_text(value))
    return field


def json_cell(value: Any) -> Any:
    """A value as JSON. A number that a double would change is text; a duration is in seconds."""
    cell: Any
    match value:
        case None | bool() | str():
            cell = value
        case int():
            cell = value if abs(value) <= MAX_INTEGER else str(value)
        case float() | Decimal() if _is_finite(value):
            cell = _exact(value) if isinstance(value, Decimal) else value
        case timedelta():
            cell = value.total_seconds()
        case Mapping():
            cell = {str(key): json_cell(item) for key, item in value.items()}
        case list() | tuple():
            cell = [json_cell(item) for item in value]
        case _:
            cell = _text(value)
    return cell


def xlsx_cell(value: Any) -> str | float | bool | datetime | date | None:
    """A value as an xlsx cell: number, boolean, date or time where Excel keeps it exactly, else text.

    Times with a zone become UTC without one: Excel has no zones. Raises CellTooLong.
    """
    cell: str | float | bool | date | None
    match value:
        case str():
            cell = _xlsx_text(value)
        case None | bool():
            cell = value
        case int():
            cell = value if abs(value) < 10**EXACT_DIGITS else str(value)
        case float() | Decimal() if _is_finite(value):
            cell = _exact(value) if isinstance(value, Decimal) else value
        case timedelta():
            cell = value.total_seconds()
        case datetime() if value.year >= FIRST_XLSX_YEAR:
            cell = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
        case date() if value.year >= FIRST_XLSX_YEAR:
            cell = value
        case _:
            cell = _xlsx_text(_text(value))
    return cell


def _is_finite(value: float | Decimal) -> bool:
    return value.is_finite() if isinstance(value, Decimal) else math.isfinite(value)


def _exact(value: Decimal) -> int | float | str:
    """The number itself if a double can hold it, else its text."""
    number = float(value)
    if abs(number) >= 10**EXACT_DIGITS or Decimal(repr(number)) != value:
        return format(value, "f")
    return int(number) if number.is_integer() else number


def _text(value: Any) -> str:
    match value:
        case datetime():
            moment = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
            text = moment.isoformat(timespec="milliseconds") + ("Z" if value.tzinfo else "")
        case date() | time():
            text = value.isoformat()
        case float() | Decimal():  # those that are not finite
            text = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(float(value))]
        case bytes():
            text = base64.b64encode(value).decode()
        case Mapping() | list() | tuple():
            text = json.dumps(json_cell(value), ensure_ascii=False)
        case _:
            text = str(value)
    return text


def _xlsx_text(text: str) -> str:
    if len(text) > MAX_XLSX_TEXT // 2 and len(text.encode("utf-16-le")) // 2 > MAX_XLSX_TEXT:
        raise CellTooLong(f"a text of {len(text)} characters does not fit in an xlsx cell; export csv or json instead")
    text = text.translate(_NOT_IN_XML)
    # XlsxWriter takes a text between these tags for markup of its own, and writes it without escaping it.
    return f"'{text}" if text.startswith("<r>") else neutral(text)


_NOT_IN_XML = dict.fromkeys((0xFFFE, 0xFFFF), "\N{REPLACEMENT CHARACTER}")  # XML 1.0, 2.2; Excel refuses the file

# = + - @, their full-width and small forms, and the minus sign, which spreadsheets of some languages read alike
_SIGNS = r"=+\-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b\u2212"
_SEPARATORS = r",;|\t\r\n"
# What may stand before the sign: spaces of all kinds, control and invisible characters, a quote. No separator, so that
# the search stays linear in the length of the text.
_IGNORED = r" \"\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x85\xa0\u1680\u2000-\u200f\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
_FORMULA_START = re.compile(rf"^(?=[\t\r\n]|[{_IGNORED}]*[{_SIGNS}])|(?<=[{_SEPARATORS}])(?=[{_IGNORED}]*[{_SIGNS}])")
