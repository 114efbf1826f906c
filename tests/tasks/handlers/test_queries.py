"""data_processing with SQL: files as people have them, and every value exact."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow.parquet as pq  # type: ignore[import-untyped]  # as above
import pytest
from pydantic import ValidationError

from tasks import app
from tasks.exports.files import ExportNotFound
from tasks.exports.keeping import upload_store
from tasks.handlers.data_processing import ProcessData, data_processing
from tasks.handlers.sources import SourceNotFound
from tasks.querying.running import QueryFailed
from tests.exporting import add_export, content, everything_in, file_of
from tests.handling import call
from tests.querying import ask, own_files, rows, typed
from tracking import uploads
from tracking.db import Database
from tracking.models import Owner
from tracking.origins import By
from tracking.uploads import NewFile


@pytest.fixture
def place(database_url: str, tmp_path: Path) -> Iterator[Path]:
    """The directory of exports; `acme` has one in the directory of files."""
    with own_files(database_url, tmp_path) as exports:
        yield exports


@pytest.mark.parametrize(
    ("encoded", "declared"),
    [
        ("utf-8", None),
        ("utf-8-sig", None),
        ("utf-16", None),
        ("utf-32", None),
        ("utf-8-sig", "utf-8"),
        ("latin-1", "latin-1"),
        ("cp1252", "cp1252"),
        ("utf-16-le", "utf-16-le"),
        ("mac-roman", "mac_roman"),
    ],
)
def test_a_file_of_any_encoding_is_read(encoded: str, declared: str | None, place: Path) -> None:
    """A file in an encoding that is declared, or has a byte order mark, is read as it was meant."""
    data = "stadt;größe\r\nKöln;1\r\n".encode(encoded)
    assert rows(ask(place, data, encoding=declared)) == [{"stadt": "Köln", "größe": 1}]


def test_bytes_of_another_encoding_fail_with_the_place(place: Path) -> None:
    """Bytes that are not of the encoding fail with the line and the byte, and nothing is replaced."""
    with pytest.raises(QueryFailed, match=r"t: near line \d+ is a byte 0xfc, which is not utf-8; declare"):
        ask(place, b"a,b\n1,2\n3,M\xfcnchen\n")


def test_every_value_keeps_all_that_it_says(place: Path) -> None:
    """Types are found over the whole file, and only those in which no value loses a digit, a zero or a sign."""
    data = b"zip,big,huge,exact,day,noday,flag,float,moment,plus\n" + b"".join(
        b"%s,9007199254740993,12345678901234567890,%s,2026-02-%02d,2026-02-%02d,true,1e-7,2026-01-02T03:04:05Z,+1\n"
        % (zip_code, exact, 28, day)
        for zip_code, exact, day in ((b"01067", b"0.10", 28), (b"10115", b"12345678901234567.8901", 30))
    )
    result = ask(place, data, "SELECT *, sum(exact) OVER () AS total FROM t")
    assert result["sources"][0]["columns"] == {
        "zip": "VARCHAR",
        "big": "BIGINT",
        "huge": "DECIMAL(38, 0)",
        "exact": "DECIMAL(38, 4)",
        "day": "DATE",
        "noday": "VARCHAR",
        "flag": "BOOLEAN",
        "float": "DOUBLE",
        "moment": "TIMESTAMPTZ",
        "plus": "VARCHAR",
    }
    first = rows(result)[0]
    assert (first["zip"], first["big"], first["huge"]) == ("01067", "9007199254740993", "12345678901234567890")
    assert (first["total"], first["moment"]) == ("12345678901234567.9901", "2026-01-02T03:04:05.000Z")


def test_a_number_beyond_what_a_double_holds_stays_a_text(place: Path) -> None:
    """A number that a double would make endless or nothing stays a text, and so does a column that has one."""
    data = b"large,small,fine\n1e400,1e-400,1e300\n1e3,0e5,-1.5E-300\n"
    result = ask(place, data)
    assert result["sources"][0]["columns"] == {"large": "VARCHAR", "small": "VARCHAR", "fine": "DOUBLE"}
    assert rows(result)[0] == {"large": "1e400", "small": "1e-400", "fine": 1e300}
    nested = b'{"a": [1e400, ' + b"9" * 5000 + b', 1.5], "b": -1e400}\n'
    [record] = rows(ask(place, nested, name="t.jsonl"))
    assert record["b"] == "-1e400"
    assert json.loads(record["a"]) == ["1e400", "9" * 5000, 1.5]


def test_a_time_that_python_does_not_have_is_its_text(place: Path) -> None:
    """Dates and times without end, before Christ or after the year 9999 are texts; the last day of 9999 is that day."""
    data = (
        b"n,day,moment\n1,infinity,-infinity\n2,9999-12-31,9999-12-31T23:59:59.999999Z\n3,0044-03-15 (BC),10000-01-01\n"
    )
    types = typed(day="date", moment="timestamptz")
    days = rows(ask(place, data, "SELECT day, moment FROM t ORDER BY n DESC -- as said", types=types))
    assert days == [
        {"day": "0044-03-15 (BC)", "moment": "10000-01-01 00:00:00+00"},
        {"day": "9999-12-31", "moment": "9999-12-31T23:59:59.999999Z"},
        {"day": "infinity", "moment": "-infinity"},
    ]
    assert rows(ask(place, data, 'SELECT count(day) AS "a ""b", max(day) FROM t;', types=types)) == [
        {'a "b': 3, 'max("day")': "infinity"}
    ]


NESTED = """
    SELECT [DATE '2026-01-02'] AS days, [0.10::DECIMAL(5,2), 12345678901234567.8901::DECIMAL(38,4)] AS exact,
           {'a': ['nan'::DOUBLE], 'b': encode('ü')} AS whole, MAP {1: [NULL]} AS map, INTERVAL 3 DAY AS span,
           [12345678901234567890::HUGEINT] AS huge, union_value(a := [DATE '2026-01-02']) AS either FROM t"""


def test_what_is_nested_is_json(place: Path) -> None:
    """Lists, structures and maps are JSON with the rules of its numbers and times, and JSON's text in other formats."""
    (row,) = rows(ask(place, b"n\n1\n", NESTED))
    assert row == {
        "days": ["2026-01-02"],
        "exact": [0.1, "12345678901234567.8901"],
        "whole": {"a": ["NaN"], "b": "w7w="},
        "map": {"1": [None]},
        "span": "3 days",
        "huge": ["12345678901234567890"],
        "either": ["2026-01-02"],
    }
    assert content(ask(place, b"n\n1\n", "SELECT ['a', 'b'] AS l FROM t", result="csv")) == 'l\r\n"[""a"", ""b""]"\r\n'


