"""Where the handlers' tests work: a directory and a database of each, and a receiver of webhooks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.exporting import NUMBERS
from tests.handling import workplace
from tests.receiving import Receiver, receiving


@pytest.fixture
def place(database_url: str, tmp_path: Path) -> Iterator[Path]:
    """The directory of exports; below `tmp_path` a directory to copy them to, and a report of numbers."""
    (tmp_path / "mirror").mkdir()
    (tmp_path / "numbers.sql").write_text(NUMBERS)
    own = {"CELERIAC_SYNC_DIR": str(tmp_path / "mirror"), "CELERIAC_REPORTS_DIR": str(tmp_path)}
    with workplace(database_url, tmp_path, **own) as exports:
        yield exports


@pytest.fixture
def receiver(database_url: str, tmp_path: Path) -> Iterator[Receiver]:
    """A receiver on this machine, and the setting that allows it."""
    with workplace(database_url, tmp_path, CELERIAC_WEBHOOKS_PRIVATE="true"), receiving() as server:
        yield server
