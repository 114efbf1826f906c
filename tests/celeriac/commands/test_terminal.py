"""What commands show in a terminal: tables, a bar; and what a job says is never obeyed."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess

import pytest

from tests.api.calling import EVERYTHING, Caller
from tests.celeriac.commands.asking import environment_of
from tests.celeriac.commands.terminal import Terminal
from tests.celeriac.test_client import settle
from tests.commands import PROGRAM
from tracking.exit_status import Exit


def test_a_list_is_a_table_in_which_nothing_is_obeyed(caller: Caller) -> None:
    """In a terminal a list has a head and colours, times are how long ago, and a code in a message is shown."""
    caller.report(caller.job("running"), message="\x1b]0;owned\x07 [red]not markup[/red]")
    terminal = Terminal(caller, "jobs")
    assert terminal.end() == Exit.FINE
    assert re.search(r"id +type +status +hold", terminal.shown)
    assert re.search(r"\d+ s ago", terminal.shown)
    assert "\\x1b]0;owned\\x07 [red]not markup[/red]" in terminal.shown
    assert "\x1b]0;" not in terminal.raw
    assert "\x1b[36mrunning" in terminal.raw


def test_ids_are_whole_in_a_narrow_terminal(caller: Caller) -> None:
    """The id of a job is whole in a list, be the terminal ever so narrow."""
    job = caller.job("failed")
    terminal = Terminal(caller, "jobs", columns=80)
    assert terminal.end() == Exit.FINE
    assert str(job.id) in terminal.shown


@pytest.mark.parametrize("columns", [40, 80])
def test_a_narrow_terminal_shows_all_of_each_job(caller: Caller, columns: int) -> None:
    """Where a terminal is too narrow for a table, each job has lines of its own, in which no word is cut off."""
    job = caller.job("failed", job_type="guarded")
    caller.job("running", job_type="a_type_with_a_long_name")
    terminal = Terminal(caller, "jobs", columns=columns)
    assert terminal.end() == Exit.FINE
    for said in (str(job.id), "type guarded", "status failed", "says broken", "type a_type_with_a_long_name"):
        assert said in terminal.shown
    assert max(map(len, terminal.shown.splitlines())) <= columns


def test_a_table_cuts_off_no_word(caller: Caller) -> None:
    """In a table of a list only long texts give way, in further lines."""
    message = "row after row has to be read again"
    caller.report(caller.job("running"), message=message)
    terminal = Terminal(caller, "jobs", columns=132)
    assert terminal.end() == Exit.FINE
    assert re.search(r"open +running +- +0 +1/4 ", terminal.shown)
    assert "…" not in terminal.shown
    assert all(word in terminal.shown for word in message.split()), terminal.shown


@pytest.mark.parametrize("verb", ["cancel", "delete"])
def test_what_nobody_can_take_back_is_asked_about(caller: Caller, verb: str) -> None:
    """In a terminal a bulk cancel or delete by a filter begins after a yes alone, or with --yes; ids need none."""
    caller = caller.but(permissions=(*EVERYTHING, "jobs.delete_jobs"))
    job = caller.job("queued" if verb == "cancel" else "failed")
    asking = ("bulk", verb, "--status", job.status)
    refused = Terminal(caller, *asking)
    assert f"{verb.capitalize()} 1 job, for good? [y/N]" in refused.until(lambda shown: "[y/N]" in shown)
    refused.press("n\n")
    assert refused.end() == Exit.MISUSED
    assert "Nothing was begun" in refused.shown
    agreed = Terminal(caller, *asking)
    agreed.until(lambda shown: "[y/N]" in shown)
    agreed.press("y\n")
    assert agreed.end() == Exit.FINE
    for unasked in ((*asking, "--yes"), ("bulk", verb, "--id", str(job.id))):
        told = Terminal(caller, *unasked)
        assert (told.end(), "[y/N]" in told.shown) == (Exit.FINE, False)
    assert len(caller.get("/v1/bulk").json()["operations"]) == 3


def test_a_list_into_nowhere_is_no_fault(caller: Caller) -> None:
    """A command whose output is closed does what it does, and says nothing."""
    shell = ("sh", "-c", f"exec {shlex.quote(str(PROGRAM))} jobs >&-")
    done = subprocess.run(shell, env={**os.environ, **environment_of(caller)}, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (Exit.FINE, b"")


def test_an_empty_list_says_so(caller: Caller) -> None:
    """In a terminal an empty list says that nothing matches."""
    terminal = Terminal(caller, "jobs")
    assert terminal.end() == Exit.FINE
    assert "No job matches." in terminal.shown


def test_a_watch_is_a_bar_that_moves(caller: Caller) -> None:
    """In a terminal a watch shows the percentage and the message as they come, the end, and the result as JSON."""
    job = caller.job("running")
    terminal = Terminal(caller, "watch", str(job.id))
    terminal.until(lambda shown: "running" in shown)
    caller.report(job, percent=40, message="Page 4 of 10")
    terminal.until(lambda shown: "40 %" in shown and "Page 4 of 10" in shown)
    settle(caller, job.id, {"text": "one\ntwo", "number": 1})
    assert terminal.end() == Exit.FINE
    end = terminal.shown.partition(f"succeeded  open  {job.id}")[2]
    assert json.loads(end[end.index("{") :]) == {"text": "one\ntwo", "number": 1}


def test_a_watch_gives_the_cursor_back(caller: Caller) -> None:
    """A watch has hidden the cursor: Ctrl-Z shows it, `fg` hides it again, and an end by a signal shows it as well."""
    terminal = Terminal(caller, "watch", str(caller.job("running").id))
    terminal.until(lambda shown: "running" in shown)
    terminal.signal(signal.SIGTSTP)
    terminal.until(lambda _: "\x1b[?25h\x1b[?25l" in terminal.raw)
    terminal.signal(signal.SIGTERM)
    assert terminal.end() == 128 + signal.SIGTERM
    assert terminal.raw.rindex("\x1b[?25h") > terminal.raw.rindex("\x1b[?25l")


def test_a_watch_in_a_terminal_that_only_appends_prints_lines(caller: Caller) -> None:
    """Where nothing is drawn anew, as in the terminal of an editor, a watch prints a line each time."""
    job = caller.job("running")
    terminal = Terminal(caller, "watch", str(job.id), term="dumb")
    terminal.until(lambda shown: f"{job.id}\trunning\t0" in shown)
    caller.report(job, percent=40, message="Page 4 of 10")
    terminal.until(lambda shown: "\t40\tPage 4 of 10" in shown)
    settle(caller, job.id)
    assert terminal.end() == Exit.FINE
