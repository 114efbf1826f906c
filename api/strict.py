"""The class of every route under /v1: it knows its caller first, then reads strict JSON, then waits for its turn."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Container, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import wraps
from http import HTTPStatus
from inspect import isclass, signature
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic_core import from_json
from starlette.datastructures import Headers, QueryParams

from api.auth import REACHING, SEES, Principal, authenticate
from api.connections import FULL
from api.envelope import LARGER
from api.given import REQUEST, asked_by_given, asked_of_framework, given_of, permissions_of
from api.openapi import PERMISSIONS, SECURED, operation_id
from api.origins import ACTIONS, keep_failed
from api.problems import RETRY_AFTER, Code, Problem, invalid
from api.reading import list_reading, slow_reading
from api.schemas.fields import Listed
from api.turns import Shares, Turns
from tracking.audited import Action
from tracking.errors import TrackingError
from tracking.tenancy import confined_to
from tracking.values import distinct

BODY_PATIENCE = 20  # seconds for the whole body to arrive
CLOSE = {"Connection": "close"}
SHORTEST = len('{"":0}')  # bytes of a body that says something
NOT_PERMITTED = "Extra inputs are not permitted"  # in pydantic's words, as of a field that it does not know

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class StrictRoute(APIRoute):
    """A route of the API.

    Nothing is read from a caller without a valid token, a slow client keeps no other request waiting, and no more
    requests are worked on at a time than there are database connections. A route whose reads may be slow takes its turn
    among those of its organization. What a caller was denied is in the audit. What nobody would read is refused.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        self._given = given_of(endpoint)
        self._is_slow = not {slow_reading, list_reading}.isdisjoint(self._given.values())
        answer = _in_bytes(endpoint, options.get("status_code") or HTTPStatus.OK)
        described = {**SECURED, PERMISSIONS: permissions_of(endpoint), **(options.get("openapi_extra") or {})}
        ours = {"openapi_extra": described, "generate_unique_id_function": operation_id}
        super().__init__(path, answer, **{**options, **ours})
        self._action = ACTIONS.get(self.name)
        self._takes_body = "GET" in (self.methods or ()) or self.body_field is not None or "requestBody" in described
        parameters = self.dependant.query_params
        models = [each.field_info.annotation for each in parameters if isclass(each.field_info.annotation)]
        self._reads = None if models else frozenset(each.alias for each in parameters)  # a model refuses others itself
        self._lists = frozenset(name for model in models if issubclass(model, BaseModel) for name in _lists_of(model))

    def get_route_handler(self) -> Handler:
        """FastAPI's handler, in our order of things."""
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            if getattr(request.state, FULL, False):
                raise Problem(Code.OVERLOADED, "Too many connections are open.", headers={**RETRY_AFTER, **CLOSE})
            request.state.principal = await self.caller(request)
            setattr(request.state, SEES, request.state.principal.sees)
            request.app.state.rates.take(request.state.principal)
            async with self._arriving(request):
                strict = StrictRequest(request.scope, request.receive)
                if self.body_field is not None:
                    await strict.arrived()
                async with self._turn(request):
                    return await self._audited(handle, strict)

        return strictly

    async def _audited(self, handle: Handler, request: Request) -> Response:
        try:
            request.state.given = {name: of(request) for name, of in self._given.items()}
            self._require_read(request)
            with confined_to(getattr(request.state, SEES)):
                return await handle(request)
        except (Problem, TrackingError) as error:
            action = self._action or (Action.REACH if getattr(request.state, REACHING, False) else None)
            if action is not None:
                await keep_failed(request, request.state.principal, action, request.app.state.source, error)
            raise

    def _require_read(self, request: Request) -> None:
        """Raises the 422 problem for what nobody reads, or of which one of two is: it would count as not said."""
        unread = [] if self._reads is None else [name for name in request.query_params if name not in self._reads]
        if unread:
            raise invalid([{"loc": ("query", name), "msg": NOT_PERMITTED} for name in unread])
        require_once(request.query_params, self._lists)
        if not self._takes_body and _says_something(request.headers):
            raise invalid([{"loc": ("body",), "msg": "This request takes no body"}])

    def _arriving(self, request: Request) -> AbstractAsyncContextManager[None]:
        """Within it the body is read, and held until the answer; of large ones only a few at a time."""
        if self.body_field is None or request.scope["path"] not in LARGER:
            return nullcontext()
        bulks: Turns = request.app.state.bulks
        return bulks.turn(request.state.principal.organization)

    async def caller(self, request: Request) -> Principal:
        """Who calls. Raises the 401 problem, or 503 when that cannot be known now."""
        return await authenticate(request)

    def _turn(self, request: Request) -> AbstractAsyncContextManager[None]:
        if self._is_slow:
            shares: Shares = request.app.state.shares
            return shares.turn(request.state.principal.organization, request.state.principal.user)
        turns: Turns = request.app.state.turns
        return turns.turn(request.state.principal.organization)


class StrictRequest(Request):
    """A request whose body, if any, is JSON as RFC 8259 has it."""

    async def arrived(self) -> None:
        """Wait until the body is here; refuse it if it does not say that it is JSON."""
        try:
            async with asyncio.timeout(BODY_PATIENCE):
                body = await self.body()
        except TimeoutError:
            raise Problem(Code.BODY_TOO_SLOW, f"It has {BODY_PATIENCE} seconds.") from None
        media_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if body and (media_type != "application/json" or "content-encoding" in self.headers):
            raise Problem(Code.UNSUPPORTED_MEDIA_TYPE, "Send `Content-Type: application/json`, not compressed.")

    async def json(self) -> Any:
        try:
            body = await self.body()
            parsed = from_json(body, allow_inf_nan=False)
            json.loads(body, object_pairs_hook=distinct)
        except ValueError as error:
            raise Problem(Code.MALFORMED_JSON, str(error)) from None
        return parsed


def require_once(given: QueryParams, lists: Container[str] = ()) -> None:
    """Raises the 422 problem for a parameter that is given several times and is none of the `lists`."""
    times = Counter(name for name, _ in given.multi_items())
    if twice := [name for name, count in times.items() if count > 1 and name not in lists]:
        raise invalid([{"loc": ("query", name), "msg": "Input should be given once"} for name in twice])


def _lists_of(model: type[BaseModel]) -> Iterator[str]:
    """The parameters of a query that may be given several times."""
    for name, field in model.model_fields.items():
        if Listed in field.metadata:
            yield field.alias or name


def _says_something(headers: Headers) -> bool:
    """Whether a body comes that is more than the {} or null of clients which always send JSON; it is not read."""
    return "transfer-encoding" in headers or int(headers.get("content-length", "0")) >= SHORTEST


def _in_bytes(endpoint: Callable[..., Any], status: int) -> Callable[..., Any]:
    """The endpoint, answering in bytes: FastAPI would validate each answer again, in a thread of its own."""
    wants_request, not_its_own = REQUEST in signature(endpoint).parameters, asked_by_given(endpoint).keys()

    @wraps(endpoint)
    def answer(*, request: Request, **values: Any) -> Any:
        given = {**request.state.given, REQUEST: request} if wants_request else request.state.given
        own = {name: value for name, value in values.items() if name not in not_its_own}
        answered = endpoint(**own, **given)
        if not isinstance(answered, BaseModel):
            return answered
        headers = values["response"].headers if "response" in values else None
        content = answered.model_dump_json(by_alias=True)
        return Response(content, status, headers, media_type="application/json")

    answer.__signature__ = asked_of_framework(endpoint)  # type: ignore[attr-defined]  # where inspect looks for it
    return answer
