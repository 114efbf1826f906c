"""What `GET /v1/doctor` and `celeriac doctor` look at: all of the platform, and the secrets of this process."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from urllib.parse import urlsplit

from api.secrets import SECRET_FILE, signing_secret
from tasks.doctor import broker, database, workers
from tasks.doctor.findings import Check, Finding, examine, failed, fine, warning
from tasks.platform import Platform
from tracking.errors import ConfigurationError
from tracking.settings import Settings

GUEST = ("guest", "admin", "password", "celeriac", "postgres")  # passwords that are tried first
LOOPBACK = ("localhost", "127.0.0.1", "::1", None, "")
OTHERS = 0o077


def findings(platform: Platform) -> Sequence[Finding]:
    """What all checks find; at most half a minute, with a canary job through each queue."""
    return examine(
        [
            *database.checks(platform.settings),
            *broker.checks(platform),
            *workers.checks(platform),
            Check("secrets", lambda: _secrets(platform.settings)),
        ]
    )


def _secrets(settings: Settings) -> Sequence[Finding]:
    return [_signing(settings), _passwords(settings)]


def _signing(settings: Settings) -> Finding:
    if settings.jwks_url.get_secret_value():
        return fine("secrets", "tokens are signed by another issuer, whose public keys are fetched")
    try:
        signing_secret(settings)
    except ConfigurationError as error:
        return failed("secrets", str(error), "`openssl rand -base64 48` makes a good one, for CELERIAC_JWT_SECRET")
    path = settings.data_dir / SECRET_FILE
    if settings.data_dir.exists() and stat.S_IMODE(settings.data_dir.stat().st_mode) & OTHERS and path.exists():
        return warning("secrets", f"others may enter {settings.data_dir}", f"chmod 700 {settings.data_dir}")
    return fine("secrets", "the secret that signs tokens is long, and none that is published")


def _passwords(settings: Settings) -> Finding:
    """Of servers on other hosts: nobody else reaches those of this one."""
    weak = []
    for name, url in (("DATABASE_URL", settings.database), ("BROKER_URL", settings.broker)):
        parts = urlsplit(url)
        if parts.hostname not in LOOPBACK and (parts.password or "") in ("", *GUEST):
            weak.append(name)
    if weak:
        said = f"{' and '.join(weak)}: no password, or one that is tried first"
        return warning("passwords", said, "give the server a user and a password of its own")
    return fine("passwords", "those of database and broker are none that are tried first")
