"""Parquet and gzip: every digit, null and date comes back, and the memory is bounded."""

from __future__ import annotations

import gzip
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # it has no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # as above
import pytest
from pydantic import ValidationError

from tasks.exports.formats import FORMATS
from tasks.handlers.export_report import ExportReport
from tests.exporting import export, file_of, records

EVERYTHING = """--: report A column of each sort, with one null in each.
SELECT * FROM (VALUES
    (9223372036854775807, 9007199254740993.000000001::numeric, 0.10::numeric(12,2), true, '=1+1', ''::text,
     date '2026-02-28', timestamp '2026-01-02 03:04:05.123456', timestamptz '2026-01-02 03:04:05+02',
     0.1::float4, 'NaN'::float8,
     decode('00ff', 'hex'), 'infinity'::date, '{1,2}'::int[], '{"a": 9007199254740993}'::jsonb,
     1e60::numeric, 'NaN'::numeric),
    (null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null)
) AS every(big, exact, declared, flag, formula, empty, day, moment, instant, single, double, bytes, never, list, "Json",
           huge, nan)
WHERE :organization <> ''
"""


def read(path: Path) -> Any:
    """The table in a file."""
    return pq.read_table(path)


def test_every_value_comes_back_from_parquet_with_its_type(place: Path, tmp_path: Path) -> None:
    """Parquet has every digit, null, date and time of a report in columns of their types; else PostgreSQL's text."""
    (tmp_path / "everything.sql").write_text(EVERYTHING)
    result = export("everything", "parquet")
    table = read(file_of(result))
    first, second = table.to_pylist()
    assert second == dict.fromkeys(table.column_names)
    assert first == {
        "big": 2**63 - 1,
        "exact": Decimal("9007199254740993.000000001"),
        "declared": Decimal("0.10"),
        "flag": True,
        "formula": "=1+1",
        "empty": "",
        "day": date(2026, 2, 28),
        "moment": datetime(2026, 1, 2, 3, 4, 5, 123456),  # noqa: DTZ001 - it has no zone
        "instant": datetime(2026, 1, 2, 1, 4, 5, tzinfo=UTC),
        "single": pytest.approx(0.1, rel=1e-7),
        "double": pytest.approx(float("nan"), nan_ok=True),
        "bytes": b"\x00\xff",
        "never": "infinity",
        "list": "{1,2}",
        "Json": '{"a": 9007199254740993}',
        "huge": "1" + 60 * "0",
        "nan": "NaN",
    }
    types = {field.name: field.type for field in table.schema}
    assert (types["exact"], types["declared"]) == (pa.decimal128(38, 9), pa.decimal128(38, 2))
    assert (types["instant"], types["single"]) == (pa.timestamp("us", tz="UTC"), pa.float32())


def test_a_report_without_rows_is_a_parquet_file_with_its_columns(place: Path) -> None:
    """A report without rows is a Parquet file with the types of its columns."""
    table = read(file_of(export("numbers", "parquet", rows=0)))
    assert (table.num_rows, table.schema.field("n").type) == (0, pa.int64())


def test_many_rows_are_many_groups(place: Path) -> None:
    """A large report is written in groups of rows, all of them in their order."""
    path = file_of(export("numbers", "parquet", rows=120_000))
    assert pq.ParquetFile(path).metadata.num_row_groups > 1
    assert read(path)["n"].to_pylist() == list(range(1, 120_001))


def test_columns_that_differ_in_case_alone_keep_their_names(place: Path, tmp_path: Path) -> None:
    """Columns whose names differ by case alone are two columns."""
    (tmp_path / "cases.sql").write_text('--: report Cases.\nSELECT 1 AS "a", 2 AS "A" WHERE :organization <> \'\'')
    assert read(file_of(export("cases", "parquet"))).to_pylist() == [{"a": 1, "A": 2}]


@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_compressed_export_is_the_other_one_compressed(form: str, place: Path) -> None:
    """A compressed export has the same content, and `.gz` in its name; its result says the size that it has."""
    plain = export("numbers", form, rows=2000)
    packed = export("numbers", form, rows=2000, compression="gzip")
    assert packed["downloadUrl"].endswith(f".{form}.gz")
    assert gzip.decompress(file_of(packed).read_bytes()) == file_of(plain).read_bytes()
    assert packed["fileSize"] == file_of(packed).stat().st_size < plain["fileSize"]
    assert packed["format"] == form


def test_an_empty_compressed_export_is_whole(place: Path) -> None:
    """A compressed export without rows can be unpacked."""
    assert gzip.decompress(file_of(export("numbers", "json", rows=0, compression="gzip")).read_bytes()) == b"[]\n"


@pytest.mark.parametrize("form", [name for name, form in FORMATS.items() if not form.gzip])
def test_what_is_compressed_is_not_compressed_again(form: str) -> None:
    """Gzip is refused for formats that are compressed by themselves."""
    with pytest.raises(ValidationError, match=f"{form} is compressed by itself"):
        ExportReport.model_validate({"reportType": "jobs", "format": form, "compression": "gzip"})


def test_parquet_without_its_library_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyarrow a payload that asks for Parquet is refused with the extra that brings it."""
    monkeypatch.setattr("tasks.handlers.export_report.find_spec", lambda _: None)
    with pytest.raises(ValidationError, match=r"celeriac\[parquet\]"):
        ExportReport.model_validate({"reportType": "jobs", "format": "parquet"})


def test_records_of_parquet_are_those_of_csv(place: Path) -> None:
    """The same report is the same rows in every format."""
    texts = [row["text"] for row in records(file_of(export("numbers", "csv")))]
    assert read(file_of(export("numbers", "parquet")))["text"].to_pylist() == texts