@pytest.mark.parametrize(
    "sql",
    ["SELECT [DATE 'infinity'] AS l", "SELECT {'a': [TIMESTAMP '-infinity']} AS s", "SELECT [TIMESTAMPTZ 'infinity']"],
)
def test_a_time_without_end_in_a_list_is_refused(sql: str, place: Path) -> None:
    """A time within a list of which it cannot be told whether it has an end fails the job with what to do."""
    with pytest.raises(QueryFailed, match="a time without end"):
        ask(place, b"n\n1\n", sql)


def test_declared_types_go_before_what_is_found(place: Path) -> None:
    """A declared type is taken; one that does not fit fails with the value."""
    data = b"a,b\n1,2\n"
    assert rows(ask(place, data, types=typed(a="text", b="decimal(5,2)"), result="json")) == [{"a": "1", "b": 2}]
    with pytest.raises(QueryFailed, match="'x' to INT64 when casting from source column amount"):
        ask(place, b"n,amount\n1,x\n", types=typed(amount="integer"))
    with pytest.raises(QueryFailed, match="no column 'c'; it has a, b"):
        ask(place, data, types=typed(c="text"))


def test_a_column_may_be_called_after_money(place: Path) -> None:
    """The type of a column that holds prices can be said: a payload with its name holds no money."""
    assert rows(ask(place, b"price\n1.50\n", types=typed(price="text"))) == [{"price": "1.50"}]


