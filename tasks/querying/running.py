"""Runs a query in a process of its own, and ends that whatever happens here."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import structlog

import tracking

MEGABYTE = 1024 * 1024
BESIDE = 1024  # MB of memory for Python and its libraries; the process itself takes less
GRACE = 5.0  # seconds from the end of its answers to its own
LOOK = 0.2  # seconds between two looks at the process
LONGEST_ANSWER = MEGABYTE  # bytes of a line
LONGEST_LOGGED = 2000
OUT_OF_MEMORY = ("MemoryError", "std::bad_alloc")  # as Python and C++ say it when they end

# Packages by their places, and not by their names: those would start the whole platform, with its settings.
BOOT = """
import sys, types
for name, place in zip(("tasks", "tracking"), sys.argv[1:]):
    package = types.ModuleType(name)
    package.__path__ = [place]
    sys.modules[name] = package
from tasks.querying.engine import main
main()
"""

log = structlog.get_logger(__name__)


class QueryFailed(Exception):
    """The query cannot be run, or exceeds a limit."""


class QueryCrashed(Exception):
    """The process of the query has ended without an answer, and not by one of its limits."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of the process: memory and disk in megabytes, seconds of time, and threads."""

    memory: int
    disk: int
    seconds: int
    threads: int = 2


def run(
    sql: str,
    sources: Sequence[Mapping[str, Any]],
    output: Path,
    form: str,
    *,
    directory: Path,
    limits: Limits,
    heard: Callable[[str, float], None],
) -> Mapping[str, Any]:
    """Write the result of one SELECT to `output`, which exists, in a format that exports have.

    `heard` is called with a message and a share (0-1) of the reading, several times a second, and may raise: the
    process is ended then. Raises QueryFailed or QueryCrashed with words for people. Returns `rows`, and `sources` with
    what was read of each.
    """
    request = {
        "sql": sql,
        "sources": sources,
        "output": str(output),
        "format": form,
        "directory": str(directory),
        "parent": os.getpid(),
        **asdict(limits),
    }
    places = [str(Path(__file__).parents[1]), str(Path(tracking.__file__).parent)]
    errors = directory / "errors"
    with (
        errors.open("wb") as log_of_it,
        subprocess.Popen(
            [sys.executable, "-I", "-c", BOOT, *places],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log_of_it,
            cwd=directory,
            env={"LC_ALL": "C.UTF-8", "MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1", "HOME": str(directory)},
            start_new_session=True,
        ) as process,
    ):
        try:
            answer = _ask(process, json.dumps(request), directory, limits, heard)
            if answer is None:  # its end says why
                with suppress(subprocess.TimeoutExpired):
                    process.wait(GRACE)
        finally:
            process.kill()
    if answer is None:
        log.warning("query ended without an answer", status=process.returncode, frames=_frames(errors))
        raise _reason(process.returncode, errors, limits)
    if "refused" in answer:
        raise QueryFailed(answer["refused"])
    done: Mapping[str, Any] = answer["done"]
    return done


def _ask(
    process: subprocess.Popen[bytes], request: str, directory: Path, limits: Limits, heard: Callable[[str, float], None]
) -> Mapping[str, Any] | None:
    """The last answer of the process; None when it ends without one."""
    deadline = time.monotonic() + limits.seconds
    assert process.stdin is not None  # noqa: S101 - both are pipes
    assert process.stdout is not None  # noqa: S101 - as above
    process.stdin.write(request.encode() + b"\n")
    process.stdin.flush()
    news: Mapping[str, Any] = {"message": "Starting", "share": 0.0}
    for answer in _answers(process.stdout):
        if answer is not None and "message" not in answer:
            return answer
        _hold_to(limits, process.pid, directory, deadline)
        news = answer or news
        heard(news["message"], news["share"])
    return None


def _hold_to(limits: Limits, pid: int, directory: Path, deadline: float) -> None:
    if time.monotonic() > deadline:
        raise QueryFailed(f"the query took longer than {limits.seconds} s (CELERIAC_QUERY_TIMEOUT)")
    if _memory(pid) > (limits.memory + BESIDE) * MEGABYTE:
        raise QueryFailed(f"the query needs more than {limits.memory} MB of memory (CELERIAC_QUERY_MEMORY)")
    if _size(directory) > limits.disk * MEGABYTE:
        raise QueryFailed(f"the query needs more than {limits.disk} MB of disk (CELERIAC_QUERY_DISK)")


def _answers(output: IO[bytes]) -> Iterator[Mapping[str, Any] | None]:
    """Each answer of the process, and None whenever a moment passes without one, until its output ends."""
    descriptor, rest = output.fileno(), b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            if not selector.select(LOOK):
                yield None
                continue
            read = os.read(descriptor, 65536)
            if not read:
                return
            *lines, rest = (rest + read).split(b"\n")
            if len(rest) > LONGEST_ANSWER:
                raise QueryCrashed(f"the process of the query has answered with more than {LONGEST_ANSWER:,} bytes")
            yield from map(json.loads, lines)


def _reason(status: int, errors: Path, limits: Limits) -> Exception:
    """Why a process has ended with this status, without an answer."""
    if -status == signal.SIGXCPU:
        return QueryFailed(f"the query took longer than {limits.seconds} s of each processor (CELERIAC_QUERY_TIMEOUT)")
    if any(words in errors.read_text(errors="replace") for words in OUT_OF_MEMORY):
        return QueryFailed(f"the query needs more than {limits.memory} MB of memory (CELERIAC_QUERY_MEMORY)")
    if -status == signal.SIGKILL:
        return QueryCrashed("the process of the query was killed by the system: the machine may have no memory left")
    how = f"by {signal.Signals(-status).name}" if status < 0 else f"with exit status {status}"
    return QueryCrashed(f"the process of the query has crashed, {how}: that is a fault of ours, or of DuckDB")


def _memory(pid: int) -> int:
    """Bytes of memory that a process has now; 0 where nobody says."""
    try:
        status = Path(f"/proc/{pid}/statm").read_text()
    except OSError:
        return 0
    return int(status.split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _size(directory: Path) -> int:
    total = 0
    for path in directory.rglob("*"):
        try:
            total += path.lstat().st_size
        except FileNotFoundError:
            continue
    return total


def _frames(errors: Path) -> str:
    """The last words of the process: a traceback of our code, with nothing of the query or the data in it."""
    text = errors.read_text(errors="replace")
    return "\n".join(line for line in text.splitlines() if line.startswith("  File"))[-LONGEST_LOGGED:]
