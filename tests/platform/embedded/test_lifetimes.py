"""The embedded servers end with whoever started them, and a data directory has one user."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from celeriac.embedded import postgres, predecessors
from celeriac.embedded.processes import hold, wait_until
from tests.forkserver import ROOT, Forked
from tests.live import fork_server
from tracking.errors import ConfigurationError


@pytest.fixture
def platform(data_dir: Path) -> Iterator[Callable[[], Forked]]:
    """Starts both servers in a process of their own, which can be killed."""
    with ExitStack() as stack:

        def start() -> Forked:
            reading, writing = os.pipe()
            printed = stack.enter_context(os.fdopen(reading))
            with os.fdopen(writing, "w") as output, Path(os.devnull).open() as nothing:
                process = fork_server.start(
                    ("-m", "tests.embedded", str(data_dir)),
                    environment=os.environ,
                    stdin=nothing.fileno(),
                    stdout=output.fileno(),
                    stderr=output.fileno(),
                    directory=ROOT,
                )
            stack.callback(finish, process)
            assert any(line == "ready\n" for line in printed)
            return process

        yield start


def finish(process: Forked) -> None:
    """Stop what a test left."""
    process.terminate()
    process.wait(60)


def servers_of(data_dir: Path) -> list[psutil.Process]:
    """The server processes that use a data directory."""
    home = str(postgres._recorded_home(data_dir) or data_dir)
    return [
        process for process in psutil.process_iter() if uses(process, home) or uses(process, str(data_dir / "valkey"))
    ]


def uses(process: psutil.Process, path: str) -> bool:
    """Whether a live server process has a path in its command line."""
    with suppress(psutil.Error):
        line = process.cmdline()
        return len(line) > 0 and ("postgres" in line[0] or "valkey" in line[0]) and any(path in word for word in line)
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal at a parent's death is Linux's")
def test_servers_end_with_a_killed_parent(data_dir: Path, platform: Callable[[], Forked]) -> None:
    """Kill -9 of `up` takes the servers with it."""
    parent = platform()
    assert len(servers_of(data_dir)) == 2
    parent.kill()
    assert wait_until(lambda: not servers_of(data_dir), 20)


def test_servers_that_outlived_a_killed_parent_are_replaced(data_dir: Path, platform: Callable[[], Forked]) -> None:
    """Servers that could not follow their parent's death (here: stopped) are ended by the next start."""
    parent = platform()
    orphans = servers_of(data_dir)
    for orphan in orphans:
        orphan.suspend()
    parent.kill()
    parent.wait(10)
    platform()
    assert not any(orphan.is_running() and orphan.status() != psutil.STATUS_ZOMBIE for orphan in orphans)


def test_directory_in_use_is_refused(data_dir: Path, platform: Callable[[], Forked]) -> None:
    """A second `up` on the same data directory ends with one line."""
    platform()
    with pytest.raises(ConfigurationError, match=r"data is in use by another `celeriac up`$"), hold(data_dir):
        pass


def test_copied_directory_is_refused(data_dir: Path, platform: Callable[[], Forked]) -> None:
    """A copy of the data directory leads to the same database, which is in use."""
    platform()
    if os.geteuid():
        pytest.skip("without root the database is within the directory, and copied with it")
    copy = data_dir.with_name("copy")
    shutil.copytree(data_dir, copy)
    with pytest.raises(ConfigurationError, match="is in use"), hold(postgres.open_cluster(copy).home):
        pass


def test_killed_holder_leaves_no_lock(data_dir: Path, platform: Callable[[], Forked]) -> None:
    """Kill -9 of `up` frees the data directory at once, though its servers may still be ending."""
    parent = platform()
    parent.kill()
    parent.wait(10)
    with hold(data_dir):
        pass


@pytest.mark.parametrize("damage", [b"", b"\0" * 40, b"\xff\x00", b"stranger\n", b"stranger"])
def test_a_damaged_note_of_leases_names_nobody(data_dir: Path, damage: bytes) -> None:
    """Of a damaged note of earlier workers only leases count: by any other word a stranger's process was killed."""
    mark = b"stranger-" + uuid4().hex.encode()
    (data_dir / predecessors.FILE).write_bytes(damage.replace(b"stranger", mark))
    with subprocess.Popen([sys.executable, "-c", "input()", mark], stdin=subprocess.PIPE) as stranger:
        given = predecessors.options(data_dir)
        assert stranger.poll() is None
        stranger.kill()
    assert given[0] == "--lease"
    assert given[2:] == []
    assert predecessors.options(data_dir)[2:] == ["--instead-of", given[1]]