def test_ragged_rows_are_left_out_and_reported(place: Path) -> None:
    """Rows with more or fewer fields are left out, counted and listed by line, or fail the job."""
    data = b"a,b\n1,2\n\n3\n4,5,6\n7,8\n" + b"9\n" * 30
    read = ask(place, data)
    assert rows(read) == [{"a": 1, "b": 2}, {"a": 7, "b": 8}]
    source = read["sources"][0]
    assert (source["rows"], source["raggedRows"], len(source["ragged"])) == (2, 32, 20)
    assert source["ragged"][:2] == [{"line": 4, "fields": 1}, {"line": 5, "fields": 3}]
    with pytest.raises(QueryFailed, match="the row that ends on line 4 has 1 fields instead of 2"):
        ask(place, data, ragged="fail")


def test_quotes_and_line_breaks_in_cells_are_theirs(place: Path) -> None:
    """Quotes, delimiters and line breaks of every kind within quotes are part of the cell."""
    cells = ['a "b"', "x,y", "1\n2", "1\r\n2", "", "'", "=1+1", " x "]
    data = "n,cell\n" + "".join(f'{n},"{cell.replace(chr(34), chr(34) * 2)}"\n' for n, cell in enumerate(cells))
    expected = [cell or None for cell in cells]
    assert [row["cell"] for row in rows(ask(place, data.encode()))] == expected


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty: it has no line of column names"),
        (b"\n\n", "nothing but empty lines"),
        (b"\xef\xbb\xbf", "is empty"),
        (b'a,b\n1,"2\n', "near line"),
        (b"a,b\n1,\x00\n", "NUL"),
        (gzip.compress(b"a,b\n" + b"1,2\n" * 10_000, mtime=0)[:-20], "damaged, or cut off"),
    ],
    ids=["empty", "blank", "mark", "quote", "nul", "cut"],
)
def test_what_is_no_such_file_fails_with_the_reason(data: bytes, reason: str, place: Path) -> None:
    """A file that is empty, cut off or damaged fails with the table and the reason."""
    with pytest.raises(QueryFailed, match=f"t: .*{reason}"):
        ask(place, data)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("t.csv", b"a,b\n-99999999999!,2\n", "near line 1 is no punycode: "),
        ("t.jsonl", b'{"a": 1}\n{"a": 1, "b": 3, "a": 2}\n', "line 2 has the key 'a' twice"),
        ("t.jsonl", b'{"a": {"c": 1, "c": 1}}\n', "line 1 has the key 'c' twice"),
    ],
    ids=["codec", "repeated", "nested"],
)
def test_what_would_be_lost_fails_with_the_place(name: str, data: bytes, reason: str, place: Path) -> None:
    """A text that its codec does not take, and an object with the same key twice, fail with the line."""
    with pytest.raises(QueryFailed, match=reason):
        ask(place, data, name=name, encoding="punycode" if name == "t.csv" else None)


def test_a_file_with_nothing_but_a_header_is_a_table_without_rows(place: Path) -> None:
    """A header alone is a table without rows."""
    result = ask(place, b"a,b\r\n")
    assert (rows(result), result["recordCount"], result["readCount"]) == ([], 0, 0)


def test_columns_of_the_same_name_get_others(place: Path) -> None:
    """Columns of the same name, also in another case, and without a name, get names of their own."""
    result = ask(place, b"a,A,a,,a_2\n1,2,3,4,5\n")
    assert list(rows(result)[0]) == ["a", "A_2", "a_3", "column4", "a_2_2"]
    assert result["sources"][0]["renamed"] == {"A_2": "A", "a_3": "a", "a_2_2": "a_2"}
    assert list(rows(ask(place, b"1,2\n", header=False))[0]) == ["column1", "column2"]


