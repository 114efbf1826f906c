"""Whose certificates are trusted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks.authorities import trusted
from tests.receiving import make_certificate


def test_the_authorities_are_read_again_when_their_file_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To read them takes longer than a request: it is done once, and again for another file or other contents."""
    file = make_certificate(tmp_path, "hook.test")
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    first = trusted()
    assert trusted() is first
    os.utime(file, ns=(1, 1))
    assert trusted() is not first


def test_a_directory_of_authorities_is_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate that was put into the directory of SSL_CERT_DIR has it read again."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    first = trusted()
    assert trusted() is first
    os.utime(tmp_path, ns=(1, 1))
    assert trusted() is not first
