"""The site of docs/: every page has its place in it, and every link on a page leads somewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def _named(nav: list[dict[str, Any]]) -> list[str]:
    """The pages of a part of the navigation."""
    found: list[str] = []
    for entry in nav:
        for page in entry.values():
            found += _named(page) if isinstance(page, list) else [page]
    return found


def test_every_page_has_its_place() -> None:
    """The navigation of the site names each page of docs/ once."""
    named = _named(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"])
    pages = (ROOT / "docs").rglob("*.md")
    assert sorted(named) == sorted(str(page.relative_to(ROOT / "docs")) for page in pages)


def test_the_site_is_built_and_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    """The site is built without a complaint, and loads no script, style or picture from another site."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    command = [str(Path(sys.executable).with_name("zensical")), "build", "--strict"]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert built.returncode == 0, built.stdout + built.stderr
    for page in (tmp_path / "site").rglob("*.html"):
        loaded = re.findall(r'<(?:script|img|link)\b[^>]*?\b(?:src|href)="(https?:[^"]+)"', page.read_text())
        assert loaded == [], page
