"""An export takes as much memory for many rows as for few."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import python

MEASURE = """
import sys
from tasks.handlers.export_report import ExportReport, export_report
from tests.commands import python
from tests.handling import peak_memory
from tracking import acting_as
with acting_as("acme", "u1"):
    for rows in map(int, sys.argv[2:]):
        payload = {"reportType": "numbers", "format": sys.argv[1], "filters": {"rows": rows}}
        export_report(ExportReport.model_validate(payload))
        print(peak_memory())
"""


def memory_of(form: str, *rows: int) -> list[int]:
    """The most memory, in bytes, that a process has had after exports of so many rows, one after the other."""
    done = python("-c", MEASURE, form, *map(str, rows))
    assert done.status == 0, done.err
    return [int(peak) for peak in done.out.split()]


@pytest.mark.parametrize(("form", "rows"), [("csv", 40_000), ("json", 40_000), ("xlsx", 10_000)])
def test_memory_does_not_grow_with_the_rows(form: str, rows: int, place: Path) -> None:
    """An export of many rows takes less than 5 MB more memory than one of 2,000."""
    few, many = memory_of(form, 2000, rows)
    assert many - few < 5_000_000


def test_the_memory_of_a_parquet_export_is_bounded(place: Path) -> None:
    """A Parquet export of 400,000 rows takes less than 120 MB more memory than one of 2,000."""
    few, many = memory_of("parquet", 2000, 400_000)
    assert many - few < 120_000_000
