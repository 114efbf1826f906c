"""Who looks at the dashboard: a session behind a cookie, opened with a token or with a link that works once.

It is looked up among those of all organizations: it says of which one somebody is.
"""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection
from starlette.responses import Response

from api.auth import Guard, Principal, Proof, Verifier, unauthorized
from api.problems import Code, Problem
from tasks.platform import Platform
from tracking import sessions, tickets
from tracking.tenancy import confined_to
from tracking.tickets import Purpose, Rights

SECURE_COOKIE = "__Host-celeriac"  # the prefix has browsers refuse it from other hosts, paths, and without TLS
LOOPBACK_COOKIE = "celeriac"  # on this machine, where there is no TLS
BEGUN = "-sign-in"  # ends the name of the cookie that is kept while somebody is at a provider
LOOPBACK = ("localhost", "127.0.0.1", "::1")


async def visitor(connection: HTTPConnection) -> Principal | None:
    """Whose session the cookie is of; None: it is over, or there is none."""
    secret = connection.cookies.get(_cookie_of(connection) or "")
    found = await run_in_threadpool(_find, connection.app.state.platform, secret) if secret else None
    try:
        return found and await require_taken(connection, found)
    except Problem:
        return None


async def require_taken(connection: HTTPConnection, principal: Principal) -> Principal:
    """Who came with a session or a ticket, unless the token that it was got with is denied: then raises Problem."""
    denials: Guard = connection.app.state.denials
    return await denials.require(principal)


def rights_of(principal: Principal) -> Rights:
    """What somebody with a token may hand on, as long as that lasts."""
    until, issued = (datetime.fromtimestamp(each, UTC) for each in (principal.expires, principal.proof.issued))
    proof = principal.proof
    return Rights(principal.organization, principal.user, principal.permissions, until, proof.token_id, issued)


def principal_of(rights: Rights, session: bytes | None = None) -> Principal:
    """Who has these rights, by a session of this digest."""
    now = datetime.now(UTC)
    until, issued = rights.until or now + sessions.LONGEST, rights.issued_at or now
    proof = Proof(rights.token_id, issued.timestamp(), session)
    return Principal(rights.organization_id, rights.user_id, rights.permissions, until.timestamp(), proof=proof)


async def sign_in_with_token(connection: HTTPConnection, token: str) -> tuple[Principal, str]:
    """Who signs in, and the secret of the session, which ends with the token at the latest. Raises Problem."""
    require_safe(connection)
    verifier: Verifier = connection.app.state.verifier
    principal = await verifier.principal(token)
    return principal, await run_in_threadpool(_begin, connection.app.state.platform, rights_of(principal))


async def sign_in_with_link(connection: HTTPConnection, ticket: str) -> tuple[Principal, str]:
    """The same with the ticket of a link, which is spent by it. Raises Problem."""
    require_safe(connection)
    platform: Platform = connection.app.state.platform
    rights = await run_in_threadpool(_spend, platform, ticket)
    if rights is None:
        raise unauthorized(Code.TICKET_INVALID, "The link has been used, or its time is over: get another one.")
    return await require_taken(connection, principal_of(rights)), await run_in_threadpool(_begin, platform, rights)


async def sign_in_with_rights(connection: HTTPConnection, rights: Rights) -> str:
    """The secret of a session of somebody whom a provider has vouched for. Raises Problem."""
    require_safe(connection)
    await require_taken(connection, principal_of(rights))
    return await run_in_threadpool(_begin, connection.app.state.platform, rights)


async def sign_out(connection: HTTPConnection) -> None:
    """End the session, in all windows of the browser, with its live streams: those of other processes in a second."""
    secret = connection.cookies.get(_cookie_of(connection) or "")
    if secret:
        await run_in_threadpool(_end, connection.app.state.platform, secret)
        session, hub = tickets.digest(secret), connection.app.state.hub
        hub.end_those(lambda principal: principal.proof.session == session)


def remember(connection: HTTPConnection, response: Response, secret: str | None) -> None:
    """Have the browser keep the secret of a session; None: forget it."""
    name = _cookie_of(connection)
    if name is None:
        return
    lifetime = int(sessions.LONGEST.total_seconds()) if secret else 0
    is_secure = name == SECURE_COOKIE
    response.set_cookie(name, secret or "", max_age=lifetime, path="/", secure=is_secure, httponly=True, samesite="lax")


def keep_begun(connection: HTTPConnection, response: Response, begun: str | None) -> None:
    """Have the browser keep what it has to bring back from a provider, for ten minutes; None: forget it."""
    name = _cookie_of(connection)
    if name is not None:
        lifetime, is_secure = 600 if begun else 0, name == SECURE_COOKIE
        name += BEGUN
        response.set_cookie(name, begun or "", lifetime, path="/", secure=is_secure, httponly=True, samesite="lax")


def kept_begun(connection: HTTPConnection) -> str:
    """What the browser has kept so; "": nothing."""
    return connection.cookies.get(f"{_cookie_of(connection)}{BEGUN}", "")


def comes_from_here(connection: HTTPConnection) -> bool:
    """Whether the request says that it is from a page of this server. What it says is compared as it is."""
    return connection.headers.get("origin", "").partition("://")[2] == connection.headers.get("host")


def require_own_page(connection: HTTPConnection) -> None:
    """Raise the 403 problem for a form that was not sent by a page of ours: its cookie came by itself."""
    site = connection.headers.get("sec-fetch-site")
    is_ours = comes_from_here(connection) if site is None else site in ("same-origin", "none")
    if not is_ours:
        raise Problem(Code.FOREIGN_ORIGIN, "Use the page of this server.")


def _cookie_of(connection: HTTPConnection) -> str | None:
    """The name of the cookie; None where no secret may be sent: without TLS, beyond this machine."""
    if connection.url.scheme in ("https", "wss"):
        return SECURE_COOKIE
    return LOOPBACK_COOKIE if connection.url.hostname in LOOPBACK else None


def require_safe(connection: HTTPConnection) -> None:
    """Raise the 403 problem where no secret may be sent."""
    if _cookie_of(connection) is None:
        raise Problem(Code.INSECURE_CONNECTION, "Signing in takes https, or http://localhost on the machine itself.")


def _find(platform: Platform, secret: str) -> Principal | None:
    with confined_to(None), platform.database.autocommit() as connection:
        rights = sessions.find(connection, secret)
    return None if rights is None else principal_of(rights, tickets.digest(secret))


def _begin(platform: Platform, rights: Rights) -> str:
    with confined_to(None), platform.database.autocommit() as connection:
        return sessions.begin(connection, rights)


def _spend(platform: Platform, ticket: str) -> Rights | None:
    with confined_to(None), platform.database.autocommit() as connection:
        return tickets.spend(connection, Purpose.SIGN_IN, ticket)


def _end(platform: Platform, secret: str) -> None:
    with confined_to(None), platform.database.autocommit() as connection:
        sessions.end(connection, secret)
