"""The project's own files agree with each other: commands, settings, change log."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tracking.oidc_settings import OidcSettings
from tracking.replica_settings import ReplicaSettings
from tracking.settings import Settings

ROOT = Path(__file__).parents[2]
LONGEST = 400  # lines
GOES_ON = {"Also", "And", "Because", "But", "However", "It", "Its", "Nor", "Or", "So", "Then", "They", "Which", "Whose"}
# Written so that this file does not hold what it looks for.
REGISTRY_HOST = re.compile(r"(?:pypi|pythonhosted|npmjs|yarnpkg)\.(?:org|com|io)", re.IGNORECASE)


def tracked_files() -> list[Path]:
    """Every file that is in git, or would be after `git add .`."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
        timeout=30,
    )
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def make_targets() -> set[str]:
    """What `make` can be asked for."""
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def settings_table() -> list[str]:
    """The rows that docs/configuration.md must hold, in the order of tracking/settings.py, and then of its parts."""
    properties, (replica, oidc) = (
        Settings.model_json_schema()["properties"],
        (part.model_json_schema()["properties"] for part in (ReplicaSettings, OidcSettings)),
    )
    last = {**replica, **oidc}
    names = [*(name for name in properties if name not in last), *last]
    return [_setting_row(name, properties[name]) for name in names]


def _setting_row(name: str, schema: dict[str, Any]) -> str:
    variable = name if name.isupper() else f"CELERIAC_{name.upper()}"
    default = schema.get("default")
    default = ",".join(map(str, default)) if isinstance(default, list) else default
    shown = "" if default in (None, "", []) else f"`{default}`"
    return "| " + " | ".join([f"`{variable}`", shown, _allowed(schema), schema.get("description", "")]) + " |"


def _allowed(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is None:
        return ""
    return f"{low} or more" if high is None else f"{low} to {high}"


def test_no_file_is_longer_than_400_lines() -> None:
    """No Python file of the product, the bench and the tests is longer than 400 lines."""
    sources = [path for path in tracked_files() if path.suffix == ".py"]
    assert [f"{path.relative_to(ROOT)}: {lines}" for path in sources if (lines := _lines(path)) > LONGEST] == []


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")


def test_no_file_names_the_host_of_a_package_registry() -> None:
    """No file of the project names the host of a package registry."""
    naming = [
        str(path.relative_to(ROOT))
        for path in tracked_files()
        if REGISTRY_HOST.search(path.read_text(errors="replace"))
    ]
    assert naming == []


def test_make_has_the_targets_that_people_expect() -> None:
    """The Makefile has the targets of README and CONTRIBUTING, and those that keep them going."""
    assert make_targets() >= {"setup", "demo", "up", "test", "check", "bench", "format", "lock", "clean", "help"}


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", ".ci/run"])
def test_every_make_command_in_the_documents_exists(document: str) -> None:
    """Every make command in the documents exists."""
    named = set(re.findall(r"(?:`|^|; then )make ([a-z]+)", (ROOT / document).read_text(), re.MULTILINE))
    assert named - {"chaos"}
    assert named - {"chaos"} <= make_targets()


def test_make_alone_explains_itself() -> None:
    """`make` alone lists every target that has a purpose of its own."""
    shown = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, check=True, text=True, timeout=30
    )
    assert set(re.findall(r"^  make ([a-z]+) +\S", shown.stdout, re.MULTILINE)) == make_targets()


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_every_link_to_a_file_leads_somewhere(document: str) -> None:
    """Every relative link in the documents leads to a file."""
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", (ROOT / document).read_text()):
        assert (ROOT / target).exists(), target


def test_continuous_integration_runs_check_test_scale_and_audit() -> None:
    """.ci/run is executable and runs check, test, scale and audit, in that order."""
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert re.findall(r"^make (\w+)\b", script.read_text(), re.MULTILINE) == ["check", "test", "scale", "audit"]


def test_every_setting_has_a_description() -> None:
    """Every setting has a description."""
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_the_documented_settings_are_the_settings() -> None:
    """docs/configuration.md has each setting with its default, limits and description, and no other."""
    lines = (ROOT / "docs" / "configuration.md").read_text().splitlines()
    assert [line for line in lines if line.startswith("| `")] == settings_table()


def test_the_change_log_keeps_its_form() -> None:
    """CHANGELOG.md has Unreleased first, then dated versions, with changes under the six known headings."""
    headings = re.findall(r"^(#+) (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[:2] == [("#", "Changelog"), ("##", "[Unreleased]")]
    for level, title in headings[2:]:
        if level == "##":
            assert re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", title), title
        else:
            assert title in {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}, title


def test_every_docstring_of_a_test_can_be_read_alone() -> None:
    """The docstring of a test is a sentence of at least four words that does not go on from the test's name."""
    said = {
        each.name: (ast.get_docstring(each) or "").split()
        for path in tracked_files()
        if path.match("test_*.py")
        for each in ast.parse(path.read_text()).body  # a tree at a time: three hundred are a million objects
        if isinstance(each, ast.FunctionDef) and each.name.startswith("test_")
    }
    assert len(said) > 1000
    assert [name for name, words in said.items() if len(words) < 4 or words[0] in GOES_ON] == []


def test_the_reading_order_has_ten_files_at_most_and_what_it_names() -> None:
    """CONTRIBUTING.md leads through at most ten files from POST to finished, and each defines what it is read for."""
    order = (ROOT / "CONTRIBUTING.md").read_text().partition("POST to finished")[2].split("\n\n")[1]
    steps = re.findall(r"^\d+\. `([\w/]+\.py)` (`\w+`(?:, `\w+`)*): ", order, re.MULTILINE)
    assert 1 < len(steps) == len(re.findall(r"^\d+\. ", order, re.MULTILINE)) <= 10
    for path, names in steps:
        defined = {getattr(node, "name", "") for node in ast.parse((ROOT / path).read_text()).body}
        assert set(re.findall(r"\w+", names)) <= defined, path
