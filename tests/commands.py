"""The `celeriac` command as a process: what it prints and how it ends."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.forkserver import ROOT
from tests.live import fork_server

PROGRAM = str(Path(sys.executable).parent / "celeriac")

# A program that has the fork server start one with its arguments, and ends as that does. Without the packages of the
# virtual environment it is there in a twentieth of the time.
FORKING = f"""\
#!{sys.executable} -S
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from tests.forkserver import ForkServer
program = ({PROGRAM!r}, *sys.argv[1:])
code = ForkServer().start(program, environment=os.environ, stdin=0, stdout=1, stderr=2).wait()
sys.exit(code if code >= 0 else 128 - code)
"""


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """The last line on stderr."""
        return self.err.splitlines()[-1] if self.err else ""


def run(*arguments: str, within: float = 60, **environment: str | None) -> Ended:
    """Run a command to its end in a process of its own; a variable that is None is not set."""
    return python(PROGRAM, *arguments, within=within, **environment)


def python(*command: str, within: float = 60, **environment: str | None) -> Ended:
    """Run `-c` and code, `-m` and a module, or a script to its end, as `run` does."""
    given: Mapping[str, str | None] = {**os.environ, **environment}
    return run_in(None, {name: value for name, value in given.items() if value is not None}, *command, within=within)


def search_path(directory: Path) -> str:
    """A PATH for scripts of many commands: its `celeriac`, below this directory, comes from the fork server."""
    program = directory / "bin" / "celeriac"
    program.parent.mkdir()
    program.write_text(FORKING)
    program.chmod(0o700)
    return f"{program.parent}:{Path(PROGRAM).parent}:{os.environ['PATH']}"


def run_in(directory: Path | None, environment: Mapping[str, str], *command: str, within: float = 60) -> Ended:
    """The same in a directory, or the current one, and with this environment alone."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, Path(os.devnull).open() as nothing:
        process = fork_server.start(
            command,
            environment=environment,
            stdin=nothing.fileno(),
            stdout=out.fileno(),
            stderr=err.fileno(),
            directory=directory,
        )
        try:
            status = process.wait(within)
        finally:
            process.kill()
        out.seek(0)
        err.seek(0)
        return Ended(status, out.read().decode(), err.read().decode())
