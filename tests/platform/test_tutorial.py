"""The tutorial: its commands are run as they are written, one after another, in two terminals."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.commands import search_path
from tests.platform.test_up import CLEARED, Up

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
BLOCKS = re.findall(r"```sh\n(.*?)```", TUTORIAL.read_text(), re.DOTALL)


def _shell(directory: Path, path: str, script: str) -> str:
    """Run a block, as a person would who goes on after each command; returns what it prints."""
    environment = {name: value for name, value in os.environ.items() if name not in CLEARED}
    environment |= {"PATH": path, "XDG_CONFIG_HOME": str(directory / "configuration")}
    command = ["bash", "-euo", "pipefail", "-c", script]
    ran = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False, timeout=180
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_the_tutorial_is_as_it_says(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """From the new project to the mended failure, each command does what the page says that it does."""
    home = tmp_path_factory.mktemp("t", numbered=True)  # a short one: sockets lie below it
    path = search_path(tmp_path)
    begin, start, sign_in, submit, fail, mend = BLOCKS
    assert "passed" in _shell(home, path, begin)
    assert start == "celeriac up --imports handlers\n"
    up = Up(home / "jobs", "--imports", "handlers")
    try:
        own = up.wait()
        _shell(home / "jobs", path, sign_in.replace("http://127.0.0.1:8000", own))
        assert "succeeded" in _shell(home / "jobs", path, submit)
        told = _shell(home / "jobs", path, fail + mend)
        assert "it has failed" in told
        assert "there is no word in the text" in told
    finally:
        assert up.end(signal.SIGINT) == 0
