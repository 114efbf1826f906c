"""Processes that end with us, directories that one program holds, and files that only we may read."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from celeriac.embedded import tether
from tracking.errors import ConfigurationError
from tracking.exits import StartError

POLL = 0.05  # seconds between two looks at something that is expected soon
ERROR = re.compile(r"\b(?:PANIC|FATAL|ERROR|error): .+")  # as PostgreSQL's programs begin them

Steps = Sequence[tuple[signal.Signals, float]]  # signals, each with the seconds to wait for its effect


@dataclass(frozen=True)
class Account:
    """A user that a server runs as, by numbers of the kernel; `name` as in the password database."""

    name: str
    user: int
    group: int


def spawn(
    command: Sequence[str],
    *,
    death_signal: signal.Signals,
    environment: Mapping[str, str],
    account: Account | None = None,
    directory: Path | None = None,
    keep: Sequence[int] = (),
    stdin: int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start `command`, an absolute path and its arguments; its two outputs come as one pipe.

    It has a session of its own, so that Ctrl-C reaches only us. On Linux the kernel sends it `death_signal` when we
    die, however we die. `account` None keeps our user; `keep` are file descriptors that it inherits. Call from a
    thread that lives as long as we do: it is that thread's death which the kernel reports.
    """
    user, group = (account.user, account.group) if account else (-1, -1)
    tie = (sys.executable, "-I", "-S", tether.__file__, os.getpid(), int(death_signal), user, group)
    return subprocess.Popen(
        [*map(str, tie), *command],
        env=dict(environment),
        cwd=directory,
        pass_fds=keep,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def run(
    command: Sequence[str],
    *,
    seconds: float,
    environment: Mapping[str, str],
    account: Account | None = None,
    directory: Path | None = None,
    text: str = "",
) -> None:
    """Run `command` to its end with `text` on its input. Raises StartError with its reason when it fails."""
    process = spawn(
        command,
        death_signal=signal.SIGKILL,
        environment=environment,
        account=account,
        directory=directory,
        stdin=subprocess.PIPE,
    )
    name = Path(command[0]).name
    try:
        output, _ = process.communicate(text.encode(), timeout=seconds)
    except subprocess.TimeoutExpired:
        kill_session(process)
        process.communicate()
        raise StartError(f"{name} did not end within {seconds:.0f} s") from None
    if process.returncode:
        reason = reason_in(output.decode(errors="replace").splitlines())
        raise StartError(f"{name} failed: {reason or process.returncode}")


def end(process: subprocess.Popen[bytes], steps: Steps, hurry: Callable[[], bool] = lambda: False) -> None:
    """Send each signal and wait its seconds, or until `hurry`; what is then still there, or was left, is killed."""
    for number, seconds in steps:
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)  # one that is stopped would never see it
        wait_until(lambda: process.poll() is not None or hurry(), seconds)
    kill_session(process)
    process.wait(30)


def end_orphan(pid: int, marker: str, steps: Steps) -> None:
    """End a process that a killed `up` left behind, if `pid` still is the one with `marker` in its command line."""
    for number, seconds in (*steps, (signal.SIGKILL, 10.0)):
        if not runs(pid, marker):
            return
        os.kill(pid, number)
        os.kill(pid, signal.SIGCONT)
        wait_until(lambda: not runs(pid, marker), seconds)
    if runs(pid, marker):
        raise StartError(f"process {pid}, left by an earlier `celeriac up`, does not end")


def runs(pid: int, marker: str) -> bool:
    """Whether `pid` is alive with `marker` in its command line: a number alone may be another process by now."""
    if Path("/proc/self/cmdline").exists():
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            return False
    else:
        listing = subprocess.run(
            ["/bin/ps", "-o", "args=", "-p", str(pid)], capture_output=True, check=False, timeout=10
        )
        line = listing.stdout
    return os.fsencode(marker) in line


def kill_marked(marker: str) -> None:
    """Kill each process with `marker`, which no other can have, in its command line; we must not have it ourselves."""
    for pid in _pids():
        if runs(pid, marker):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def kill_session(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that `spawn` started and all of its session that did not leave it."""
    with suppress(ProcessLookupError, PermissionError):  # macOS answers EPERM for a group of zombies
        os.killpg(process.pid, signal.SIGKILL)


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll until `condition` holds; False when it still does not after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL)
    return True


@contextmanager
def hold(directory: Path, seconds: float = 1) -> Iterator[None]:
    """Hold a directory for this process alone; the kernel lets go of it even after kill -9, and no file is left.

    Raises ConfigurationError when another process still holds it after `seconds`: not at once, since `celeriac data
    list` looks whether one is held by holding it for a moment.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if not wait_until(lambda: _lock(descriptor), seconds):
            raise ConfigurationError(f"{directory} is in use by another `celeriac up`")
        yield
    finally:
        os.close(descriptor)


def is_held(directory: Path) -> bool:
    """Whether another process holds it: an `up` runs there."""
    try:
        with hold(directory, seconds=0):
            return False
    except ConfigurationError:
        return True


def own_directory(path: Path) -> Path:
    """Make a directory for us alone, or check that the one that is there is ours; its mode is never changed.

    Returns its absolute path. Raises ConfigurationError.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be made: {error.strerror}") from None
    found = path.stat()
    if found.st_uid != os.geteuid():
        raise ConfigurationError(f"{path} belongs to user {found.st_uid}: run as that user or use another --data-dir")
    if found.st_mode & 0o022:
        raise ConfigurationError(f"{path} can be changed by other users: chmod 700 it or use another --data-dir")
    return path.resolve()


def write_private(path: Path, text: str) -> None:
    """Replace a file at once by one that only we may read."""
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def reason_in(lines: Iterable[str]) -> str:
    """Why a program has failed, by what it has printed; empty when that is nothing.

    The last error: PostgreSQL goes on to say what it does about it. Without one, the last line.
    """
    said = [line.strip() for line in lines if line.strip()]
    errors = [found[0] for line in said if (found := ERROR.search(line))]
    return (errors or said or [""])[-1]


def _pids() -> list[int]:
    if Path("/proc/self/cmdline").exists():
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    listing = subprocess.run(["/bin/ps", "-axo", "pid="], capture_output=True, check=False, timeout=10)
    return [int(pid) for pid in listing.stdout.split()]


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
