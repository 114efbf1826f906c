"""The page of the command line: it has every command, and its examples run."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import make_url

from celeriac.commands.cli import command
from tests.commands import search_path
from tests.live import LivePlatform, eventually
from tests.servers import Servers
from tracking.exit_status import MEANINGS

PAGE = Path(__file__).parents[3] / "docs" / "commands.md"
EXAMPLES = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def platform(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePlatform]:
    """A platform whose worker runs jobs, with an API on the port of the page."""
    broker_url = make_url(servers.valkey_url).set(database="10").render_as_string(hide_password=False)
    with LivePlatform(servers.database_url, broker_url, tmp_path_factory.mktemp("page")) as running:
        running.start_worker()
        yield running


def test_every_command_is_on_the_page() -> None:
    """The page of the command line has each command in a table, with its words, and each exit status."""
    listed = re.findall(r"^\| `celeriac (\S+)` \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(command.table)
    assert [int(each) for each in re.findall(r"^\| (\d+) \|", PAGE.read_text(), re.MULTILINE)] == list(MEANINGS)


def test_the_examples_of_the_page_run(platform: LivePlatform, tmp_path: Path) -> None:
    """The examples of the page run one after the other, each line with success."""
    process = platform.start("celeriac", "api", "--port", "0", log="api.log")
    port = eventually(lambda: _port(process.pid), within=60, what="the API")
    script = "\n".join(("set -euo pipefail", *EXAMPLES)).replace(":8000", f":{port}")
    environment = {
        **platform.environment,
        "PATH": search_path(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
    }
    ended = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert ended.returncode == 0, ended
    assert "\tsucceeded\t100\t" in ended.stdout
    assert ended.stderr == ""


def _port(pid: int) -> int | None:
    listening = [each.laddr.port for each in psutil.Process(pid).net_connections("tcp") if each.status == "LISTEN"]
    return next(iter(listening), None)
