"""What the pages of the dashboard have in common: who may see them, templates, files, and how they say no."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import cache, wraps
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from api.auth import MANAGE_PLATFORM, VIEW_JOBS, Principal
from api.connections import FULL
from api.dashboard import wording
from api.origins import came_by, keep_failed
from api.problems import RETRY_AFTER, UNAVAILABLE, Code, Problem, problem_of
from api.reading import Reading
from api.turns import Shares
from api.visitors import require_own_page, visitor
from tasks.platform import Platform
from tracking.audited import Action
from tracking.db import Database
from tracking.errors import TrackingError
from tracking.origins import Origin, Source
from tracking.states import FINISHED, Status

POLICY = "; ".join(
    (
        "default-src 'none'",
        *(f"{kind}-src 'self'" for kind in ("script", "style", "img", "connect")),
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
LONGEST_FORM = 1024 * 1024  # bytes: a payload of 256 KiB takes up to three times that in a form
MEDIA_TYPES = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml", "LICENSE": "text/plain"}
Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]

FOR_EVER = "public, max-age=31536000, immutable"  # an address with the hash of what is there


@dataclass(frozen=True, slots=True)
class Visit:
    """A request of somebody who has signed in."""

    request: Request
    principal: Principal
    platform: Platform
    read: Reading
    last_event: int | None  # before anything was read: what happens later is in the stream that begins behind it
    form: Mapping[str, str] = field(default_factory=dict)  # of a button

    @property
    def origin(self) -> Origin:
        """From where they come, for the audit."""
        return came_by(Source.DASHBOARD, self.request, self.principal)


def page(view: Callable[[Visit], Response]) -> Endpoint:
    """The endpoint of a page: its visitor has signed in and may see jobs; it takes its turn as the API's lists do."""

    @answering
    async def endpoint(request: Request) -> Response:
        principal = await _signed_in(request)
        if principal is None:
            return _to_sign_in(request)
        shares: Shares = request.app.state.shares
        async with shares.turn(principal.organization):
            visit = _visit(request, principal, request.app.state.slow_reads)
            return await run_in_threadpool(view, visit)

    return endpoint


def action(act: Callable[[Visit], Response], audited: Action) -> Endpoint:
    """The endpoint of a button: sent by a page of ours, by somebody who has signed in; what is denied is audited."""

    @answering
    async def endpoint(request: Request) -> Response:
        require_own_page(request)
        principal = await _signed_in(request)
        if principal is None:
            return _to_sign_in(request)
        async with request.app.state.turns.turn():
            visit = _visit(request, principal, request.app.state.platform.database, await form_of(request))
            try:
                return await run_in_threadpool(act, visit)
            except (Problem, TrackingError) as error:
                await keep_failed(request, principal, audited, Source.DASHBOARD, error)
                raise

    return endpoint


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form. Raises Problem for one that is too long."""
    body = await request.body()
    if len(body) > LONGEST_FORM:
        raise Problem(Code.BODY_TOO_LARGE, f"At most {LONGEST_FORM} bytes are read.")
    fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=20)
    return {name: values[-1] for name, values in fields.items()}


def render(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page from its template."""
    known = {"static": f"/static/{version()}", "path": request.url.path, "principal": None, **values}
    content = templates().get_template(template).render(known)
    return HTMLResponse(content, status, {"Content-Security-Policy": POLICY})


def refuse(request: Request, error: Exception) -> Response:
    """An error as a page, or for a script of ours as a problem."""
    problem = problem_of(error)
    if "text/html" not in request.headers.get("accept", ""):
        return problem.response()
    if problem.status_code == Code.TOKEN_MISSING.value.status and request.method == "GET":
        return _to_sign_in(request)
    response = render(request, "refused.html", problem.status_code, title=problem.code.value.title, problem=problem)
    for name, value in (problem.headers or {}).items():
        response.headers[name] = value
    return response


def answering(endpoint: Endpoint) -> Endpoint:
    """The endpoint, saying no in the dashboard's way to whatever goes wrong below it."""

    @wraps(endpoint)
    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except (HTTPException, TrackingError, *UNAVAILABLE) as error:
            return refuse(request, error)

    return answer


async def static(request: Request) -> Response:
    """A file of the dashboard, which may be kept for ever: another version has another address."""
    name = request.path_params["name"]
    content = assets().get(name)
    if content is None or request.path_params["version"] != version():
        raise Problem(Code.NOT_FOUND, "There is no such file in this version.")
    media_type = MEDIA_TYPES[name.rpartition(".")[2]]
    return Response(content, media_type=media_type, headers={"Cache-Control": FOR_EVER})


@cache
def assets() -> dict[str, bytes]:
    """All static files by their names."""
    root = files("api.dashboard") / "static"
    found = {each.name: each.read_bytes() for each in root.iterdir() if each.is_file()}
    vendored = {f"vendor/{each.name}": each.read_bytes() for each in (root / "vendor").iterdir()}
    return {**found, **vendored}


@cache
def version() -> str:
    """The hash of all static files."""
    digest = hashlib.sha256()
    for name, content in sorted(assets().items()):
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


@cache
def templates() -> Environment:
    """The templates, which escape whatever is no markup of ours."""
    loader = PackageLoader("api.dashboard")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters |= {
        name: getattr(wording, name) for name in ("ago", "when", "exactly", "pretty", "iso", "clock", "span")
    }
    environment.globals |= {
        "MARKS": wording.MARKS,
        "STATUSES": tuple(Status),
        "FINISHED": FINISHED,
        "MANAGE_PLATFORM": MANAGE_PLATFORM,
    }
    environment.filters["grouped"] = lambda number: f"{number:,}"
    return environment


def _visit(request: Request, principal: Principal, database: Database, form: Mapping[str, str] | None = None) -> Visit:
    state = request.app.state
    return Visit(request, principal, state.platform, Reading(database), state.hub.position, form or {})


async def _signed_in(request: Request) -> Principal | None:
    if getattr(request.state, FULL, False):
        raise Problem(Code.OVERLOADED, "Too many connections are open.", headers=RETRY_AFTER)
    principal = await visitor(request)
    if principal is not None:
        principal.must_have(VIEW_JOBS)
    return principal


def _to_sign_in(request: Request) -> Response:
    if "text/html" not in request.headers.get("accept", ""):
        return Problem(Code.TOKEN_MISSING, "Sign in again.").response()
    query = f"?{request.url.query}" if request.url.query else ""
    back = quote(f"{request.url.path}{query}" if request.method == "GET" else "/", safe="")
    return RedirectResponse(f"/sign-in?next={back}", 303)
