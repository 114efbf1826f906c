"""What the producer notes of each job, before and after it was sent, in a file that outlives it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID


def note(journal: Path, entry: dict[str, Any]) -> None:
    """Add an entry: the job's id, its kind, its organization, and whether it was "asked" for or "accepted"."""
    with journal.open("ab") as file:
        file.write(json.dumps(entry).encode() + b"\n")


def read_journal(journal: Path) -> dict[UUID, dict[str, Any]]:
    """The last entry of each job."""
    entries = [json.loads(line) for line in journal.read_bytes().splitlines()]
    return {UUID(entry["id"]): entry for entry in entries}


def unanswered(journal: Path) -> Iterator[dict[str, Any]]:
    """The entries of calls that have not returned."""
    return (entry for entry in read_journal(journal).values() if entry["state"] == "asked")
