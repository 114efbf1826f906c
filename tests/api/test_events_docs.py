"""docs/events.md: its command runs, and its table has the events that there are."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from api.live.messages import NAMES, RESYNC, TOLD
from tests.api.calling import Api

PAGE = (Path(__file__).parents[2] / "docs" / "events.md").read_text()


def test_the_command_of_the_page_follows_the_events(api: Api) -> None:
    """The curl command of docs/events.md shows a job's events as they happen."""
    if shutil.which("curl") is None:
        pytest.skip("this machine has no curl")
    [command] = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    caller = api.caller()
    environment = {**os.environ, "TOKEN": caller.headers["Authorization"].removeprefix("Bearer "), "URL": api.url}
    with subprocess.Popen(["sh", "-c", command], env=environment, stdout=subprocess.PIPE, text=True) as curl:
        assert curl.stdout is not None
        lines = iter(curl.stdout.readline, "")
        assert next(line for line in lines if line.startswith("id: "))
        job = caller.job(priority=5)
        assert next(line for line in lines if line.startswith("event: ")) == "event: job:created\n"
        assert str(job.id) in next(lines)
        curl.terminate()


def test_the_table_has_the_events_that_there_are() -> None:
    """docs/events.md has a row for each event that a stream tells, and no other."""
    rows = re.findall(r"^\| `([\w:]+)` \|", PAGE, re.MULTILINE)
    assert sorted(rows) == sorted({name for name, _ in TOLD.values()} | {*NAMES.values(), RESYNC})
