"""The process of a query: it takes its limits, reads the sources, shuts every door, and runs one SELECT.

The request is a line of JSON on the standard input, the answers are lines of JSON on the standard output. When the
input ends the parent has gone, and so does this process.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb

from tasks.exports.cells import CellTooLong, Json, json_cell, text_cell
from tasks.exports.formats import FORMATS
from tasks.exports.formulas import original
from tasks.exports.writing import FileTooLarge
from tasks.querying.reading import Found, Unreadable, normalize

SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG, prctl(2)
NEW_NETWORK, NEW_USER = 0x40000000, 0x10000000  # CLONE_NEWNET, CLONE_NEWUSER, unshare(2)
MEGABYTE = 1024 * 1024
BESIDE = 768 * MEGABYTE  # of memory for Python, its libraries and the writer of the result
OPEN_FILES = 256
BATCH = 1000  # rows
LONGEST_MESSAGE = 500
MICROSECONDS = 6  # digits
MOST_DIGITS, SHORT_DIGITS = 38, 18  # of a decimal; the shorter ones are the faster

# What a text has to look like in every row for its column to be more than text, and to keep each of its characters.
SHAPES = {
    "BOOLEAN": "true|false",
    "BIGINT": "-?(0|[1-9][0-9]{0,17})",
    "DECIMAL": r"-?(0|[1-9][0-9]{0,37})(\.[0-9]{1,37})?",
    "DOUBLE": r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?",
    "DATE": "[0-9]{4}-[0-9]{2}-[0-9]{2}",
    "TIMESTAMP": r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?",
    "TIMESTAMPTZ": r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?"
    "(Z|[+-][0-9]{2}(:?[0-9]{2})?)",
}
# By the names that the writers know (PostgreSQL's).
WRITTEN = {
    "BOOLEAN": "bool",
    "TINYINT": "int2",
    "UTINYINT": "int2",
    "SMALLINT": "int2",
    "USMALLINT": "int4",
    "INTEGER": "int4",
    "UINTEGER": "int8",
    "BIGINT": "int8",
    "FLOAT": "float4",
    "DOUBLE": "float8",
    "DATE": "date",
    "TIMESTAMP": "timestamp",
    "TIMESTAMP_S": "timestamp",
    "TIMESTAMP_MS": "timestamp",
    "TIMESTAMP_NS": "timestamp",
    "TIMESTAMP WITH TIME ZONE": "timestamptz",
    "UBIGINT": "numeric",
    "HUGEINT": "numeric",
    "UHUGEINT": "numeric",
    "BLOB": "bytea",
}


def _of_nanoseconds(text: str) -> datetime:
    """The time of a text. Raises ValueError for one between two microseconds, which Python does not have."""
    if text.partition(".")[2][MICROSECONDS:].strip("0"):
        raise ValueError
    return datetime.fromisoformat(text)


# Read from their texts: for Python the end of all times is the last day of the year 9999.
TIMES: dict[str, Callable[[str], date]] = {
    "DATE": date.fromisoformat,
    **dict.fromkeys(("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP WITH TIME ZONE"), datetime.fromisoformat),
    "TIMESTAMP_NS": _of_nanoseconds,
}
# By the names of the database. Integers of more than 64 bits, as a sum of integers is one, are decimals to the writers.
MEANINGS: dict[str, Callable[[Any], Any]] = {**TIMES, **dict.fromkeys(("UBIGINT", "HUGEINT", "UHUGEINT"), Decimal)}
ENDS = (date.min, date.max, datetime.min, datetime.max)  # noqa: DTZ901 - as the database gives times without end


class Refused(Exception):
    """The query is not one that is run, or the result cannot be written."""


def main() -> None:
    """Answer one request."""
    sys.stdout = os.fdopen(os.dup(1), "w")  # for answers alone: a library that prints something does it elsewhere
    os.dup2(2, 1)
    request = json.loads(sys.stdin.readline())
    _depend_on(request["parent"])
    _limit(request)
    try:
        answer = _run(request)
    except (Unreadable, Refused, CellTooLong, FileTooLarge) as error:
        answer = {"refused": str(error) or str(type(error).__doc__)}
    except (MemoryError, duckdb.OutOfMemoryException):
        answer = {"refused": f"it needs more than {request['memory']} MB of memory, or of disk to put rows aside"}
    except duckdb.Error as error:
        answer = {"refused": str(error).split("\n\nLINE")[0][:LONGEST_MESSAGE]}
    except OSError as error:
        answer = {"refused": f"it needs more than {request['disk']} MB of disk: {error.strerror}"}
    _tell(answer)
    os._exit(0)  # threads of the database need not be waited for


def _depend_on(parent: int) -> None:
    """End with the parent: by the kernel's word where there is one, and by the end of the input everywhere."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        # A network without interfaces, where the kernel lets us; the database is told not to use any in any case.
        unshare = ctypes.CDLL(None).unshare
        if unshare(NEW_NETWORK) != 0:
            unshare(NEW_USER | NEW_NETWORK)

    def watch() -> None:
        sys.stdin.read()
        os._exit(1)

    threading.Thread(target=watch, name="watch", daemon=True).start()


