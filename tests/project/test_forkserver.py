"""What the fork server of the tests starts is like what a person starts."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.commands import python
from tests.forkserver import Forked
from tests.live import Process, fork_server

SHOW = """
import json, os, signal, sys
print(json.dumps({
    "environment": dict(os.environ), "directory": os.getcwd(), "argv": sys.argv,
    "leader": [os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid()],
    "files": sorted(int(name) for name in os.listdir("/dev/fd"))[:4],
    "signals": [str(signal.getsignal(number)) for number in map(signal.Signals, (2, 15, 13, 17))],
}))
"""
CODES = {
    "pass": 0,
    "raise SystemExit(3)": 3,
    "raise SystemExit('why')": 1,
    "1 / 0": 1,
    "import os, signal; os.kill(os.getpid(), signal.SIGKILL)": -signal.SIGKILL,
    "import os, signal; os.kill(os.getpid(), signal.SIGTERM)": -signal.SIGTERM,
    "raise KeyboardInterrupt": -signal.SIGINT,
}


def fork(code: str, output: Path, **environment: str) -> Forked:
    """A fork that runs the code, with this environment alone."""
    with output.open("ab") as file, Path(os.devnull).open() as nothing:
        return fork_server.start(
            ("-c", code), environment=environment, stdin=nothing.fileno(), stdout=file.fileno(), stderr=file.fileno()
        )


def ended(process: Process) -> int:
    return process.wait(20)


def test_a_fork_has_what_a_start_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork has the environment, directory, arguments, session, files and signals of a start."""
    monkeypatch.chdir(tmp_path)
    assert ended(fork(SHOW, tmp_path / "shown", MINE="1")) == 0
    shown = json.loads((tmp_path / "shown").read_text())
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # as of all that a shell starts in the background
    interrupted = str(signal.SIG_IGN if ignored else signal.default_int_handler)[:29]
    default = [interrupted, str(signal.SIG_DFL), str(signal.SIG_IGN), str(signal.SIG_DFL)]
    assert shown["environment"] == {"MINE": "1"}
    assert (shown["directory"], shown["argv"], shown["leader"]) == (str(tmp_path), ["-c"], [True, True])
    assert shown["files"][:3] == [0, 1, 2]
    assert [each[:29] for each in shown["signals"]] == [each[:29] for each in default]


@pytest.mark.parametrize(("code", "expected"), CODES.items())
def test_a_fork_ends_as_the_interpreter_does(tmp_path: Path, code: str, expected: int) -> None:
    """A fork ends with its exit code or signal, after its exit handlers."""
    assert ended(fork(f"import atexit; atexit.register(print, 'the end'); {code}", tmp_path / "log")) == expected
    assert ("the end" in (tmp_path / "log").read_text()) == (expected not in (-signal.SIGKILL, -signal.SIGTERM))


def test_settings_are_those_of_the_start(tmp_path: Path) -> None:
    """Two forks of one server have settings of their own."""
    code = "from tasks import app; print(app.conf.broker_url)"
    for number in ("1", "2"):
        process = fork(code, tmp_path / number, BROKER_URL=f"redis://127.0.0.1:1/{number}", PATH=os.environ["PATH"])
        assert ended(process) == 0
        assert (tmp_path / number).read_text() == f"redis://127.0.0.1:1/{number}\n"


def test_a_fork_imports_from_where_a_start_does(tmp_path: Path) -> None:
    """A fork of `-c` imports modules of its directory."""
    assert ended(fork("import sys; print(repr(sys.path[0]), sys.executable)", tmp_path / "log")) == 0
    assert (tmp_path / "log").read_text().split() == ["''", sys.executable]


@pytest.mark.parametrize("command", [("-c", "import sys; print(sys.argv[1:])"), ("-m", "shown")])
def test_a_fork_gets_its_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, str]) -> None:
    """A fork gets its arguments, for code and for a module."""
    (tmp_path / "shown.py").write_text("import sys; print(sys.argv[1:])")
    monkeypatch.chdir(tmp_path)
    assert python(*command, "one", "two").out == "['one', 'two']\n"


def test_an_answer_that_came_too_late_is_nobody_else_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a request that was given up, the next ones get their own answers."""
    process = fork("import time; time.sleep(60)", tmp_path / "output")
    with monkeypatch.context() as impatient:
        impatient.setattr("tests.forkserver.PATIENCE", 1e-6)
        with pytest.raises(TimeoutError):
            fork("pass", tmp_path / "output")
    other = fork("raise SystemExit(3)", tmp_path / "output")
    assert other.pid != process.pid
    assert ended(other) == 3
    process.kill()
    assert ended(process) == -signal.SIGKILL
