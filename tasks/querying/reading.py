"""Files as people have them (any encoding, compressed, ragged) become one of rows that a database reads without doubt.

Runs in the process of the query. Every value becomes a text, null or not; its type is found when all are there.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

Row = Sequence[str | None]

GZIP = b"\x1f\x8b"
LISTED_ROWS = 20  # of those that are left out
LONGEST_CELL = 64 * 1024 * 1024  # characters
MOST_COLUMNS = 2000
MOST_DIGITS = 4000  # of an integer in what is nested: Python takes no more than 4,300
DELIMITERS = ",;\t|"
SAMPLE = 64 * 1024  # characters of the first line that are looked at for its delimiter
# The longest first: that of UTF-32 begins with that of UTF-16.
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class Unreadable(Exception):
    """The file cannot be read as what it was said to be."""


@dataclass(slots=True)
class Found:
    """What was read of a source: `ragged` are the first rows that were left out, `texts` columns that stay texts."""

    columns: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    texts: set[int] = field(default_factory=set)
    rows: int = 0
    ragged_rows: int = 0
    ragged: list[dict[str, int]] = field(default_factory=list)
    longest: int = 0
    encoding: str | None = None


def normalize(source: dict[str, Any], target: Path, restore: Callable[[str], str] | None) -> Found:
    """Write the rows of a csv or JSON lines file to `target`: UTF-8, every value quoted, null not.

    `restore` gives back what a text was before it was written to an export. Raises Unreadable, in words for people.
    """
    found = Found()
    with _opened(Path(source["path"]), source, found) as file, target.open("w", encoding="utf-8", newline="") as out:
        rows = _csv_rows(file, source, found, restore) if source["kind"] == "csv" else _json_rows(file, found)
        try:
            for row in rows:
                line = ",".join("" if value is None else '"' + value.replace('"', '""') + '"' for value in row)
                found.longest = max(found.longest, 4 * len(line))
                found.rows += 1
                out.write(line + "\n")
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            raise Unreadable(
                f"near line {found.rows + found.ragged_rows + 1} is a byte 0x{byte:02x}, which is not {found.encoding};"
                " declare the file's encoding, such as latin-1"
            ) from None
        except UnicodeEncodeError:
            raise Unreadable("a text holds half a character (a lone surrogate)") from None
        except UnicodeError as error:  # of the codecs that are made for names of hosts, such as punycode
            place = found.rows + found.ragged_rows + 1
            raise Unreadable(f"near line {place} is no {found.encoding}: {error}") from None
        except csv.Error as error:
            raise Unreadable(f"near line {found.rows + found.ragged_rows + 1}: {error}") from None
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise Unreadable("the compressed file is damaged, or cut off") from None
    return found


def _opened(path: Path, source: dict[str, Any], found: Found) -> TextIO:
    stored: BinaryIO = path.open("rb")
    if stored.read(2) == GZIP:
        stored.seek(0)
        stored = cast("BinaryIO", io.BufferedReader(gzip.GzipFile(fileobj=stored)))
    else:
        stored.seek(0)
    try:
        beginning = cast("io.BufferedReader", stored).peek(4)[:4]
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise Unreadable("the compressed file is damaged, or cut off") from None
    marked = next((encoding for mark, encoding in MARKS if beginning.startswith(mark)), None)
    found.encoding = marked or source.get("encoding") or "utf-8"
    return io.TextIOWrapper(stored, encoding=found.encoding, newline="")


def _csv_rows(
    file: TextIO, source: dict[str, Any], found: Found, restore: Callable[[str], str] | None
) -> Iterator[Row]:
    csv.field_size_limit(LONGEST_CELL)
    lines = _lines(file)
    first = next(lines, None)
    if first is None:
        raise Unreadable("the file is empty: it has no line of column names")
    delimiter = source.get("delimiter") or _delimiter(first)
    reader = csv.reader(_chain(first, lines), delimiter=delimiter, strict=True)
    rows: Iterator[list[str]] = (row for row in reader if row)  # an empty line is no row
    header = next(rows, None)
    if header is None:
        raise Unreadable("the file has nothing but empty lines")
    give_back = restore or (lambda text: text)
    if source.get("header", True):
        _name([give_back(name) for name in header], found)
    else:
        _name([""] * len(header), found)
        rows = _chain(header, rows)
    width = len(found.columns)
    for row in rows:
        if len(row) == width:
            yield [give_back(value) if value else None for value in row]
        else:
            _leave_out(found, reader.line_num, len(row), source)


def _leave_out(found: Found, line: int, fields: int, source: dict[str, Any]) -> None:
    if source.get("ragged") == "fail":
        raise Unreadable(f"the row that ends on line {line} has {fields} fields instead of {len(found.columns)}")
    found.ragged_rows += 1
    if len(found.ragged) < LISTED_ROWS:
        found.ragged.append({"line": line, "fields": fields})


def _lines(file: TextIO) -> Iterator[str]:
    for line in file:
        if "\x00" in line:
            raise Unreadable("the file holds a NUL character; is it text, in the encoding that was declared?")
        yield line


def _chain(first: Any, following: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from following


def _delimiter(line: str) -> str:
    """The one that the first line has most often outside of quotes; a comma when it has none."""
    outside = "".join(line[:SAMPLE].split('"')[::2])
    return max(DELIMITERS, key=outside.count)


def _name(names: Sequence[str], found: Found) -> None:
    """Columns by their names; one that is empty or there already, also in another case, gets another one."""
    if len(names) > MOST_COLUMNS:
        raise Unreadable(f"the file has {len(names)} columns; {MOST_COLUMNS} are read at most")
    taken: set[str] = set()
    for number, given in enumerate(names, start=1):
        wanted = given.strip() or f"column{number}"
        name, again = wanted, 1
        while name.lower() in taken:
            again += 1
            name = f"{wanted}_{again}"
        taken.add(name.lower())
        found.columns.append(name)
        if name != given and given.strip():
            found.renamed[name] = given


def _json_rows(file: TextIO, found: Found) -> Iterator[Row]:
    """Objects, one a line; an array of them with one a line, as exports are, as well. Their keys may differ."""
    records = _records(file)
    places: dict[str, int] = {}
    for number, record in records:
        for key, value in record.items():
            if key not in places:
                places[key] = len(places)
            if isinstance(value, str | dict | list):
                found.texts.add(places[key])
        if len(places) > MOST_COLUMNS:
            raise Unreadable(f"line {number} brings more than {MOST_COLUMNS} different keys")
        yield [_plain(record.get(key)) for key in places]
    _name(list(places), found)
    if not places:
        raise Unreadable("the file has no records")


def _records(file: TextIO) -> Iterator[tuple[int, dict[str, Any]]]:
    """The records with the numbers of their lines."""
    for number, line in enumerate(_lines(file), start=1):
        text = line.strip().rstrip(",")
        if text in ("", "[", "]", "[]"):
            continue
        try:
            record = _DECODER.decode(text)
        except _Repeated as error:
            raise Unreadable(f"line {number} has the key {str(error)[:100]!r} twice") from None
        except (ValueError, RecursionError):
            raise Unreadable(f"line {number} is not JSON") from None
        if not isinstance(record, dict):
            raise Unreadable(f"line {number} is no object")
        yield number, record


class _Number:
    """A number, with the digits that it was written with."""

    def __init__(self, digits: str) -> None:
        self.digits = digits


class _Repeated(Exception):
    """An object has this key twice, and one of the values would be lost."""


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Repeated(next(key for number, (key, _) in enumerate(pairs) if key in dict(pairs[:number])))
    return found


_DECODER = json.JSONDecoder(
    object_pairs_hook=_each_once, parse_int=_Number, parse_float=_Number, parse_constant=_Number
)


def _plain(value: Any) -> str | None:
    match value:
        case None | str():
            return value
        case bool():
            return "true" if value else "false"
        case _Number():
            return value.digits
        case _:
            return json.dumps(value, ensure_ascii=False, default=_verbatim)


def _verbatim(value: Any) -> Any:
    """A number within a list or an object: exact as an integer, else as json has it, or a text where that has none."""
    digits = value.digits
    if digits.lstrip("-").isdigit():
        return int(digits) if len(digits) <= MOST_DIGITS else digits
    return number if math.isfinite(number := float(digits)) else digits
