"""The supervisor: programs of one line are kept alive, restarted and stopped in order."""

from __future__ import annotations

import functools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from celeriac.embedded.processes import spawn, wait_until
from celeriac.embedded.supervisor import Interrupted, Part, Supervisor
from celeriac.preconditions import listen, require_secret
from tests.live import is_alive
from tracking.errors import ConfigurationError
from tracking.exits import StartError
from tracking.settings import Settings

SLEEP = "import time; print('awake'); time.sleep(60)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"
QUIET = "import time; time.sleep(60)"  # what two processes print at once can come as one line
PARENT = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {QUIET!r}]).pid); {SLEEP}"


class Lines(list[tuple[str, str]]):
    """What the parts print, in order."""

    def wait_for(self, text: str, seconds: float = 20) -> str:
        """The first line that holds `text`."""
        assert wait_until(lambda: self.find(text) is not None, seconds), self
        return str(self.find(text))

    def find(self, text: str) -> str | None:
        """That line, or None as long as there is none."""
        return next((line for _, line in self if text in line), None)


@pytest.fixture
def lines() -> Lines:
    """The lines that the supervisor shows."""
    return Lines()


@pytest.fixture
def supervisor(lines: Lines) -> Iterator[Supervisor]:
    """A supervisor; what it runs is stopped with the test."""
    with Supervisor(lambda name, line: lines.append((name, line))) as running:
        yield running


def program(name: str, code: str, *, seconds: float = 10, firm: bool = False) -> Part:
    """A part that runs Python code, is ready at once, and has `seconds` to start and to stop."""
    command = [sys.executable, "-u", "-c", code]
    return Part(
        name=name,
        launch=lambda: spawn(command, death_signal=signal.SIGKILL, environment=os.environ),
        steps=((signal.SIGTERM, seconds),),
        patience=seconds,
        firm=firm,
    )


def looked_after(supervisor: Supervisor) -> dict[str, subprocess.Popen[bytes]]:
    """The processes after the supervisor has looked after its parts."""
    supervisor.look_after()
    return supervisor.processes


def test_dead_part_starts_again(supervisor: Supervisor, lines: Lines) -> None:
    """A part that was killed has a new process after a second, and the reason is shown."""
    supervisor.start(program("part", SLEEP))
    first = supervisor.processes["part"]
    first.kill()
    assert wait_until(lambda: looked_after(supervisor).get("part") not in (None, first), 10)
    assert ("part", "died (signal SIGKILL); starts again in 1 s") in lines


def test_pauses_grow(supervisor: Supervisor, lines: Lines) -> None:
    """A part that dies at once is tried after 1, then 2, then 4 seconds."""
    supervisor.start(program("part", ""))
    wanted = [f"died (exit status 0); starts again in {seconds} s" for seconds in (1, 2, 4)]
    assert wait_until(lambda: looked_after(supervisor) is not None and [line for _, line in lines] == wanted, 20)


def test_parts_stop_in_reverse(supervisor: Supervisor, lines: Lines) -> None:
    """The last part started is the first one stopped."""
    for name in ("server", "client"):
        supervisor.start(
            program(
                name,
                f"import atexit, sys, signal; signal.signal(15, lambda *_: sys.exit()); "
                f"atexit.register(print, 'bye'); {SLEEP}",
            )
        )
        assert wait_until(functools.partial(lines.__contains__, (name, "awake")), 10)
    supervisor.stop()
    assert [name for name, line in lines if line == "bye"] == ["client", "server"]


def test_part_that_ignores_the_signal_is_killed(supervisor: Supervisor, lines: Lines) -> None:
    """A part that ignores its signal is killed after the seconds of that step."""
    supervisor.start(program("part", DEAF, seconds=0.5))
    process = supervisor.processes["part"]
    lines.wait_for("awake")
    supervisor.stop()
    assert process.returncode == -signal.SIGKILL


def test_what_a_part_started_ends_with_it(supervisor: Supervisor, lines: Lines) -> None:
    """Processes that a part left in its session are killed."""
    supervisor.start(program("part", PARENT))
    child = int(lines.wait_for(""))
    supervisor.stop()
    assert wait_until(lambda: not is_alive(child), 10)


def test_stopped_part_is_woken_to_stop(supervisor: Supervisor, lines: Lines) -> None:
    """A part that was suspended ends politely too."""
    supervisor.start(program("part", SLEEP))
    process = supervisor.processes["part"]
    process.send_signal(signal.SIGSTOP)
    supervisor.stop()
    assert process.returncode == -signal.SIGTERM


def test_second_interrupt_cuts_the_wait(supervisor: Supervisor, lines: Lines) -> None:
    """A second Ctrl-C does not wait for a worker's jobs."""
    supervisor.start(program("part", DEAF, seconds=60))
    process = supervisor.processes["part"]
    lines.wait_for("awake")
    supervisor.interrupt()
    supervisor.interrupt()
    supervisor.stop()
    assert process.returncode == -signal.SIGKILL


def test_second_interrupt_does_not_cut_a_server_short(supervisor: Supervisor, lines: Lines) -> None:
    """A database gets its time to write, however often the user asks."""
    supervisor.start(
        program(
            "part",
            f"import signal, sys, time; signal.signal(15, lambda *_: (time.sleep(1), sys.exit())); {SLEEP}",
            firm=True,
        )
    )
    process = supervisor.processes["part"]
    lines.wait_for("awake")
    supervisor.interrupt()
    supervisor.interrupt()
    supervisor.stop()
    assert process.returncode == 0


def test_part_that_does_not_start_says_why(supervisor: Supervisor) -> None:
    """The error of a start is the part's last line."""
    part = program("part", "raise SystemExit('no such disk')")
    with pytest.raises(StartError, match=r"^part ended \(exit status 1\): no such disk$"):
        supervisor.finish(part)


def test_part_that_is_never_ready_is_given_up(supervisor: Supervisor) -> None:
    """The start of a part that is never ready is given up at a deadline."""
    slow = program("part", SLEEP)
    with pytest.raises(StartError, match="part is not ready after 0 s"):
        supervisor.start(Part(slow.name, slow.launch, slow.steps, ready=lambda _: False, patience=0.2))


def test_interrupt_ends_a_start(supervisor: Supervisor) -> None:
    """Ctrl-C while something starts does not wait for it."""
    slow = program("part", SLEEP)
    supervisor.interrupt()
    with pytest.raises(Interrupted):
        supervisor.start(Part(slow.name, slow.launch, slow.steps, ready=lambda _: False))


def test_taken_port_is_one_line() -> None:
    """A taken port is one line that names the port and the option."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"^port {port} of 127.0.0.1 is already in use: .* --port$"):
            listen("127.0.0.1", port).__enter__()


def test_self_made_secret_does_not_guard_a_public_address(tmp_path: Path) -> None:
    """An API on a public address does not start with a secret that it has made."""
    with pytest.raises(ConfigurationError, match=r"needed to listen on 192\.0\.2\.1$"):
        require_secret(Settings(data_dir=tmp_path, database_url="", jwt_secret=""), "192.0.2.1")  # type: ignore[arg-type]
