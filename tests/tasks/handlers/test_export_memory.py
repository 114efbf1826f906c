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


@pytest.mark.parametrize(("form", "rows"), [("csv", 40_000), ("json", 40_000), ("xlsx", 10_000)])
def test_memory_does_not_grow_with_the_rows(form: str, rows: int, place: Path) -> None:
    """An export of many rows takes less than 5 MB more memory than one of 2,000."""
    done = python("-c", MEASURE, form, "2000", str(rows))
    assert done.status == 0, done.err
    few, many = map(int, done.out.split())
    assert many - few < 5_000_000
