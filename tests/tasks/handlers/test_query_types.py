"""data_processing with SQL: types of Parquet that are read, and those of results."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]  # it has no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # as above
import pytest

from tasks.querying.running import QueryFailed
from tests.exporting import content, file_of
from tests.querying import ask, own_files, rows


@pytest.fixture
def place(database_url: str, tmp_path: Path) -> Iterator[Path]:
    """The directory of exports; `acme` has one in the directory of files."""
    with own_files(database_url, tmp_path) as exports:
        yield exports


def test_times_of_other_units_are_times(place: Path, tmp_path: Path) -> None:
    """Times in seconds, milliseconds and nanoseconds are times in Parquet, as programs write them."""
    path, day = tmp_path / "files" / "acme" / "t.parquet", datetime(2026, 1, 2, 3, 4, 5, 678000)  # noqa: DTZ001 - no zone
    units = {unit: pa.array([day, None], pa.timestamp(unit)) for unit in ("ms", "us", "ns")}
    pq.write_table(pa.table(units), path)
    result = ask(
        place,
        path.read_bytes(),
        "SELECT *, TIMESTAMP_S '2026-01-02 03:04:05' AS s FROM t",
        name="t.parquet",
        result="parquet",
    )
    table = pq.read_table(file_of(result))
    assert {field.type for field in table.schema} == {pa.timestamp("us")}
    assert table.to_pylist()[0] == {"ms": day, "us": day, "ns": day, "s": day.replace(microsecond=0)}


def test_no_digit_of_a_nanosecond_is_lost(place: Path) -> None:
    """A time between two microseconds, which Python does not have, is its text with all digits."""
    moments = "SELECT TIMESTAMP_NS '2026-01-02 03:04:05.123456789' AS a, TIMESTAMP_NS '2026-01-02 03:04:05.5' AS b"
    assert rows(ask(place, b"n\n1\n", moments)) == [
        {"a": "2026-01-02 03:04:05.123456789", "b": "2026-01-02T03:04:05.500"}
    ]


def test_a_sum_of_integers_is_a_number_in_parquet(place: Path) -> None:
    """Integers beyond 64 bits, as sums are, stand in Parquet as decimals; in a text column only beyond 38 digits."""
    sums = "SELECT sum(n) AS total, max(n)::UBIGINT AS most, (2::UHUGEINT ** 127)::UHUGEINT AS beyond FROM t"
    data = b"n\n9007199254740993\n1\n"
    table = pq.read_table(file_of(ask(place, data, sums, result="parquet")))
    assert table.schema.types == [pa.decimal128(38, 0), pa.decimal128(38, 0), pa.string()]
    assert table.to_pylist() == [{"total": 9007199254740994, "most": 9007199254740993, "beyond": str(2**127)}]
    assert rows(ask(place, data, "SELECT sum(n) AS total, count(*)::HUGEINT AS rows FROM t")) == [
        {"total": "9007199254740994", "rows": 2}
    ]


def test_parquet_keeps_its_types(place: Path, tmp_path: Path) -> None:
    """A Parquet file is read with its types; one that is none fails."""
    path = tmp_path / "files" / "acme" / "t.parquet"
    pq.write_table(pa.table({"n": [2**63 - 1, None], "d": [Decimal("1.10"), Decimal("2.20")]}), path)
    result = ask(place, path.read_bytes(), name="t.parquet", result="csv")
    assert content(result) == "n,d\r\n9223372036854775807,1.10\r\n,2.20\r\n"
    damaged = path.read_bytes()[:-8] + b"\xff\xff\xff\x7fPAR1"
    for none in (
        b"",
        b"PAR1 but not really",
        b"PAR1 a long one PAR1",
        b"PAR1" + bytes(99) + b"\x10\0\0\0PAR1",
        damaged,
    ):
        with pytest.raises(QueryFailed, match=r"^t: it is no Parquet file, or one that is damaged or encrypted$"):
            ask(place, none, name="t.parquet")