def _limit(request: dict[str, Any]) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # an error of the write then
    _lower(resource.RLIMIT_DATA, request["memory"] * MEGABYTE + BESIDE)
    _lower(resource.RLIMIT_FSIZE, request["disk"] * MEGABYTE)
    _lower(resource.RLIMIT_CPU, request["seconds"] * (request["threads"] + 1))
    _lower(resource.RLIMIT_NOFILE, OPEN_FILES)
    _lower(resource.RLIMIT_CORE, 0)


def _lower(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, most))


def _run(request: dict[str, Any]) -> dict[str, Any]:
    directory = Path(request["directory"])
    config = {
        "memory_limit": f"{request['memory']}MB",
        "threads": request["threads"],
        "temp_directory": str(directory / "spill"),
        "max_temp_directory_size": f"{request['disk']}MB",
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_community_extensions": False,
        "preserve_insertion_order": True,
    }
    database = duckdb.connect(str(directory / "query.duckdb"), config=config)
    database.execute("SET enable_progress_bar = false")
    database.execute("SET python_enable_replacements = false")
    database.execute("SET TimeZone = 'UTC'")
    statements = _statement(database, request["sql"])
    read = []
    for number, source in enumerate(request["sources"]):
        _tell({"message": f"Reading {source['table']}", "share": number / len(request["sources"])})
        read.append(_load(database, directory, source, number))
    _shut(database)
    _tell({"message": "Running the query", "share": 1.0})
    written = _write(database, statements, directory, request)
    return {"done": {"rows": written, "sources": read}}


def _statement(database: duckdb.DuckDBPyConnection, sql: str) -> Any:
    """The one SELECT of the query."""
    statements = database.extract_statements(sql)
    if len(statements) != 1:
        raise Refused(f"a query is one statement, and these are {len(statements)}")
    if statements[0].type != duckdb.StatementType.SELECT:
        raise Refused(f"a query is a SELECT, and this is {statements[0].type.name}")
    return statements[0]


def _shut(database: duckdb.DuckDBPyConnection) -> None:
    """No file, no network, no extension from here on, and no way to change that."""
    database.execute("SET enable_external_access = false")
    database.execute("SET lock_configuration = true")


