"""The key that signs tokens: from the environment, or made once for the embedded default."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from tracking.errors import ConfigurationError
from tracking.settings import Settings

SHORTEST = 32  # bytes: an HS256 key shorter than its hash is weaker than it (RFC 7518 §3.2)
FEWEST_CHARACTERS = 8  # different ones: "aaaa…" is long, not secret
SECRET_FILE = "jwt_secret"  # noqa: S105  a file's name
# Published in documentation and tutorials, and therefore in every attacker's list.
SAMPLES = frozenset(
    {
        "a-string-secret-at-least-256-bits-long",
        "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
        "0123456789abcdef0123456789abcdef",
        "abcdefghijklmnopqrstuvwxyz123456",
        "abcdefghijklmnopqrstuvwxyz0123456789",
    }
)
SAMPLE_WORDS = ("changeme", "change-me", "change_me", "your-secret", "your_secret", "yoursecret", "example", "insecure")


def signing_secret(settings: Settings) -> str:
    """The HS256 key. The embedded default makes one on first need and keeps it, mode 0600, in the data directory.

    Raises ConfigurationError when a key is needed and not set, or is one that could be guessed.
    """
    secret = settings.jwt_secret.get_secret_value()
    if secret:
        return _require_strong("CELERIAC_JWT_SECRET", secret)
    if settings.database_url.get_secret_value():
        raise ConfigurationError("CELERIAC_JWT_SECRET (or CELERIAC_JWKS_URL) is needed together with DATABASE_URL")
    path = settings.data_dir / SECRET_FILE
    if not path.exists():
        _make(path)
    return _require_strong(str(path), _read(path))


def former_secret(settings: Settings) -> str | None:
    """The HS256 key that is being replaced; None: there is none. Raises ConfigurationError for one that is weak."""
    former = settings.jwt_former_secret.get_secret_value()
    return _require_strong("CELERIAC_JWT_FORMER_SECRET", former) if former else None


def _require_strong(name: str, secret: str) -> str:
    if len(secret.encode()) < SHORTEST:
        raise ConfigurationError(f"{name}: shorter than {SHORTEST} bytes")
    folded = secret.casefold()
    if folded in SAMPLES or any(word in folded for word in SAMPLE_WORDS) or len(set(secret)) < FEWEST_CHARACTERS:
        raise ConfigurationError(f"{name}: a sample or too simple; `openssl rand -base64 48` makes a good one")
    return secret


def _make(path: Path) -> None:
    """Write the file beside its place and link it there: of two processes one wins, and none reads half a key."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(48))
        try:
            os.link(partial, path)
        except FileExistsError:
            return  # the other process was first; its key counts
        finally:
            partial.unlink()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be made: {error.strerror}") from None


def _read(path: Path) -> str:
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigurationError(f"{path} can be read by others: delete it, and a new one is made")
        return path.read_text().strip()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is no UTF-8: delete it, and a new one is made") from None
