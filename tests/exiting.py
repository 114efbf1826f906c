"""How each command of `celeriac` ends, in this process when it starts no other."""

from __future__ import annotations

from click.testing import CliRunner

from celeriac.commands.cli import command
from tests.commands import Ended, run
from tracking.exit_status import Exit

SECRET = "hunter2"

SAID = ("--job-type", "cleanup", "--every", "1h")
MINE = ("--organization", "acme")  # by the database itself, as an operator
SOME = "019aa0f3-7c1e-7d5a-9f57-3a1f6a0c9d11"
COMMANDS = {
    "submit": ("submit", "export_report", *MINE),
    "jobs": ("jobs", *MINE),
    "job": ("job", SOME, *MINE),
    "watch": ("watch", SOME, *MINE),
    "explain": ("explain", SOME, *MINE),
    "cancel": ("cancel", SOME, *MINE),
    "retry": ("retry", SOME, *MINE),
    "history": ("history", *MINE),
    "stats": ("stats", *MINE),
    "events": ("events", *MINE),
    "top": ("top", *MINE),
    "queues": ("queues", *MINE),
    "workers": ("workers", *MINE),
    "limits": ("limits", "list", *MINE),
    "denied-tokens": ("denied-tokens", "list", *MINE),
    "pauses": ("pauses", *MINE),
    "circuits": ("circuits", *MINE),
    "errors": ("errors", "list", *MINE),
    "audit": ("audit", *MINE),
    "templates": ("templates", "list", *MINE),
    "views": ("views", "list", *MINE),
    "webhooks": ("webhooks", "list", *MINE),
    "up": ("up", "--port", "0"),
    "api": ("api", "--port", "0"),
    "worker": ("worker", "--concurrency", "1"),
    "migrate": ("migrate",),
    "roles": ("roles",),
    "dead-letters": ("dead-letters",),
    "verify": ("verify",),
    "restore-check": ("restore-check",),
    "prune": ("prune",),
    "limit": ("limit", "acme", "5"),
    "pause": ("pause", "--job-type", "export_report"),
    "resume": ("resume", "--organization", "acme"),
    "types": ("types", "add", "ocr"),
    "schedules": (*("schedules", "add", "s", *MINE, "--user", "u1"), *SAID),
    "workflows": ("workflows", "list", *MINE),
    "bulk": ("bulk", "list", *MINE),
    "token": ("token", "--organization", "acme", "--user", "u1"),
}
LASTING = ("api", "up", "worker")  # started as a process of its own
BRIEF = tuple(sorted(COMMANDS.keys() - LASTING - {"token"}))  # and with a database
# They run a platform of their own, or ask none, whatever the settings are; and one tells what is wrong with them.
WITHOUT_SETTINGS = {"data", "demo", "init", "doctor", "login", "logout", "completion"}


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
