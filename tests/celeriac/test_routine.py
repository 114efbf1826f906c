"""What of all that its servers print `celeriac up` shows."""

from __future__ import annotations

import pytest

from celeriac.embedded.up import show_trouble

STOPPED = (
    "10576:M 30 Nov 2026 05:12:41.873 # Valkey is now ready to exit, bye bye...",
    "10576:M 30 Nov 2026 05:12:41.873 # Redis is now ready to exit, bye bye...",
    "10576:signal-handler (1796015561) Received SIGTERM scheduling shutdown...",
    "FATAL:  terminating connection due to administrator command",
)
TROUBLE = (
    "10576:M 30 Nov 2026 05:12:41.873 # Can't save in background: fork: Cannot allocate memory",
    "FATAL:  sorry, too many clients already",
)


@pytest.mark.parametrize("line", STOPPED)
def test_a_stop_is_quiet(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What servers say when they are stopped, as each Ctrl-C does, is not shown."""
    show_trouble("a part", line)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("line", TROUBLE)
def test_trouble_is_shown(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong with a server is shown, with the part that says it."""
    show_trouble("a part", line)
    assert f"| {line}" in capsys.readouterr().err
