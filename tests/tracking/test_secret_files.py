"""Secrets in files, as Docker and Kubernetes mount them: NAME_FILE for each setting that is one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from tracking.errors import ConfigurationError
from tracking.settings import Settings, settings

URLS = {"DATABASE_URL": "postgresql://u:p@h/d", "BROKER_URL": "redis://:p@h:1/0"}
SECRETS = {
    **URLS,
    "DATABASE_DIRECT_URL": "postgresql://u:p@direct/d",
    "DATABASE_REPLICA_URL": "postgresql://u:p@replica/d",
    "CELERIAC_JWT_SECRET": "kY7uR2vQ9xW4zT1nB6mC3sD8fG5hJ0lP",
    "CELERIAC_JWT_FORMER_SECRET": "lP7uR2vQ9xW4zT1nB6mC3sD8fG5hJ0kY",
    "CELERIAC_JWKS_URL": "https://issuer.example.org/keys",
    "CELERIAC_REPORTS_URL": "postgresql://u:p@reports/d",
    "CELERIAC_SMTP_URL": "smtp://u:p@mail.example.org",
    "CELERIAC_METRICS_TOKEN": "ein-zwei-drei",
    "CELERIAC_OIDC_CLIENT_SECRET": "vier-fuenf",
}


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)
    settings.cache_clear()
    yield
    settings.cache_clear()


def fields() -> dict[str, str]:
    """The values of all settings that are secrets."""
    found = settings()
    secrets = [name for name, field in Settings.model_fields.items() if field.annotation is SecretStr]
    return {name: getattr(found, name).get_secret_value() for name in secrets}


def test_every_secret_can_be_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting that is a secret is read from the file that NAME_FILE names, without the line feed at its end."""
    for name, value in SECRETS.items():
        (tmp_path / name).write_text(f"{value}\n")
        monkeypatch.setenv(f"{name}_FILE", str(tmp_path / name))
    monkeypatch.setenv("CELERIAC_SMTP_FROM", "jobs@example.org")
    assert sorted(fields().values()) == sorted(SECRETS.values())


def test_an_empty_variable_beside_a_file_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is set to nothing, as compose files do, leaves the word to the file."""
    for name, value in URLS.items():
        (tmp_path / name).write_text(value)
        monkeypatch.setenv(name, "")
        monkeypatch.setenv(f"{name}_FILE", str(tmp_path / name))
    assert (fields()["database_url"], fields()["broker_url"]) == tuple(URLS.values())


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "cannot be read: No such file"), (b"", "is empty"), (b" \n", "is empty"), (b"\xff\xfe", "is no UTF-8")],
    ids=["missing", "empty", "blank", "no text"],
)
def test_a_file_that_holds_no_secret_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, reason: str
) -> None:
    """A file that is not there, is empty or is no text stops the start with one line that names variable and file."""
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("CELERIAC_JWT_SECRET_FILE", str(path))
    with pytest.raises(ConfigurationError, match=rf"^CELERIAC_JWT_SECRET_FILE: {path} {reason}"):
        settings()


def test_a_secret_is_given_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that is set both ways is refused: nobody could say which one holds."""
    monkeypatch.setenv("BROKER_URL", URLS["BROKER_URL"])
    monkeypatch.setenv("BROKER_URL_FILE", str(tmp_path / "secret"))
    with pytest.raises(ConfigurationError, match=r"^BROKER_URL and BROKER_URL_FILE are both set"):
        settings()


@pytest.mark.parametrize("name", ["CELERIAC_POOL_SIZE_FILE", "CELERIAC_DIRECT_URL"])
def test_only_secrets_are_read_from_files(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A file for what is no secret, and the name that a setting does not have, are refused as any other slip."""
    monkeypatch.setenv(name, "1")
    with pytest.raises(ConfigurationError, match=rf"^{name} is not a setting"):
        settings()


def test_a_wrong_secret_in_a_file_is_named_and_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong in a file is told by the name of its setting, without its content."""
    (tmp_path / "secret").write_text("mysql://root:hunter2@h/d")
    monkeypatch.setenv("DATABASE_DIRECT_URL_FILE", str(tmp_path / "secret"))
    with pytest.raises(ConfigurationError, match=r"^DATABASE_DIRECT_URL: ") as refused:
        settings()
    assert "hunter2" not in str(refused.value)
