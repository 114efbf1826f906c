"""Who looks at the dashboard: a session behind a cookie, opened with a token or with a link that works once."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection
from starlette.responses import Response

from api.auth import Principal, Verifier, unauthorized
from api.problems import Code, Problem
from tasks.platform import Platform
from tracking import sessions, tickets
from tracking.tickets import Purpose, Rights

SECURE_COOKIE = "__Host-celeriac"  # the prefix has browsers refuse it from other hosts, paths, and without TLS
LOOPBACK_COOKIE = "celeriac"  # on this machine, where there is no TLS
LOOPBACK = ("localhost", "127.0.0.1", "::1")


async def visitor(connection: HTTPConnection) -> Principal | None:
    """Whose session the cookie is of; None: it is over, or there is none."""
    secret = connection.cookies.get(_cookie_of(connection) or "")
    return await run_in_threadpool(_find, connection.app.state.platform, secret) if secret else None


async def sign_in_with_token(connection: HTTPConnection, token: str) -> tuple[Principal, str]:
    """Who signs in, and the secret of the session, which ends with the token at the latest. Raises Problem."""
    _require_safe(connection)
    verifier: Verifier = connection.app.state.verifier
    principal = await verifier.principal(token)
    until = datetime.fromtimestamp(principal.expires, UTC)
    rights = Rights(principal.organization, principal.user, principal.permissions, until)
    return principal, await run_in_threadpool(_begin, connection.app.state.platform, rights)


async def sign_in_with_link(connection: HTTPConnection, ticket: str) -> tuple[Principal, str]:
    """The same with the ticket of a link, which is spent by it. Raises Problem."""
    _require_safe(connection)
    platform: Platform = connection.app.state.platform
    rights = await run_in_threadpool(_spend, platform, ticket)
    if rights is None:
        raise unauthorized(Code.TICKET_INVALID, "The link has been used, or its time is over: get another one.")
    return _principal(rights), await run_in_threadpool(_begin, platform, rights)


async def sign_out(connection: HTTPConnection) -> None:
    """End the session, in all windows of the browser."""
    secret = connection.cookies.get(_cookie_of(connection) or "")
    if secret:
        await run_in_threadpool(_end, connection.app.state.platform, secret)


def remember(connection: HTTPConnection, response: Response, secret: str | None) -> None:
    """Have the browser keep the secret of a session; None: forget it."""
    name = _cookie_of(connection)
    if name is None:
        return
    lifetime = int(sessions.LONGEST.total_seconds()) if secret else 0
    is_secure = name == SECURE_COOKIE
    response.set_cookie(name, secret or "", max_age=lifetime, path="/", secure=is_secure, httponly=True, samesite="lax")


def require_own_page(connection: HTTPConnection) -> None:
    """Raise the 403 problem for a form that was not sent by a page of ours: its cookie came by itself."""
    site = connection.headers.get("sec-fetch-site")
    if site is not None:
        is_ours = site in ("same-origin", "none")
    else:
        is_ours = urlsplit(connection.headers.get("origin", "")).netloc == connection.headers.get("host")
    if not is_ours:
        raise Problem(Code.FOREIGN_ORIGIN, "Use the page of this server.")


def _cookie_of(connection: HTTPConnection) -> str | None:
    """The name of the cookie; None where no secret may be sent: without TLS, beyond this machine."""
    if connection.url.scheme in ("https", "wss"):
        return SECURE_COOKIE
    return LOOPBACK_COOKIE if connection.url.hostname in LOOPBACK else None


def _require_safe(connection: HTTPConnection) -> None:
    if _cookie_of(connection) is None:
        raise Problem(Code.INSECURE_CONNECTION, "Signing in takes https, or http://localhost on the machine itself.")


def _find(platform: Platform, secret: str) -> Principal | None:
    with platform.database.autocommit() as connection:
        rights = sessions.find(connection, secret)
    return None if rights is None else _principal(rights)


def _begin(platform: Platform, rights: Rights) -> str:
    with platform.database.autocommit() as connection:
        return sessions.begin(connection, rights)


def _spend(platform: Platform, ticket: str) -> Rights | None:
    with platform.database.autocommit() as connection:
        return tickets.spend(connection, Purpose.SIGN_IN, ticket)


def _end(platform: Platform, secret: str) -> None:
    with platform.database.autocommit() as connection:
        sessions.end(connection, secret)


def _principal(rights: Rights) -> Principal:
    until = rights.until or datetime.now(UTC) + sessions.LONGEST
    return Principal(rights.organization_id, rights.user_id, rights.permissions, until.timestamp())
