"""How a stream begins: who asks for it, and what they have missed since the last event that they had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from anyio import from_thread
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from api.auth import Principal, Verifier, bearer, unauthorized
from api.live.hub import Chunk, Hub, Interest, Stream
from api.live.messages import messages
from api.live.reader import Reader
from api.problems import Code, Problem
from api.reading import Reading
from api.visitors import comes_from_here, principal_of, require_taken, rights_of, visitor
from tasks.platform import Platform
from tracking import tickets
from tracking.reads import lists, tail
from tracking.tenancy import confined_to
from tracking.tickets import Purpose, Ticket

PATIENCE = 2.0  # seconds that a stream waits for the reader's next look
TICKET_LIFETIME = timedelta(seconds=30)
CHUNK = 100  # messages that are sent at once


@dataclass(frozen=True, slots=True)
class Joined:
    """A stream, and what is to be sent before it: `missed` None: that cannot be told without a gap."""

    stream: Stream
    missed: Sequence[Chunk] | None


def issue_ticket(platform: Platform, principal: Principal) -> Ticket:
    """A ticket for one stream of the caller's, which ends when their token does."""
    rights = rights_of(principal)
    with confined_to(None), platform.database.autocommit() as connection:
        return tickets.issue(connection, Purpose.EVENTS, rights, TICKET_LIFETIME)


async def streaming_caller(connection: HTTPConnection) -> Principal:
    """Whom the request's token, its ticket, or the session of its cookie names.

    Raises the 401 problem, or 503 when that cannot be known now.
    """
    ticket = connection.query_params.get("ticket")
    if ticket is not None:
        spent = await run_in_threadpool(_spend, connection.app.state.platform, ticket)
        return await require_taken(connection, spent)
    if "authorization" not in connection.headers and (found := await visitor(connection)) is not None:
        return found
    verifier: Verifier = connection.app.state.verifier
    return await verifier.principal(bearer(connection))


def require_own_origin(connection: HTTPConnection) -> None:
    """Raise the 403 problem for a page of another site: a WebSocket is not held back by browsers as a request is."""
    if "origin" in connection.headers and not comes_from_here(connection):
        raise Problem(Code.FOREIGN_ORIGIN, "Open the WebSocket from a page of this server, or without a browser.")


def join(
    connection: HTTPConnection,
    principal: Principal,
    narrowed: tail.Narrowed,
    last: int | None,
    *,
    is_known: bool = True,
) -> Joined:
    """A new stream for the caller. Not to be called in the event loop.

    `last`: the id of the last event that the client has had; None: it wants what happens from now on. Not `is_known`:
    it has had one of which this server knows nothing. Raises JobNotFound for a job that is not in the caller's scope,
    and Problem.
    """
    platform: Platform = connection.app.state.platform
    hub: Hub = connection.app.state.hub
    reader: Reader = connection.app.state.reader
    read = Reading(platform.database)
    if narrowed.job_id is not None:
        read(lists.get, narrowed.job_id, principal.scope)
    reader.catch_up(PATIENCE)
    stream = from_thread.run_sync(hub.join, Interest(principal.scope, narrowed), principal)
    try:
        missed = _missed(read, stream, last) if is_known else None
    except BaseException:
        from_thread.run_sync(hub.leave, stream)
        raise
    return Joined(stream, missed)


def _missed(read: Reading, stream: Stream, last: int | None) -> Sequence[Chunk] | None:
    joined = stream.after
    if last is None or last == joined:
        return ()
    if last > joined:  # the client comes from a process that was ahead of this one
        if last > read(tail.last_number):
            return None
        stream.start_after(last)
        return ()
    interest = stream.interest
    found = read(
        tail.missed,
        interest.scope,
        interest.narrowed,
        after=last,
        until=joined,
    )
    if found is None:
        return None
    told = messages(found)
    return [Chunk(told[start : start + CHUNK]) for start in range(0, len(told), CHUNK)]


def _spend(platform: Platform, secret: str) -> Principal:
    with confined_to(None), platform.database.autocommit() as connection:
        rights = tickets.spend(connection, Purpose.EVENTS, secret)
    if rights is None or rights.until is None:
        raise unauthorized(Code.TICKET_INVALID, "It was used, or its 30 seconds are over: get another one.")
    return principal_of(rights)
