"""The page about backups says what `celeriac restore-check` says."""

from __future__ import annotations

import re

from tasks.restored.kinds import MEANINGS, UNSEEN
from tests.restoring import PAGE


def test_the_page_has_every_kind_of_finding() -> None:
    """docs/backup.md has each kind of finding of the check with its words, and what the check cannot see."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*) \| (.*) \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    assert rows == [
        (str(kind), "look" if each.is_newer else "heals", each.what, each.by_itself, each.to_do)
        for kind, each in MEANINGS.items()
    ]
    assert all(f"- {sentence}\n" in PAGE.read_text() for sentence in UNSEEN)
