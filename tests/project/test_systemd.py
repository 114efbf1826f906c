"""docs/systemd: its units are units, and run commands that there are, with settings that there are."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from celeriac.commands.cli import command
from tests.project.test_handler_docs import blocks
from tests.project.test_project import ROOT
from tracking.settings import QUEUES, Settings

UNITS = sorted((ROOT / "docs" / "systemd").glob("*.service"))
MOST_EXPOSED = 3.0  # of 10, as systemd counts it; "OK" ends at 5
UNCONFINED = {"celeriac-migrate.service"}  # it runs for a moment, with no limit of memory


def said(unit: Path, name: str) -> list[str]:
    """The values of a directive, in their order."""
    return re.findall(rf"^{name}=(.*)$", unit.read_text(), re.MULTILINE)


def installed(unit: Path, directory: Path) -> Path:
    """A copy that runs this installation."""
    text = unit.read_text().replace("/opt/celeriac/bin/celeriac", str(Path(sys.executable).with_name("celeriac")))
    copy = directory / unit.name.replace("@", "@default")
    copy.write_text(text)
    return copy


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_runs_a_command_that_there_is(unit: Path) -> None:
    """The program of a unit is a command of `celeriac` with options that it has."""
    (line,) = said(unit, "ExecStart")
    program, name, *options = shlex.split(line.replace("%i", QUEUES[0]))
    assert program == "/opt/celeriac/bin/celeriac"
    found = command.get_command(None, name)  # type: ignore[arg-type]  # it needs no context
    assert found is not None
    found.make_context(name, options)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_is_restarted_unless_it_is_set_wrong(unit: Path) -> None:
    """A unit comes back after a failure, and not after status 2; a worker is given longer than its grace period."""
    assert (said(unit, "Restart"), said(unit, "RestartPreventExitStatus")) == (["on-failure"], ["2"])
    if "worker" in unit.name:
        (grace,) = re.findall("CELERIAC_SHUTDOWN_GRACE=([0-9]+)$", unit.read_text(), re.MULTILINE)
        (minutes,) = re.findall("^TimeoutStopSec=([0-9]+)min$", unit.read_text(), re.MULTILINE)
        assert int(grace) < int(minutes) * 60
        assert said(unit, "KillMode") == ["mixed"]
        assert said(unit, "RestrictNamespaces") == ["user net"]  # which queries need
    if unit.name not in UNCONFINED:
        assert said(unit, "MemoryMax")
        assert said(unit, "TasksMax")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_finds_no_fault(unit: Path, tmp_path: Path) -> None:
    """Systemd itself understands each line of a unit, and counts it as little exposed."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze on this machine")
    for each in UNITS:
        installed(each, tmp_path)
    copy = installed(unit, tmp_path)
    verified = subprocess.run(
        [analyze, "verify", "--man=no", "--recursive-errors=no", str(copy)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert [line for line in verified.stderr.splitlines() if copy.name in line] == []
    rated = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", str(copy)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found = re.search(r"exposure level for [^:]+: ([0-9.]+)", rated.stdout)
    assert found is not None, rated.stderr
    assert float(found[1]) <= MOST_EXPOSED


def test_the_page_installs_what_there_is() -> None:
    """The commands and settings of the page name units, queues and settings that there are."""
    lines = "\n".join([*blocks("operations.md", "sh"), *blocks("operations.md", "ini")])
    enabled = re.search(r"systemctl enable --now (.*)", lines)
    assert enabled is not None
    names = {name.partition("@")[0] for name in enabled[1].split()}
    assert names <= {unit.name.removesuffix(".service").partition("@")[0] for unit in UNITS}
    assert {name.partition("@")[2] for name in enabled[1].split()} - {""} == set(QUEUES)
    properties = Settings.model_json_schema()["properties"]
    known = {name if name.isupper() else f"CELERIAC_{name.upper()}" for name in properties}
    (settings,) = [block for block in blocks("operations.md", "ini") if "celeriac.env" in block]
    assert set(re.findall(r"^(\w+)=", settings, re.MULTILINE)) <= known
