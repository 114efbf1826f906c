"""The pages about production: their commands run, and the reference is that of the API."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from api.app import create_app
from bench import reference
from celeriac.commands.cli import command
from tests.project.test_handler_docs import blocks
from tracking.settings import settings

DOCS = Path(__file__).parents[2] / "docs"


def commands(page: str) -> list[list[str]]:
    """What the examples of a page have `celeriac` do."""
    lines = [line.strip() for block in blocks(page, "sh") for line in block.splitlines()]
    found = [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("celeriac ")]
    assert found
    return found


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize("page", ["deploying.md", "scaling.md", "rotating.md", "operations.md"])
def test_the_commands_of_the_pages_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command of ours on these pages does what it says against a database, and none complains."""
    monkeypatch.chdir(tmp_path)  # where one of them writes down how far it is
    for arguments in commands(page):
        result = CliRunner().invoke(command, arguments)
        settings.cache_clear()
        assert result.exit_code == 0, (arguments, result.output)


@pytest.mark.usefixtures("configured")
def test_the_commands_about_dead_letters_run() -> None:
    """Each command of that page runs; one that is shown by its number is told to be none."""
    for arguments in commands("dead-letters.md"):
        result = CliRunner().invoke(command, arguments)
        settings.cache_clear()
        expected = (2, True) if "--show" in arguments else (0, False)
        assert (result.exit_code, "17" in result.output) == expected, (arguments, result.output)


@pytest.mark.usefixtures("configured")
def test_the_reference_is_that_of_the_api() -> None:
    """docs/api.md and docs/reference/ are what the API says of itself; `UPDATE=1` writes them anew."""
    found = reference.pages(create_app().openapi())
    if os.environ.get("UPDATE"):
        reference.write(found)
    kept = {str(page.relative_to(DOCS)): page.read_text() for page in (DOCS / "reference").glob("*.md")}
    assert kept | {"api.md": (DOCS / "api.md").read_text()} == found


def test_each_link_of_the_reference_leads_to_a_heading() -> None:
    """Each link within the reference leads to a heading of the page that it names, and no page has a heading twice."""
    pages = {page.name: page.read_text() for page in [DOCS / "api.md", *(DOCS / "reference").glob("*.md")]}
    headings = {name: re.findall(r"^#+ (.+)$", text, re.MULTILINE) for name, text in pages.items()}
    assert {name for name, found in headings.items() if len(found) != len(set(found))} == set()
    anchors = {f"{name}#{each.lower().replace(' ', '-')}" for name, found in headings.items() for each in found}
    links = {
        f"{page.rpartition('/')[2] or name}#{anchor}"
        for name, text in pages.items()
        for page, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", text)
    }
    assert len(links) > len(pages)
    assert links - anchors == set()