def _load(database: duckdb.DuckDBPyConnection, directory: Path, source: dict[str, Any], number: int) -> dict[str, Any]:
    kept, table = f"kept_{number}", source["table"]
    try:
        if source["kind"] == "parquet":
            return _load_parquet(database, source)
        target = directory / f"{kept}.csv"
        found = normalize(source, target, original if source.get("is_export") and source["kind"] == "csv" else None)
        try:
            types = _load_rows(database, kept, target, found, source)
        finally:
            target.unlink(missing_ok=True)
    except Unreadable as error:
        raise Unreadable(f"{table}: {error}") from None
    columns = ", ".join(
        f"CAST({_name(name)} AS {kind}) AS {_name(name)}" for name, kind in zip(found.columns, types, strict=True)
    )
    database.execute(f"CREATE VIEW {_name(table)} AS SELECT {columns} FROM {kept}")
    return {
        "table": table,
        "rows": found.rows,
        "raggedRows": found.ragged_rows,
        "ragged": found.ragged,
        "encoding": found.encoding,
        "columns": dict(zip(found.columns, types, strict=True)),
        "renamed": found.renamed,
    }


def _load_parquet(database: duckdb.DuckDBPyConnection, source: dict[str, Any]) -> dict[str, Any]:
    table = source["table"]
    try:
        database.execute(f"CREATE TABLE {_name(table)} AS SELECT * FROM read_parquet(?)", [source["path"]])
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error:  # of any kind: a damaged footer alone has three; its words name our directory
        raise Unreadable("it is no Parquet file, or one that is damaged or encrypted") from None
    described = database.execute(f"DESCRIBE {_name(table)}").fetchall()
    (rows,) = database.execute(f"SELECT count(*) FROM {_name(table)}").fetchall()[0]
    columns = {str(name): str(kind) for name, kind, *_ in described}
    return {"table": table, "rows": rows, "raggedRows": 0, "ragged": [], "columns": columns, "renamed": {}}


def _load_rows(
    database: duckdb.DuckDBPyConnection, kept: str, target: Path, found: Found, source: dict[str, Any]
) -> list[str]:
    """Take the rows in as texts; the type of each column."""
    names = ", ".join(f"'c{place}': 'VARCHAR'" for place in range(len(found.columns)))
    columns = ", ".join(f"c{place} AS {_name(name)}" for place, name in enumerate(found.columns))
    database.execute(
        f"CREATE TABLE {kept} AS SELECT {columns} FROM read_csv("
        f"?, columns = {{{names}}}, auto_detect = false, header = false,"
        " delim = ',', quote = '\"', escape = '\"', nullstr = '', allow_quoted_nulls = false, new_line = '\\n',"
        " parallel = false, null_padding = true, strict_mode = true,"
        f" max_line_size = {found.longest + 1024}, buffer_size = {max(4 * MEGABYTE, 2 * found.longest + 2048)})",
        [str(target)],
    )
    declared: dict[str, str] = source.get("types") or {}
    unknown = sorted(declared.keys() - set(found.columns))
    if unknown:
        raise Unreadable(f"there is no column {unknown[0]!r}; it has {', '.join(found.columns[:50])}")
    return [
        declared.get(name) or ("VARCHAR" if place in found.texts else _type(database, kept, _name(name)))
        for place, name in enumerate(found.columns)
    ]


def _type(database: duckdb.DuckDBPyConnection, kept: str, column: str) -> str:
    """The type in which every value of a column keeps all that it says, leading zeros and last digits too."""
    shapes = ", ".join(f"bool_and(regexp_full_match({column}, '{shape}'))" for shape in SHAPES.values())
    digits = f"max(length(ltrim(split_part({column}, '.', 1), '-'))), max(length(split_part({column}, '.', 2)))"
    row = database.execute(f"SELECT {shapes}, {digits} FROM {kept}").fetchall()[0]
    fits = dict(zip(SHAPES, row, strict=False))
    whole, fraction = row[len(SHAPES) :]
    if fits["DECIMAL"] and not fits["BIGINT"] and whole + fraction <= MOST_DIGITS:
        return f"DECIMAL({SHORT_DIGITS if whole + fraction <= SHORT_DIGITS else MOST_DIGITS}, {fraction})"
    for kind in ("BOOLEAN", "BIGINT", "DOUBLE", "DATE", "TIMESTAMP", "TIMESTAMPTZ"):
        if fits[kind] and not (kind == "DOUBLE" and fits["DECIMAL"]) and _can_be(database, kept, column, kind):
            return kind
    return "VARCHAR"


