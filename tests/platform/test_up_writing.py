"""`celeriac up` while handlers are written: quiet, with their failures, and their changes taken; and Flower."""

from __future__ import annotations

import signal
import socket
import stat
from pathlib import Path

import httpx2

from tests.live import eventually
from tests.platform.test_up import Up

BROKEN = """
from celeriac import BaseModel, Job, app


class Payload(BaseModel):
    word: str = ""


@app.task(bind=True, pydantic=True, name="say", public=True, max_retries=0)
def say(self: Job, payload: Payload) -> dict[str, str]:
    return {"said": spell(payload.word)}


def spell(word: str) -> str:
    raise LookupError(f"no such word: {word!r}")
"""
MENDED = BROKEN.replace('raise LookupError(f"no such word: {word!r}")', "return word.upper()")


def test_up_is_quiet_shows_failures_and_reloads(tmp_path: Path) -> None:
    """The ready block is the last of it; a failure has type, message and own frames; a change of a file is taken."""
    (tmp_path / "words.py").write_text(BROKEN)
    up = Up(tmp_path, "--imports", "words", "--queues", "default", "--reload")
    try:
        up.wait()
        eventually(lambda: any("signs in once" in line for line in up.printed), what="the ready block")
        begin = next(number for number, line in enumerate(up.printed) if line.startswith("Celeriac is ready: "))
        assert up.printed[:begin] == []
        quiet = len(up.printed)
        up.environment["CELERIAC_IMPORTS"] = "words"
        arguments = ("say", "--payload", '{"word": "hi"}', "--operator", "--wait", "--within", "60s")
        failed = up.run("submit", *arguments)
        assert (failed.status, failed.err) == (1, "")
        eventually(lambda: len(up.printed) > quiet + 2, within=20, what="the failure")
        shown = "\n".join(up.printed[quiet:])
        assert "attempt 1: LookupError: no such word: 'hi'" in shown
        assert "words.py:11 in say" in shown
        assert "words.py:15 in spell" in shown
        assert "site-packages" not in shown
        (tmp_path / "words.py").write_text(MENDED)
        eventually(lambda: any("changed: words.py" in line for line in up.printed), within=20, what="the reload")
        eventually(lambda: up.run("submit", *arguments).status == 0, within=60, what="the new code")
        assert up.end(signal.SIGTERM) == 0
    finally:
        up.end(signal.SIGKILL)


def test_flower_is_run_behind_a_password(tmp_path: Path) -> None:
    """`up --flower` runs Flower, quietly, with the handlers of the directory, behind a password that it alone keeps."""
    (tmp_path / "words.py").write_text(MENDED)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    up = Up(tmp_path, "--imports", "words", "--flower", "--flower-port", str(port))
    try:
        up.wait()
        address = f"http://127.0.0.1:{port}/api/workers"
        kept = up.data_dir / "flower_password"
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert httpx2.get(address, timeout=30).status_code == 401
        assert httpx2.get(address, auth=("celeriac", kept.read_text()), timeout=30).status_code == 200
        assert not [process for process in up.family() if kept.read_text() in " ".join(process.cmdline())]
        assert not [line for line in up.printed if kept.read_text() in line or line.startswith("flower ")]
        assert up.end(signal.SIGTERM) == 0
    finally:
        up.end(signal.SIGKILL)
