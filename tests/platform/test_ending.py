"""Commands that last, told to stop; and workers of one name."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.exiting import COMMANDS, LASTING
from tests.live import LivePlatform, eventually
from tests.servers import Servers
from tracking.exit_status import Exit


def test_two_workers_of_one_name_live_side_by_side(platform: LivePlatform) -> None:
    """The second worker of a name takes another one, and both live on."""
    quick = ("--without-mingle", "--without-gossip", "-l", "INFO", "-c", "1")
    names = []
    for number, options in enumerate([(), ("-n", "mine@here"), ("-n", "mine@here")]):
        platform.start("celery", "-A", "tasks", "worker", *quick, *options, log=f"{number}.log")
        names.append(_name_of_ready_worker(platform, f"{number}.log"))
    assert [re.sub("-[0-9a-f]{6}@.*", "-*", name) for name in names] == ["celery-*", "mine@here", "mine-*"]
    asked = "from tasks import app; print(*sorted(name for reply in app.control.ping(timeout=2) for name in reply))"
    eventually(lambda: platform.run(asked).split() == sorted(names), what="an answer of all")


def _name_of_ready_worker(platform: LivePlatform, log: str) -> str:
    found = eventually(lambda: re.search(r"(\S+@\S+) ready", platform.log(log)), within=40, what="a worker")
    return str(found[1])


@pytest.mark.parametrize(
    ("name", "number"), [("worker", signal.SIGINT), ("api", signal.SIGINT), ("api", signal.SIGTERM)]
)
def test_what_was_told_to_stop_is_status_0(
    name: str, number: signal.Signals, tmp_path: Path, database_url: str, servers: Servers
) -> None:
    """A part of the platform that is told to stop ends with status 0."""
    ready = {"worker": " ready", "api": "Application startup complete"}[name]
    with LivePlatform(database_url, servers.valkey_url, tmp_path) as platform:
        process = platform.start("celeriac", *COMMANDS[name], log="it.log")
        eventually(lambda: ready in platform.log("it.log"), within=40, what="its start")
        process.send_signal(number)
        assert process.wait(20) == Exit.FINE


@pytest.mark.parametrize("name", LASTING)
def test_what_is_told_to_stop_while_it_starts_is_status_0(
    name: str, tmp_path: Path, database_url: str, servers: Servers
) -> None:
    """A part that is told to stop while it starts ends with status 0."""
    with LivePlatform(database_url, servers.valkey_url, tmp_path) as platform:
        process = platform.start("celeriac", *COMMANDS[name], log="it.log", warm=False)
        eventually(lambda: _catches(process.pid, signal.SIGTERM), what="its first line")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == Exit.FINE


def _catches(pid: int, number: signal.Signals) -> bool:
    found = re.search(r"^SigCgt:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> (number - 1) & 1)
