"""How each command of `celeriac` ends, in this process when it starts no other."""

from __future__ import annotations

from click.testing import CliRunner

from celeriac.commands.cli import command
from tests.commands import Ended, run
from tracking.exits import Exit

SECRET = "hunter2"

SAID = ("--job-type", "cleanup", "--every", "1h")
COMMANDS = {
    "up": ("up", "--port", "0"),
    "api": ("api", "--port", "0"),
    "worker": ("worker", "--concurrency", "1"),
    "migrate": ("migrate",),
    "dead-letters": ("dead-letters",),
    "verify": ("verify",),
    "prune": ("prune",),
    "limit": ("limit", "acme", "5"),
    "pause": ("pause", "--job-type", "export_report"),
    "resume": ("resume", "--organization", "acme"),
    "types": ("types", "add", "ocr"),
    "schedules": (*("schedules", "add", "s", "--organization", "acme", "--user", "u1"), *SAID),
    "workflows": ("workflows", "list", "--organization", "acme"),
    "bulk": ("bulk", "list", "--organization", "acme"),
    "token": ("token", "--organization", "acme", "--user", "u1"),
}
LASTING = ("api", "up", "worker")  # started as a process of its own
BRIEF = tuple(sorted(COMMANDS.keys() - LASTING - {"token"}))  # and with a database
WITHOUT_SETTINGS = {"demo"}  # it runs a platform of its own, whatever the caller's settings are


def ended(name: str, *more: str) -> Ended:
    """How a command ends: in this process when it starts no other."""
    arguments = (*COMMANDS.get(name, (name,)), *more)
    if name in LASTING:
        return run(*arguments)
    return failing(*arguments)


def failing(*arguments: str) -> Ended:
    """How a command ends that starts nothing."""
    result = CliRunner().invoke(command, list(arguments))
    return Ended(result.exit_code, result.stdout, result.stderr)


def check(end: Ended, status: Exit, words: str) -> None:
    """It ended so: the one line is the last on stderr, and there is neither a traceback nor the secret."""
    faults = [line for line in end.err.splitlines() if line.startswith("celeriac: ") or "worker.failed" in line]
    assert (end.status, faults) == (status, [end.last]), end
    assert words in end.last
    assert "Traceback" not in end.out + end.err
    assert SECRET not in end.out + end.err