def test_json_lines_are_read_exactly(place: Path) -> None:
    """JSON lines keep every digit; keys may differ; what is nested is JSON's text."""
    data = b'{"a":9007199254740993,"s":"1"}\n\n{"a":1.25,"list":[1,{"x":12345678901234567890}],"t":true}\n'
    result = ask(place, data, name="t.jsonl", result="parquet")
    table = pq.read_table(file_of(result)).to_pylist()
    assert table[0] == {"a": Decimal("9007199254740993.00"), "s": "1", "list": None, "t": None}
    assert json.loads(table[1]["list"]) == [1, {"x": 12345678901234567890}]
    with pytest.raises(QueryFailed, match="line 2 is not JSON"):
        ask(place, b'{"a":1}\n{"a":\n', name="t.jsonl")
    with pytest.raises(QueryFailed, match="line 1 is no object"):
        ask(place, b"[1]\n", name="t.jsonl")


def test_an_export_is_the_table_data(place: Path, database: Database) -> None:
    """An export by its downloadUrl is the table `data`; marks before formulas are not there any more."""
    name = add_export(database, [[1, "=1+1"], [2, "Bonn"], [3, None]])
    sql = "SELECT city, count(*) AS n FROM data GROUP BY city ORDER BY ALL NULLS LAST"
    result = call(data_processing, ProcessData(export=f"/v1/exports/{name}", sql=sql, format="json"))
    assert rows(result) == [{"city": "=1+1", "n": 1}, {"city": "Bonn", "n": 1}, {"city": None, "n": 1}]


@pytest.mark.parametrize("form", ["csv", "json", "xlsx", "parquet"])
def test_the_result_has_every_format(form: str, place: Path) -> None:
    """The result is a file of the format that was asked for, and nothing else stays on the disk."""
    result = ask(place, b"a,b\n1,x\n", result=form)
    assert (result["format"], result["recordCount"], result["fileSize"]) == (form, 1, file_of(result).stat().st_size)
    assert everything_in(place) == [file_of(result).name]


def test_several_files_are_joined(place: Path, tmp_path: Path) -> None:
    """A query joins files of several formats, compressed or not."""
    directory = tmp_path / "files" / "acme"
    (directory / "sub").mkdir()
    (directory / "sub" / "orders.csv.gz").write_bytes(gzip.compress(b"id,customer\n1,7\n2,8\n"))
    (directory / "customers.jsonl").write_bytes(b'{"id":7,"name":"Ann"}\n')
    sources = {"orders": {"path": "sub/orders.csv.gz"}, "customers": {"path": "customers.jsonl"}}
    sql = "SELECT o.id, c.name FROM orders o LEFT JOIN customers c ON c.id = o.customer ORDER BY o.id"
    payload = ProcessData.model_validate({"sql": sql, "sources": sources, "format": "json"})
    assert rows(call(data_processing, payload)) == [{"id": 1, "name": "Ann"}, {"id": 2, "name": None}]


def test_an_uploaded_file_is_read_by_its_organization_alone(place: Path, database: Database) -> None:
    """An uploaded file is read by its id, its format by its name; another organization does not find it."""
    new = NewFile(uuid4(), "orders.csv", 8, "")
    store = upload_store(app.platform.settings, "acme")
    draft = store.drafts / "x"
    draft.write_bytes(b"a,b\n1,2\n")
    store.keep(draft, str(new.id), "application/octet-stream")
    with database.begin() as connection:
        uploads.add(connection, Owner("acme", "u1"), new, most=9, lifetime=timedelta(days=1), by=By("u1", None))
    payload = ProcessData.model_validate({"sql": "SELECT * FROM t", "sources": {"t": {"file": str(new.id)}}})
    assert content(call(data_processing, payload)) == "a,b\r\n1,2\r\n"
    with pytest.raises(SourceNotFound, match="there is no uploaded file"):
        call(data_processing, payload, "globex")
    store.remove(str(new.id))
    with pytest.raises(SourceNotFound, match="not there any more"):
        call(data_processing, payload)


