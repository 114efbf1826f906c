"""Whether the exported file, the API and what was asked for say the same."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from celeriac.client.answers import Job
from celeriac.demo.workload import Accepted
from tracking.values import in_milliseconds

Row = dict[str, str]


def read_rows(path: Path) -> list[Row]:
    """The rows of a CSV file by the names of its columns."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def compared_columns(rows: Sequence[Row]) -> list[str]:
    """The columns that must say what the API says: all of the file's."""
    return list(rows[0]) if rows else []


def differences(rows: Sequence[Row], jobs: Sequence[Job]) -> list[str]:
    """Where the rows of the file are not the jobs of the API, both oldest first; one line each."""
    columns = compared_columns(rows)
    found = [] if len(rows) == len(jobs) else [f"the file has {len(rows)} rows, the API {len(jobs)} jobs"]
    for row, job in zip(rows, jobs, strict=False):
        said = job.model_dump(by_alias=True)
        for column in columns:
            expected = _as_text(said.get(column))
            if _in_milliseconds(row[column], said.get(column)) != expected:
                found.append(f"job {job.id}: {column} is {row[column]!r} in the file, {expected!r} in the API")
    return found


def surprises(accepted: Iterable[Accepted], jobs: Iterable[Job]) -> list[str]:
    """Accepted jobs that are missing or ended otherwise than they should, and jobs that nobody asked for."""
    expected = {job.job_id: job.ends for job in accepted}
    found = {job.id: job for job in jobs}
    lost = [f"job {job_id} was accepted, and the API does not list it" for job_id in expected.keys() - found.keys()]
    unasked = [f"job {job_id} is listed, and nobody asked for it" for job_id in found.keys() - expected.keys()]
    otherwise = [
        f"job {job_id} ({found[job_id].job_type}) is {found[job_id].status} instead of {status}: "
        f"{found[job_id].error_message}"
        for job_id, status in expected.items()
        if job_id in found and found[job_id].status != status
    ]
    return lost + unasked + otherwise


def waits(jobs: Iterable[Job]) -> list[tuple[int, float]]:
    """For each priority, the most urgent first, the median of the seconds from creation to start."""
    seconds: dict[int, list[float]] = {}
    for job in jobs:
        if job.started_at is not None:
            seconds.setdefault(job.priority, []).append((job.started_at - job.created_at).total_seconds())
    return [(priority, median(seconds[priority])) for priority in sorted(seconds, reverse=True)]


def _in_milliseconds(text: str, said: Any) -> str:
    """A cell as precise as the API is: exports keep the microseconds of times."""
    return _as_text(datetime.fromisoformat(text)) if text and isinstance(said, datetime) else text


def _as_text(value: Any) -> str:
    """A value as the API says it: nothing is empty, times are UTC in milliseconds."""
    if isinstance(value, datetime):
        return in_milliseconds(value)
    return "" if value is None else str(value)
