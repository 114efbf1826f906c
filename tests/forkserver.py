"""Processes that have imported the platform already: one process of a test session imports it, and forks per start.

Each process of the session has a fork of its own of that one, which it asks for processes.

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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from select import select
from typing import Any, NoReturn

ROOT = Path(__file__).parent.parent
ADDRESS = "PYTEST_CELERIAC_FORKS"  # in the environment of every process of a session
SERVE = "from tests.forkserver import serve; serve()"
POLL, SELDOM = 0.01, 0.1  # seconds between two looks at a process that is expected to end, at first and later
PATIENCE = 120  # seconds for an answer, of which the first one waits for all imports
LONGEST = 1 << 20  # bytes of a request: mostly an environment

# What a worker, a producer and an API import. Of our own only what reads no setting: never celeryconfig, or the handler
# of exports, which looks for reports.
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
    *("redis", "kombu.transport.redis", "httpx2", "xlsxwriter", "celeriac.commands.cli"),
    *("uvicorn.loops.auto", "uvicorn.lifespan.on"),
    *("celery.app.log", "celery.worker.consumer.delayed_delivery", "tasks.broker.events"),
    *("tasks.exports.loading", "tasks.exports.reportfile", "tasks.exports.reporting", "tasks.exports.spool"),
    *(f"tasks.handlers.{name}" for name in ("data_processing", "notification", "cleanup", "sync")),
    *("tasks.handlers.webhook_delivery", "tasks.handlers.canary"),
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
        began = time.monotonic()
        while (code := self.poll()) is None:
            waited = time.monotonic() - began
            if timeout is not None and waited > timeout:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(min(max(POLL, waited / 20), SELDOM))
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@contextmanager
def fork_servers(directory: Path) -> Iterator[str]:
    """Serve the processes of a session; its address. What is imported is so when the first of them asks."""
    address = str(directory / "forks")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
        door.bind(address)
        door.listen()
        server = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(door.fileno())],
            cwd=ROOT,
            stdin=subprocess.PIPE,  # it ends when this is closed, as by our own end
            stdout=subprocess.DEVNULL,  # like the logs of the tests no terminal: what it forks buffers as there
            pass_fds=[door.fileno()],
        )
    with server:
        yield address


class ForkServer:
    """A connection to the process that forks for us, made at the first use; it ends with that, as by our own end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._number = 0  # of the last request

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
        """The server's answer to a request. Raises TimeoutError when there is none within PATIENCE seconds."""
        with self._lock:
            server = self._socket or self._connected()
            server.settimeout(PATIENCE)
            self._number += 1
            socket.send_fds(server, [json.dumps({**request, "number": self._number}).encode()], list(files))
            while True:
                answer = json.loads(server.recv(LONGEST))
                if answer["number"] == self._number:  # and not of a request that nobody waits for any more
                    return answer["answer"]

    def close(self) -> None:
        """End it; what it has forked runs on."""
        if self._socket is not None:
            self._socket.close()

    def _connected(self) -> socket.socket:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LONGEST)
        self._socket.connect(os.environ[ADDRESS])
        return self._socket


def serve() -> None:
    """Import, then answer requests; each fork leaves here as the program that was asked for."""
    with socket.socket(fileno=int(sys.argv[1])) as door:
        if (first := _accepted(door)) is None:
            return
        gc.disable()  # as for the tests
        for module in MODULES:
            importlib.import_module(module)
        _check_that_nothing_is_set()
        gc.collect()
        gc.freeze()  # no collection in a fork looks at what was there before it, which would copy each page
        gc.enable()
        requests = _forked_for_each(door, first)
    if requests is not None:
        with requests:
            program = _forked(requests)
        if program is not None:
            _leave(_run(program))


def _accepted(door: socket.socket) -> socket.socket | None:
    """The next process of the session that asks; None at the end of the session."""
    ready, _, _ = select([door, sys.stdin], [], [])
    return None if sys.stdin in ready else door.accept()[0]


def _forked_for_each(door: socket.socket, first: socket.socket) -> socket.socket | None:
    """In a fork for each process that asks, its requests; None in the server itself, at the end of the session."""
    asking: socket.socket | None = first
    while asking is not None:
        with asking:
            if os.fork() == 0:
                return asking.dup()
        asking = _accepted(door)
    return None


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
        requests.send(json.dumps({"number": request["number"], "answer": answer}).encode())


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
