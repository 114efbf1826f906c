"""Processes that have imported the platform already: one process per test session imports it, and forks per start.

A fork is a real start but for the imports: environment, directory, files, session, signals, and its end with all exit
handlers are its own. Nothing that is imported before the fork may have read a setting, which the server checks.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parent.parent
SERVE = "from tests.forkserver import serve; serve()"
POLL = 0.01  # seconds between two looks at a process that is expected to end
LONGEST = 1 << 20  # bytes of a request: mostly an environment

# What a worker, a producer and an API import. Of our own only what reads no setting: never celeryconfig or handlers.
MODULES = (
    "tasks",
    "tasks.backend",
    "tasks.worker.consumer",
    "tasks.worker.program",
    "tasks.worker.request",
    "tasks.worker.upkeep",
    "celeriac.web",
    *("celery.__main__", "celery.bin.celery", "celery.bin.worker", "celery.apps.worker", "celery.concurrency.prefork"),
    *("celery.worker.components", "celery.worker.consumer", "celery.worker.autoscale", "kombu.transport.pyamqp"),
    *(
        "celery.app.control",
        "celery.app.events",
        "celery.worker.state",
        "celery.worker.strategy",
        "celery.fixups.django",
    ),
    *("redis", "kombu.transport.redis", "httpx", "xlsxwriter", "celeriac.commands.cli"),
    *("uvicorn.loops.auto", "uvicorn.lifespan.on"),
)


class Forked:
    """A process that the server has forked; used as a `subprocess.Popen`."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self._server = server
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code, or minus the signal that ended it; None while it runs."""
        if self.returncode is None:
            self.returncode = self._server.ask({"poll": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The same, once it has ended. Raises subprocess.TimeoutExpired."""
        deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            time.sleep(POLL)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The process that forks, started at the first use; it ends when its socket is closed, as by our own end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        stdin: int,
        stdout: int,
        stderr: int,
        directory: Path | None = None,
    ) -> Forked:
        """Run `-c` and code, `-m` and a module, or the path of a script, each with its arguments.

        It runs in a session and process group of its own, in `directory` or the current one.
        """
        where = str(directory or Path.cwd())
        request = {"command": list(command), "environment": dict(environment), "directory": where}
        return Forked(self, self.ask(request, stdin, stdout, stderr))

    def ask(self, request: dict[str, Any], *files: int) -> Any:
        """The server's answer to a request."""
        with self._lock:
            server = self._socket or self._started()
            server.settimeout(60)
            socket.send_fds(server, [json.dumps(request).encode()], list(files))
            return json.loads(server.recv(LONGEST))["answer"]

    def close(self) -> None:
        """End it; what it has forked runs on."""
        if self._socket is not None and self._process is not None:
            self._socket.close()
            self._process.wait(10)

    def _started(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LONGEST)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", SERVE, str(theirs.fileno())],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # like the logs of the tests no terminal: what it forks buffers as there
                pass_fds=[theirs.fileno()],
            )
        self._socket = ours
        return ours


def serve() -> None:
    """Import, then answer requests; each fork leaves here as the program that was asked for."""
    for module in MODULES:
        importlib.import_module(module)
    _check_that_nothing_is_set()
    gc.collect()
    gc.freeze()  # no collection in a fork looks at what was there before it, which would copy each page
    with socket.socket(fileno=int(sys.argv[1])) as requests:
        program = _forked(requests)
    if program is not None:
        _leave(_run(program))


def _check_that_nothing_is_set() -> None:
    from tracking.settings import settings  # noqa: PLC0415 - what is imported here is the server's purpose

    if settings.cache_info().currsize or "celeryconfig" in sys.modules:
        raise RuntimeError("an import has read the settings, which are those of one start")
    if threading.active_count() > 1:
        raise RuntimeError("an import has started a thread, which no fork has")


def _forked(requests: socket.socket) -> list[str] | None:
    """The program that this fork is to run; None in the server itself, when nobody asks any more."""
    while True:
        text, files, _, _ = socket.recv_fds(requests, LONGEST, 3)
        if not text:
            return None
        request = json.loads(text)
        if "poll" in request:
            answer = _exit_code(request["poll"])
        elif (answer := os.fork()) == 0:
            _become(request, files)
            return list(request["command"])
        for file in files:
            os.close(file)
        requests.send(json.dumps({"answer": answer}).encode())


def _exit_code(pid: int) -> int | None:
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _become(request: dict[str, Any], files: Sequence[int]) -> None:
    os.setsid()
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)


def _run(command: list[str]) -> Any:
    """What the interpreter does with its command line. Returns what `sys.exit` was called with, if it was."""
    try:
        if command[0] == "-c":
            sys.argv, sys.path[0] = ["-c", *command[2:]], ""
            exec(compile(command[1], "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102 - as `python -c` does
        elif command[0] == "-m":
            sys.argv, sys.path[0] = command[1:], str(Path.cwd())
            runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv, sys.path[0] = command, str(Path(command[0]).parent)
            runpy.run_path(command[0], run_name="__main__")
    except SystemExit as end:
        return end.code
    return None


def _leave(code: Any) -> NoReturn:
    """End as the interpreter does, but for its destruction of all modules: in a fork that takes a second."""
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)  # noqa: T201 - as the interpreter does
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)
