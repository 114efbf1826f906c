"""The command as a program: quick to help, forgiving of typos, and quiet when nobody listens any more."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from celeriac.commands.cli import command
from celeriac.commands.init import write_project
from tests.api.calling import Caller
from tests.celeriac.commands.asking import environment_of
from tests.commands import PROGRAM
from tests.live import eventually
from tracking.exit_status import Exit

SLOW = ("pydantic", "sqlalchemy", "psycopg", "celery", "fastapi", "httpx2", "rich", "asyncio")
HELP = """
import sys
from celeriac.commands.cli import command
try:
    command({arguments}, prog_name="celeriac")
except SystemExit:
    print("loaded", *(name for name in {slow} if name in sys.modules))
"""


@pytest.mark.parametrize("name", ["", *command.table])
def test_help_loads_nothing_that_is_slow(name: str) -> None:
    """The help of every command is printed without the libraries that take most of a start."""
    arguments = [part for part in (name, "--help") if part]
    code = HELP.format(arguments=arguments, slow=SLOW)
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout.splitlines()[-1] == "loaded"


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("submti",), "'submit'"),
        (("schedules", "ad"), "'add'"),
        (("jobs", "--statsu", "failed"), "--status"),
        (("jobs", "--status", "faild"), "'failed'"),
    ],
)
def test_typos_are_answered_with_what_was_meant(arguments: tuple[str, ...], meant: str) -> None:
    """A wrong command, option or word ends with 2 and says what was meant."""
    result = CliRunner().invoke(command, list(arguments))
    assert (result.exit_code, meant in result.stderr) == (Exit.MISUSED, True), result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_options(shell: str) -> None:
    """What `completion` prints is for that shell, and completes names of commands, their options and words."""
    script = subprocess.run([PROGRAM, "completion", shell], capture_output=True, text=True, check=True, timeout=60)
    assert "_CELERIAC_COMPLETE" in script.stdout
    for words, expected in (("celeriac sub", "submit"), ("celeriac jobs --sta", "--status")):
        asked = {
            **os.environ,
            "_CELERIAC_COMPLETE": f"{shell}_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")) if shell != "fish" else words.rsplit(" ", 1)[1],
        }
        told = subprocess.run([PROGRAM], env=asked, capture_output=True, text=True, check=True, timeout=60)
        assert expected in told.stdout, told


def completed(words: str, environment: Mapping[str, str]) -> list[str]:
    """What bash is offered for the last of these words."""
    asked = {"_CELERIAC_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    told = subprocess.run(
        [PROGRAM], env={**os.environ, **environment, **asked}, capture_output=True, text=True, check=True, timeout=60
    )
    assert told.stderr == ""
    return [line.partition(",")[2] for line in told.stdout.split()]


def test_types_are_completed_with_those_of_the_api(caller: Caller, closed: int) -> None:
    """The type of a job is completed with those that the API has; without an API nothing is, and nothing is said."""
    known = environment_of(caller)
    assert completed("celeriac submit op", known) == ["open", "open_too"]
    assert "guarded" in completed("celeriac jobs --type ", known)
    assert completed("celeriac submit op", {**known, "CELERIAC_URL": f"http://127.0.0.1:{closed}"}) == []


def test_profiles_are_completed(tmp_path: Path) -> None:
    """The name of a profile is completed with those that `login` has kept."""
    place = tmp_path / "celeriac" / "profiles.json"
    place.parent.mkdir(mode=0o700)
    place.write_text(json.dumps({name: {"url": "http://h", "token": "t"} for name in ("production", "preview", "x")}))
    place.chmod(0o600)
    assert completed("celeriac jobs --profile pr", {"XDG_CONFIG_HOME": str(tmp_path)}) == ["preview", "production"]


def test_a_reader_who_has_enough_is_no_fault(caller: Caller) -> None:
    """A pipe that is closed ends a command with 0, and nothing on stderr."""
    for _ in range(3):
        caller.job()
    environment = {**os.environ, **environment_of(caller)}
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = subprocess.run(
            [PROGRAM, "jobs"], env=environment, stdout=writing, stderr=subprocess.PIPE, check=False, timeout=60
        )
    finally:
        os.close(writing)
    assert (ended.returncode, ended.stderr) == (Exit.FINE, b"")


@pytest.mark.parametrize("what", ["watch", "events"])
def test_an_interrupt_ends_it_cleanly(caller: Caller, what: str) -> None:
    """Ctrl-C ends a command that waits with 130, at once, and without a traceback."""
    job = caller.job()
    arguments = [PROGRAM, what, *([str(job.id)] if what == "watch" else ["--after", "0"])]
    environment = {**os.environ, **environment_of(caller), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        arguments,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - it may be ignored here
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        _, told = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, told.strip()) == (Exit.INTERRUPTED, b"")
    assert time.monotonic() - began < 10


def test_no_token_is_in_the_list_of_processes(caller: Caller) -> None:
    """While a command runs, its arguments as others see them hold no token."""
    environment = environment_of(caller)
    job = caller.job()
    process = subprocess.Popen(
        [PROGRAM, "watch", str(job.id)], env={**os.environ, **environment}, stdout=subprocess.PIPE
    )
    try:
        arguments = Path(f"/proc/{process.pid}/cmdline")
        eventually(lambda: b"watch" in arguments.read_bytes(), within=20, what="the command")
        assert environment["CELERIAC_TOKEN"].encode() not in arguments.read_bytes()
    finally:
        process.kill()
        process.communicate()


def test_a_project_says_how_its_directory_is_entered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`celeriac init` prints a line that a shell takes, whatever the directory is called."""
    write_project(tmp_path / "my jobs")
    assert f"cd '{tmp_path / 'my jobs'}' && pytest" in capsys.readouterr().out


INTERRUPTED_IN_AN_IMPORT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)

class Early:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "celeriac.commands.cli":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Early)
sys.argv = ["celeriac", "--help"]
from celeriac.__main__ import main
main()
"""


def test_an_early_interrupt_ends_it_cleanly() -> None:
    """Ctrl-C before a command has been read, amid its imports, ends it with 130 and without a traceback."""
    ended = subprocess.run([sys.executable, "-c", INTERRUPTED_IN_AN_IMPORT], capture_output=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (Exit.INTERRUPTED, b"", b"")
