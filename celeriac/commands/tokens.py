"""Tokens for the API, signed with the secret that it checks them with."""

from __future__ import annotations

import time
from collections.abc import Collection
from uuid import uuid4

import click
import jwt

from api.secrets import SECRET_FILE, signing_secret
from celeriac.commands import registered
from celeriac.commands.names import similar
from celeriac.commands.published import import_published
from tracking.errors import ConfigurationError
from tracking.settings import Settings

PLATFORM = registered.IN_ORGANIZATION | registered.OF_PLATFORM


def make_token(
    configured: Settings, organization: str, user: str, permissions: Collection[str], *, seconds: int, admin: bool
) -> str:
    """A token with these claims; `admin` adds every permission in the organization, those of the handlers too.

    Permissions that nothing asks for are warned of on stderr. Raises ConfigurationError where there is no secret.
    """
    secret = _secret(configured)
    if admin or not PLATFORM.issuperset(permissions):
        import_published(configured)
    granted = {*permissions, *(registered.IN_ORGANIZATION | registered.permissions() if admin else ())}
    _warn_of_unknown(granted)
    now = int(time.time())
    claims = {
        "sub": user,
        "org": organization,
        "permissions": sorted(granted),
        "iat": now,
        "exp": now + seconds,
        "iss": configured.jwt_issuer,
        "aud": configured.jwt_audience,
        "jti": uuid4().hex,  # `celeriac denied-tokens` names it by that
    }
    return jwt.encode(claims, secret, algorithm="HS256")


def _secret(configured: Settings) -> str:
    """The secret of the API. Raises ConfigurationError instead of making one that no API would know."""
    if configured.jwks_url.get_secret_value():
        raise ConfigurationError("CELERIAC_JWKS_URL is set: get a token from that issuer, the API takes no other")
    has_own = configured.jwt_secret.get_secret_value() or configured.database_url.get_secret_value()
    if not has_own and not (configured.data_dir / SECRET_FILE).exists():
        raise ConfigurationError(
            f"there is no secret to sign with: set CELERIAC_JWT_SECRET to the API's, or call this where `celeriac up`"
            f" keeps its own ({configured.data_dir / SECRET_FILE})"
        )
    return signing_secret(configured)


def _warn_of_unknown(granted: Collection[str]) -> None:
    if PLATFORM.issuperset(granted):
        return
    known = PLATFORM | registered.permissions()
    for permission in sorted(set(granted) - known):
        hint = similar(permission, known)
        click.echo(f"celeriac: warning: nothing asks for the permission {permission!r}{hint}", err=True)
    if not known.issuperset(granted):
        click.echo(f"celeriac: known permissions: {', '.join(sorted(known))}", err=True)
