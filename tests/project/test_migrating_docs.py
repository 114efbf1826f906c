"""The page about moving a Celery project: what is written there before and after runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "migrating.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
CALL = (
    '\nassert resize("a.png") == {"path": "a.png", "width": 800}\nprint(app.tasks["shop.tasks.resize"].max_retries)\n'
)


@pytest.mark.parametrize("example", EXAMPLES, ids=["before", "after"])
def test_the_task_is_the_same_before_and_after(tmp_path: Path, example: str) -> None:
    """The module is a task of the same name and options in both, and can be called without a server."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "tasks.py").write_text(example + CALL)
    command = [sys.executable, "-c", "import shop.tasks"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert (ran.returncode, ran.stdout) == (0, "5\n"), ran.stderr
