"""data_processing: it reads an export, leaves records out, counts the others and writes them anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.exports.files import ExportNotFound, drafting
from tasks.exports.stores import Directory
from tasks.handlers.data_processing import ProcessData, UnknownColumn, data_processing
from tasks.progress import JobCancelled
from tests.exporting import add_export, content, reports
from tests.handling import add_job, call
from tracking.db import Database

CITIES: list[list[Any]] = [[1, "Bonn"], [2, "Köln"], [1, "Bonn"], [3, ""], [4, None], [5, "=1+1"], [6, "Bonn"]]


@pytest.mark.parametrize("source", ["csv", "json"])
@pytest.mark.parametrize("form", ["csv", "json"])
def test_processing_counts_and_keeps_the_good_records(source: str, form: str, place: Path, database: Database) -> None:
    """data_processing leaves out incomplete and repeated records and counts the others by a column."""
    name = add_export(database, CITIES, form=source)
    payload = ProcessData.model_validate(
        {"export": name, "required": ["city"], "unique": ["id", "city"], "groupBy": "city", "format": form}
    )
    result = call(data_processing, payload)
    counts = {key: value for key, value in result.items() if key.endswith("Count")}
    assert counts == {"readCount": 7, "incompleteCount": 2, "duplicateCount": 1, "recordCount": 4, "groupCount": 3}
    assert result["groups"][0] == {"value": "Bonn", "count": 2}
    assert {group["value"] for group in result["groups"]} == {"Bonn", "Köln", "=1+1"}
    if form == "csv":
        assert content(result) == "id,city\r\n1,Bonn\r\n2,Köln\r\n5,'=1+1\r\n6,Bonn\r\n"
    else:
        assert [str(record["id"]) for record in json.loads(content(result))] == ["1", "2", "5", "6"]


def test_processing_an_export_without_records_makes_an_empty_one(place: Path, database: Database) -> None:
    """data_processing of an export without records makes one without records."""
    job_id = add_job(database, "acme")
    with drafting(Directory(place), job_id, 1, "json") as draft:
        draft.file.write(b"[]\n")
        draft.publish()
    result = call(data_processing, ProcessData(export=draft.export.name, required=("x",), format="json"))
    assert (result["readCount"], result["recordCount"], content(result)) == (0, 0, "[]\n")


def test_processing_reads_texts_of_any_length_and_with_line_breaks(place: Path, database: Database) -> None:
    """data_processing reads csv texts beyond 128 KiB and with line breaks."""
    rows = [[1, "x" * 300_000], [2, 'a "b"\r\n, c']]
    name = add_export(database, rows)
    result = call(data_processing, ProcessData(export=name))
    assert content(result) == content({"downloadUrl": f"/v1/exports/{name}"})


def test_processing_an_unknown_column_is_refused_with_the_known_ones(place: Path, database: Database) -> None:
    """data_processing with an unknown column fails with the known ones, before anything is written."""
    with pytest.raises(UnknownColumn, match="no column 'town'; it has id, city"):
        call(data_processing, ProcessData(export=add_export(database), unique=("town",)))
    assert len(list(place.glob("*.csv"))) == 1


@pytest.mark.parametrize("name", ["../secret.csv", "{name}\n", "nothing.csv"])
def test_processing_takes_nothing_but_exports(name: str, place: Path, database: Database) -> None:
    """data_processing takes names of exports, and no paths."""
    with pytest.raises((ExportNotFound, ValidationError)):
        call(data_processing, ProcessData(export=name.format(name=add_export(database))))


def test_processing_does_not_see_another_organizations_export(place: Path, database: Database) -> None:
    """data_processing treats another organization's export as one that does not exist."""
    with pytest.raises(ExportNotFound, match="there is no export"):
        call(data_processing, ProcessData(export=add_export(database, organization="globex")))


def test_processing_can_be_cancelled_between_batches(place: Path, database: Database) -> None:
    """data_processing that is cancelled leaves nothing on the disk."""
    name = add_export(database, [[number, "Bonn"] for number in range(2000)])
    with reports(cancel_at="1,000 records read, 1,000 kept"), pytest.raises(JobCancelled):
        call(data_processing, ProcessData(export=name))
    assert [path.name for path in place.rglob("*") if path.is_file()] == [name]
