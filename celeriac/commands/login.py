"""A profile that is kept once its token has been tried."""

from __future__ import annotations

from datetime import UTC, datetime

import click
import jwt

from celeriac.client import ApiError, Client
from celeriac.client.transport import parts_of
from celeriac.commands.profiles import Profile, keep
from celeriac.commands.screen import clean, span
from tracking.errors import ConfigurationError

LOOPBACK = ("localhost", "127.0.0.1", "::1")
DENIED = 403
PATIENCE = 5.0  # seconds for the API to answer


def keep_profile(name: str, url: str, token: str) -> None:
    """Keep it, and say whose token it is. Raises ConfigurationError or ApiError for what would not work."""
    try:
        parts = parts_of(url)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    if parts.username or parts.password:
        raise ConfigurationError("an address holds no user and password here: there is the token")
    if not token or not token.isascii() or any(letter.isspace() for letter in token):
        raise ConfigurationError("that is no token: `celeriac token` prints one")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        click.echo(f"celeriac: warning: without https the token is readable on its way to {parts.hostname}", err=True)
    _try(url, token)
    place = keep(name, Profile(url, token))
    click.echo(f"{name}: {_whose(token)} at {url}, kept in {place}.")


def _try(url: str, token: str) -> None:
    with Client(url, token, patience=PATIENCE) as client:
        try:
            client.job_types()
        except ApiError as error:
            if error.status != DENIED:  # a token without this permission is a good one
                raise


def _whose(token: str) -> str:
    """Whom the token names, by its own words, which the API has checked."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
        left = span(datetime.fromtimestamp(claims["exp"], UTC).timestamp() - datetime.now(UTC).timestamp())
        return clean(f"{claims['sub']} of {claims['org']}, for {left}")
    except (jwt.PyJWTError, LookupError, TypeError, ValueError, OverflowError):
        return "a token"
