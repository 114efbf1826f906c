"""The page about testing: its examples are tests that pass in the project that `celeriac init` writes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from celeriac.commands.init import write_project

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"


def test_the_examples_pass(tmp_path: Path) -> None:
    """Each example of the page passes as a test of a new project."""
    write_project(tmp_path)
    (tmp_path / "test_handlers.py").unlink()
    for number, example in enumerate(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)):
        (tmp_path / f"test_{number}.py").write_text(example)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 0, ended.stdout
    assert "5 passed" in ended.stdout
