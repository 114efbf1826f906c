"""Live events, as server-sent events and over a WebSocket."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, WebSocket
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from api import openapi
from api.addresses import Addresses
from api.auth import Principal, requires
from api.live.hub import Hub
from api.live.joining import issue_ticket, join, require_own_origin, streaming_caller
from api.live.sse import EventStream
from api.live.websocket import talk
from api.permissions import VIEW_JOBS
from api.problems import invalid_by
from api.reading import Served
from api.schemas import answers, requests
from api.strict import StrictRoute, require_once
from tracking.tenancy import confined_to
from tracking.values import MAX_INTEGER

ID = re.compile("[0-9]{1,16}")

Viewer = Annotated[Principal, requires(VIEW_JOBS)]


class StreamRoute(StrictRoute):
    """A route that takes a ticket instead of a token."""

    async def caller(self, request: Request) -> Principal:
        """Whom the ticket or the token names."""
        return await streaming_caller(request)


router = APIRouter(prefix="/v1", tags=["events"], route_class=StrictRoute)
streams = APIRouter(prefix="/v1", tags=["events"], route_class=StreamRoute)


@router.post("/events/ticket", status_code=201, responses=openapi.READ)
def create_ticket(principal: Viewer, platform: Served) -> answers.Ticket:
    """A ticket for one stream, to be used in 30 seconds: for browsers, which cannot send a token with it."""
    return answers.Ticket.of(issue_ticket(platform, principal))


@streams.get("/events", status_code=200, response_class=EventStream, responses=openapi.STREAM)
def stream_events(
    principal: Viewer,
    request: Request,
    query: Annotated[requests.EventsQuery, Query()],
    last_event_id: Annotated[str | None, Header()] = None,
) -> EventStream:
    """What happens to the jobs that the caller sees, from now on, or from behind the last event that they had."""
    given, is_known = _last(query, last_event_id)
    joined = join(request, principal, query.narrowed, given, is_known=is_known)
    hub: Hub = request.app.state.hub
    return EventStream(hub, joined.stream, joined.missed, expires=principal.expires)


@router.websocket("/ws")
async def stream_over_websocket(websocket: WebSocket) -> None:
    """The same events over a WebSocket. What is refused is answered as a problem, before there is one."""
    addresses: Addresses = websocket.app.state.addresses
    with addresses.asking(websocket.client.host if websocket.client else None):
        await _converse(websocket)


async def _converse(websocket: WebSocket) -> None:
    require_own_origin(websocket)
    principal = await streaming_caller(websocket)
    principal.must_have(VIEW_JOBS)
    require_once(websocket.query_params)
    try:
        query = requests.EventsQuery.model_validate(dict(websocket.query_params))
    except ValidationError as error:
        raise invalid_by(error, within="query") from None
    given, is_known = _last(query, websocket.headers.get("last-event-id"))
    with confined_to(principal.sees):
        joined = await run_in_threadpool(join, websocket, principal, query.narrowed, given, is_known=is_known)
    await talk(websocket, joined, expires=principal.expires)


def _last(query: requests.EventsQuery, header: str | None) -> tuple[int | None, bool]:
    """Behind which event to begin, None: from now on; and whether the header, which counts first, names one at all."""
    if header is None:
        return query.last_event_id, True
    number = _number(header)
    return number, number is not None


def _number(last_event_id: str) -> int | None:
    number = int(last_event_id) if ID.fullmatch(last_event_id) else MAX_INTEGER + 1
    return number if number <= MAX_INTEGER else None