def _can_be(database: duckdb.DuckDBPyConnection, kept: str, column: str, kind: str) -> bool:
    """Whether each text is such a value: 2026-02-30 looks like a day and is none."""
    lost = f"TRY_CAST({column} AS {kind}) IS NULL"
    if kind == "DOUBLE":  # 1e999 is none, nor is 1e-999, which is not nothing
        mantissa = f"split_part(lower({column}), 'e', 1)"
        lost += f" OR isinf(CAST({column} AS DOUBLE))"
        lost += f" OR CAST({column} AS DOUBLE) = 0 AND regexp_matches({mantissa}, '[1-9]')"
    counted = f"count(*) FILTER (WHERE {column} IS NOT NULL AND ({lost}))"
    return bool(database.execute(f"SELECT {counted} = 0 FROM {kept}").fetchall()[0][0])


def _write(database: duckdb.DuckDBPyConnection, statement: Any, directory: Path, request: dict[str, Any]) -> int:
    """Write the rows of the result as they come; how many they are."""
    described = database.execute(f"DESCRIBE {statement.query}").fetchall()
    columns, kinds = [str(column[0]) for column in described], [str(column[1]) for column in described]
    repeated = sorted({name for name in columns if columns.count(name) > 1})
    if repeated:
        raise Refused(f"the query has several columns named {', '.join(repeated)}; name them with AS")
    types = [_written(kind) for kind in kinds]
    meanings = [MEANINGS.get(kind, _as_it_is) for kind in kinds]
    result = database.execute(_with_texts(statement.query, columns, kinds))
    form = FORMATS[request["format"]]
    written = 0
    with Path(request["output"]).open("r+b") as file:
        file.truncate()
        with contextlib.closing(form.writer(file, columns, directory, types)) as writer:
            for rows in _fetched(result):
                writer.write([list(map(form.cell, map(_value, meanings, row))) for row in rows])
                written += len(rows)
                _tell({"message": f"{written:,} rows written", "share": 1.0})
            writer.finish()
        file.flush()
        os.fsync(file.fileno())
    return written


def _with_texts(sql: str, columns: Sequence[str], kinds: Sequence[str]) -> str:
    """The query with its dates, times and intervals as texts."""
    selected = [
        f"CAST({name} AS VARCHAR) AS {name}" if kind in TIMES or kind == "INTERVAL" else name
        for name, kind in zip(map(_name, columns), kinds, strict=True)
    ]
    # A comment may be at the end of the query.
    return f"SELECT {', '.join(selected)} FROM ({sql.rstrip().removesuffix(';')}\n) AS result"


def _as_it_is(value: Any) -> Any:
    """A value, or the JSON of what is nested, whatever its type is called."""
    return Json(json.dumps(_plain(value), ensure_ascii=False)) if isinstance(value, dict | list | tuple) else value


def _plain(value: Any) -> Any:
    """What is nested, as JSON has it. Raises Refused for a time of which Python does not know whether it has an end."""
    if isinstance(value, dict):
        return {text_cell(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if (value.replace(tzinfo=None) if isinstance(value, datetime) else value) in ENDS:
        raise Refused("a list or a structure has a time without end, or at an end of the years 1 to 9999: make it text")
    return json_cell(value)


def _value(meaning: Callable[[Any], Any], value: Any) -> Any:
    """A value where that loses nothing, else its text: of a time without end, or in a year that is none in Python."""
    try:
        return None if value is None else meaning(value)
    except ValueError:
        return value


def _fetched(result: duckdb.DuckDBPyConnection) -> Iterator[Sequence[Sequence[Any]]]:
    while rows := result.fetchmany(BATCH):
        yield rows


def _written(kind: str) -> str:
    declared = re.fullmatch(r"DECIMAL\((\d+),\s*(\d+)\)", kind)
    return f"numeric({declared[1]},{declared[2]})" if declared else WRITTEN.get(kind, "text")


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _tell(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
