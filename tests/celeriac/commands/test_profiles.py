"""Which API a command asks, and as whom: what `celeriac login` keeps, and nobody else reads."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from celeriac.commands.cli import command
from celeriac.commands.profiles import Profile, place
from tests.api.calling import Caller
from tests.commands import run
from tracking.exit_status import Exit


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def celeriac(*arguments: str, given: str | None = None) -> Result:
    """The result of a command."""
    return CliRunner().invoke(command, list(arguments), input=given)


def token_of(caller: Caller) -> str:
    return caller.headers["Authorization"].removeprefix("Bearer ")


def test_a_profile_is_kept_used_and_forgotten(caller: Caller) -> None:
    """`login` keeps a profile in a file of mode 0600, commands use it, `logout` forgets it; no token is printed."""
    token = token_of(caller)
    made = celeriac("login", caller.api.url, given=f"{token}\n")
    assert made.exit_code == Exit.FINE, made.output
    assert made.stdout.startswith(f"default: u1 of {caller.organization}, for 9 min ")
    assert token not in made.output
    assert stat.S_IMODE(place().stat().st_mode) == 0o600
    assert stat.S_IMODE(place().parent.stat().st_mode) == 0o700
    caller.job()
    assert celeriac("jobs").stdout.count("\n") == 1
    celeriac("login", caller.api.url, "--profile", "other", given=token)
    assert json.loads(place().read_text()).keys() == {"default", "other"}
    assert celeriac("logout").exit_code == Exit.FINE
    missing = celeriac("jobs")
    assert (missing.exit_code, "there are other" in missing.stderr) == (Exit.MISUSED, True)
    assert celeriac("jobs", "--profile", "other").stdout.count("\n") == 1


def test_a_token_that_the_api_refuses_is_not_kept(caller: Caller) -> None:
    """`login` tries the token first, and keeps nothing that would not work; the line does not hold it."""
    for token in ("x" * 40, caller.api.token(exp=1), "two words", ""):
        refused = celeriac("login", caller.api.url, given=token)
        assert refused.exit_code == Exit.MISUSED
        assert not token or token not in refused.output
    assert not place().exists()


@pytest.mark.parametrize(
    "url", ["ftp://h", "nowhere", "http://[::1", "http://h/sign-in?ticket=t", "http://u:hunter2@127.0.0.1"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    """An address of another scheme, none, half of one, a page and one with a password are refused in one line."""
    refused = celeriac("login", url, given="t")
    assert (refused.exit_code, refused.stderr.count("\n")) == (Exit.MISUSED, 1)
    assert "hunter2" not in refused.output


def test_variables_that_cannot_be_sent_are_a_wrong_use(closed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """CELERIAC_URL without a scheme, or CELERIAC_TOKEN in two lines, ends a command with 2; the token is not shown."""
    for url, token in (("nowhere", "t"), (f"http://127.0.0.1:{closed}", "hun\nter2")):
        monkeypatch.setenv("CELERIAC_URL", url)
        monkeypatch.setenv("CELERIAC_TOKEN", token)
        refused = celeriac("jobs")
        assert (refused.exit_code, refused.stderr.count("\n")) == (Exit.MISUSED, 1), refused.stderr
        assert "ter2" not in refused.output


def test_an_api_that_is_away_is_status_3(closed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An API that does not answer ends a command with 3, and the line says which address."""
    monkeypatch.setattr("celeriac.commands.reaching.PATIENCE", 0.0)
    monkeypatch.setenv("CELERIAC_URL", f"http://127.0.0.1:{closed}")
    monkeypatch.setenv("CELERIAC_TOKEN", "t")
    away = celeriac("jobs")
    assert (away.exit_code, f"127.0.0.1:{closed}" in away.stderr) == (Exit.AWAY, True)


def test_a_file_that_others_may_read_is_refused(caller: Caller) -> None:
    """A file of profiles that others may read is not used, and the line says how to mend that."""
    celeriac("login", caller.api.url, given=token_of(caller))
    place().chmod(0o644)
    refused = celeriac("jobs")
    assert (refused.exit_code, "chmod 600" in refused.stderr) == (Exit.MISUSED, True)
    place().chmod(0o600)
    place().write_text("[]")
    assert celeriac("jobs").exit_code == Exit.MISUSED


def test_the_environment_may_say_it_instead(caller: Caller) -> None:
    """With CELERIAC_URL and CELERIAC_TOKEN a command needs no profile; a token alone is refused."""
    caller.job()
    shown = run("jobs", CELERIAC_URL=caller.api.url, CELERIAC_TOKEN=token_of(caller))
    assert (shown.status, shown.out.count("\n")) == (Exit.FINE, 1), shown
    assert run("jobs", CELERIAC_TOKEN="t").status == Exit.MISUSED


def test_a_profile_shows_no_token() -> None:
    """The text of a profile, which a log may hold, has no token."""
    assert "hunter2" not in repr(Profile("http://h", "hunter2"))


def test_one_way_is_taken() -> None:
    """A profile and the database exclude each other, and a name is an operator's."""
    assert celeriac("jobs", "--profile", "a", "--operator").exit_code == Exit.MISUSED
    assert celeriac("jobs", "--as", "u1").exit_code == Exit.MISUSED
