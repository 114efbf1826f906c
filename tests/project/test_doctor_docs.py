"""The page of the doctor has the checks that there are."""

from __future__ import annotations

import re
from pathlib import Path

from tests.platform.test_doctor import CHECKS

PAGE = Path(__file__).parents[2] / "docs" / "doctor.md"


def test_the_page_has_every_check() -> None:
    """Each check of a live platform has a line on the page, and no other has."""
    listed = set(re.findall(r"^\| `([a-z]+)(?: NAME)?` \|", PAGE.read_text(), re.MULTILINE))
    assert listed == {check.partition(" ")[0] for check in CHECKS}
