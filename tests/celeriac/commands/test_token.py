"""`celeriac token` makes tokens that the API takes, or says why not."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import jwt
import pytest

from celeriac.embedded.processes import hold
from tests.commands import PROGRAM
from tests.exiting import check, ended
from tracking.exit_status import Exit
from tracking.settings import IMPORTS, SERVERS_FILE


def test_no_directory_gets_a_secret_from_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`celeriac token` makes no secret, since no API would know it."""
    for name in ("DATABASE_URL", "BROKER_URL", "CELERIAC_JWT_SECRET"):
        monkeypatch.delenv(name)
    check(ended("token"), Exit.MISUSED, "there is no secret to sign with: set CELERIAC_JWT_SECRET")
    assert list(tmp_path.iterdir()) == []


def test_tokens_of_an_issuer_come_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """`celeriac token` refuses when the API takes the tokens of an issuer."""
    monkeypatch.setenv("CELERIAC_JWKS_URL", "https://keys.invalid/keys")
    check(ended("token"), Exit.MISUSED, "get a token from that issuer")


def test_a_permission_that_nothing_asks_for_is_warned_of() -> None:
    """`celeriac token` warns of an unknown permission and makes the token all the same."""
    end = ended("token", "--permission", "jobs.veiw_jobs", "--permission", "reports.export_reports")
    first, second = end.err.splitlines()
    assert (end.status, end.out.count(".")) == (Exit.FINE, 2)
    assert first == (
        "celeriac: warning: nothing asks for the permission 'jobs.veiw_jobs': did you mean 'jobs.view_jobs'?"
    )
    assert second.startswith("celeriac: known permissions: ")
    assert "reports.export_reports" in second


def test_the_handlers_of_up_are_known_where_it_runs(handlers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a running `celeriac up` a command knows its handlers; one that is being mended stops none."""
    code = "from celeriac import app\n\n@app.task(name='mine', permission='shop.{0}')\ndef {0}(): ...\n"
    handlers.write_text(code.format("sell"))
    handlers.with_name("mended.py").write_text("def misspelt(:\n")
    monkeypatch.delenv("CELERIAC_IMPORTS")
    published = Path(os.environ["CELERIAC_DATA_DIR"]) / SERVERS_FILE
    published.parent.mkdir()
    published.write_text(json.dumps({IMPORTS: "mended,handlers_of_mine"}))
    asked = [str(PROGRAM), "token", "--organization", "acme", "--user", "u1", "--admin"]
    alone = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert "shop.sell" not in jwt.decode(alone.stdout.strip(), options={"verify_signature": False})["permissions"]
    with hold(published.parent):
        end = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert end.returncode == Exit.FINE, end.stderr
    assert "shop.sell" in jwt.decode(end.stdout.strip(), options={"verify_signature": False})["permissions"]
    assert "'mended' cannot be imported: SyntaxError" in end.stderr


@pytest.mark.parametrize(
    "options", [("--expires", "25h"), ("--organization", ""), ("--user", "x" * 300), ("--expires", "-1h")]
)
def test_claims_that_make_no_sense_are_refused(options: tuple[str, str]) -> None:
    """`celeriac token` refuses claims that the API would refuse, and lifetimes beyond a day."""
    check(ended("token", *options), Exit.MISUSED, options[0])