@pytest.mark.parametrize(
    "path",
    [
        "../globex/t.csv",
        "/etc/passwd",
        "sub/../../globex/t.csv",
        "./t.csv",
        "link.csv",
        "linked/t.csv",
        "sub",
        "no.csv",
        "a//b",
    ],
)
def test_nothing_but_ones_own_files_is_found(path: str, place: Path, tmp_path: Path) -> None:
    """Paths out of the own directory, links, directories and missing files are all the same."""
    for name in ("acme/sub", "globex"):
        (tmp_path / "files" / name).mkdir(exist_ok=True)
        (tmp_path / "files" / name / "t.csv").write_text("a\n1\n")
    (tmp_path / "files" / "acme" / "link.csv").symlink_to(tmp_path / "files" / "globex" / "t.csv")
    (tmp_path / "files" / "acme" / "linked").symlink_to(tmp_path / "files" / "globex")
    payload = ProcessData.model_validate({"sql": "SELECT 1", "sources": {"t": {"path": path, "format": "csv"}}})
    with pytest.raises(SourceNotFound, match="there is no file"):
        call(data_processing, payload)


def test_another_organizations_export_is_not_found(place: Path, database: Database) -> None:
    """An organization that names another's export does not find it."""
    name = add_export(database, organization="globex")
    with pytest.raises(ExportNotFound, match="there is no export"):
        call(data_processing, ProcessData(export=name, sql="SELECT * FROM data"))


@pytest.mark.parametrize(
    "payload",
    [
        {"sql": "SELECT 1", "unique": ["a"]},
        {"export": "x.csv", "sources": {"t": {"path": "x.csv"}}},
        {"sql": "SELECT 1", "sources": {"t": {}}},
        {"sql": "SELECT 1", "sources": {"t": {"path": "x", "export": "y"}}},
        {"sql": "SELECT 1", "sources": {"t": {"path": "x"}, "T": {"path": "y"}}},
        {"sql": "SELECT 1", "sources": {'t"; DROP': {"path": "x"}}},
        {"sql": "SELECT 1", "sources": {"t": {"path": "x", "encoding": "rot13"}}},
        {"sql": "SELECT 1", "sources": {"t": {"path": "x", "encoding": "undefined"}}},
        {"sql": "SELECT 1", "sources": {"t": {"path": "x", "types": [{"column": "a", "type": "VARCHAR); DROP"}]}}},
        {"sql": ""},
        {},
    ],
)
def test_a_wrong_question_is_refused_at_once(payload: dict[str, Any]) -> None:
    """What cannot be asked is refused before the job is accepted."""
    with pytest.raises(ValidationError):
        ProcessData.model_validate(payload)


def test_public_tables_are_read_as_the_csv_module_reads_them(place: Path) -> None:
    """Two real files with every alphabet's letters come back cell by cell."""
    for package, name in (("airportsdata", "airports.csv"), ("great_tables", "data/07-towny.csv")):
        specification = find_spec(package)
        assert specification is not None
        assert specification.origin is not None
        path = Path(specification.origin).parent / name
        with path.open(encoding="utf-8", newline="") as file:
            columns, *expected = csv.reader(file)
        result = ask(place, path.read_bytes(), types=typed(**dict.fromkeys(columns, "text")), result="parquet")
        table = pq.read_table(file_of(result))
        assert table.column_names == columns
        found = [["" if cell is None else cell for cell in row.values()] for row in table.to_pylist()]
        assert found == expected
