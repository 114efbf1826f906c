"""What the pages of the dashboard have in common: who may see them, templates, files, and how they say no."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, wraps
from http import HTTPStatus
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from api.auth import Principal
from api.connections import FULL
from api.dashboard import wording
from api.dashboard.folding import folded
from api.origins import came_by, keep_failed
from api.permissions import MANAGE_PLATFORM, MANAGE_WEBHOOKS, VIEW_AUDIT, VIEW_JOBS
from api.problems import RETRY_AFTER, UNAVAILABLE, Code, Problem, http_problem, problem_of
from api.reading import Reading
from api.turns import Shares
from api.visitors import require_own_page, visitor
from tasks.platform import Platform
from tracking.audited import Action
from tracking.db import Database
from tracking.errors import TrackingError
from tracking.origins import Origin, Source
from tracking.states import FINISHED, Status
from tracking.tenancy import confined_to
from tracking.values import in_milliseconds

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
MOST_FIELDS = 500  # of a form
MEDIA_TYPES = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml", "LICENSE": "text/plain"}
Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]

# The pages that the bar leads to, and the permission that each takes beside that of all pages.
PAGES = (
    ("/", "Jobs", None),
    ("/errors", "Errors", None),
    ("/types", "Types", None),
    ("/schedules", "Schedules", None),
    ("/workflows", "Workflows", None),
    ("/templates", "Templates", None),
    ("/webhooks", "Webhooks", MANAGE_WEBHOOKS),
    ("/workers", "Workers", MANAGE_PLATFORM),
    ("/organizations", "Organizations", MANAGE_PLATFORM),
    ("/audit", "Audit", VIEW_AUDIT),
)

# What the keyboard does (static/keys.js), as the list of all keys has it.
KEYS = {
    "/": "search",
    "j": "the next row",
    "k": "the row before",
    "Enter": "open the row",
    "x": "select the row",
    "c": "cancel the job",
    "r": "retry the job",
    "n": "a new job",
    "v": "saved views",
    "t": "light, dark, or as the system has it",
    "p": "pause the live view, and go on",
    "?": "this list",
}

FOR_PROGRAMS = ("/v1/", "/static/")
VISITOR = "visitor"  # of a request's state: who has signed in
SENT = "sent"  # and the fields of the form of a button
# What may succeed when it is sent again as it is: after a sign-in, or later.
PASSING = (HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
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

    def done(self, message: str, address: str) -> Response:
        """The answer to a button that did what it says: the message for our script, or the page that shows it."""
        if _is_a_page(self.request):
            return RedirectResponse(address, 303)
        return JSONResponse({"message": message})


def page(view: Callable[[Visit], Response], *, of_all: bool = False) -> Endpoint:
    """The endpoint of a page: its visitor has signed in and may see jobs; it takes its turn as the API's lists do.

    `of_all`: it is of all organizations, for operators alone.
    """

    @answering
    async def endpoint(request: Request) -> Response:
        principal = await _signed_in(request)
        if principal is None:
            return _to_sign_in(request)
        shares: Shares = request.app.state.shares
        async with shares.turn(principal.organization, principal.user):
            visit = _visit(request, principal, request.app.state.slow_reads)
            with confined_to(_seen_by(principal, of_all=of_all)):
                return await run_in_threadpool(view, visit)

    return endpoint


def of_one_moment(view: Callable[[Visit], Response]) -> Callable[[Visit], Response]:
    """The view with all its reads on one snapshot: what it says of a job in two places agrees."""

    @wraps(view)
    def look(visit: Visit) -> Response:
        return visit.read.at_once(lambda read: view(replace(visit, read=read)))

    return look


def action(act: Callable[[Visit], Response], audited: Action, *, of_all: bool = False) -> Endpoint:
    """The endpoint of a button: sent by a page of ours, by somebody who has signed in; what is denied is audited.

    `of_all`: as for `page`. What was sent is read first: where it may succeed later, the refusal keeps it.
    """

    @answering
    async def endpoint(request: Request) -> Response:
        require_own_page(request)
        form = await form_of(request)
        setattr(request.state, SENT, form)
        principal = await _signed_in(request)
        if principal is None:
            raise Problem(Code.TOKEN_MISSING, "Sign in again.")
        async with request.app.state.turns.turn(principal.organization):
            visit = _visit(request, principal, request.app.state.platform.database, form)
            try:
                with confined_to(_seen_by(principal, of_all=of_all)):
                    return await run_in_threadpool(act, visit)
            except (Problem, TrackingError) as error:
                await keep_failed(request, principal, audited, Source.DASHBOARD, error)
                raise

    return endpoint


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form. Raises Problem for one that is too long, or has too many."""
    body = await request.body()
    if len(body) > LONGEST_FORM:
        raise Problem(Code.BODY_TOO_LARGE, f"At most {LONGEST_FORM} bytes are read.")
    try:
        fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError:
        raise Problem(Code.INVALID_REQUEST, f"A form has {MOST_FIELDS} fields at most.") from None
    return {name: values[-1] for name, values in fields.items()}


def render(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page from its template."""
    known = {"static": f"/static/{version()}", "path": request.url.path, "principal": None, **values}
    content = templates().get_template(template).render(known)
    return HTMLResponse(content, status, {"Content-Security-Policy": POLICY})


def refuse(request: Request, error: Exception) -> Response:
    """An error as a page, or for a script of ours as a problem."""
    problem = problem_of(error)
    if not _is_a_page(request):
        return problem.response()
    is_signed_out = problem.status_code == HTTPStatus.UNAUTHORIZED
    if is_signed_out and request.method == "GET":
        return _to_sign_in(request)
    values = {
        "title": "You are signed out" if is_signed_out else problem.code.value.title,
        "problem": problem,
        "principal": getattr(request.state, VISITOR, None),
        "sent": getattr(request.state, SENT, None) if problem.status_code in PASSING else None,
        "address": _address(request),
        "is_signed_out": is_signed_out,
    }
    response = render(request, "refused.html", problem.status_code, **values)
    for name, value in (problem.headers or {}).items():
        response.headers[name] = value
    return response


async def lost(request: Request, error: HTTPException) -> Response:
    """Nothing is at this address, or only a button's work: a page for people, a problem for programs and of the API."""
    return refused(request, http_problem(request, error))


def refused(request: Request, problem: Problem) -> Response:
    """The answer that a problem is: a page for people, unless it is no page that they ask for."""
    return problem.response() if request.url.path.startswith(FOR_PROGRAMS) else refuse(request, problem)


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
        name: getattr(wording, name)
        for name in ("ago", "when", "exactly", "pretty", "clock", "span", "breakable", "coded", "shortened")
    }
    environment.globals |= {
        "MARKS": wording.MARKS,
        "STATUSES": tuple(Status),
        "FINISHED": FINISHED,
        "PAGES": PAGES,
        "KEYS": KEYS,
    }
    environment.filters |= {"folded": folded, "iso": in_milliseconds}
    environment.filters["grouped"] = lambda number: f"{number:,}"
    return environment


def _visit(request: Request, principal: Principal, database: Database, form: Mapping[str, str] | None = None) -> Visit:
    state = request.app.state
    return Visit(request, principal, state.platform, Reading(database), state.hub.position, form or {})


def _is_a_page(request: Request) -> bool:
    """Whether a browser goes to the address, and no script of ours asks."""
    return "text/html" in request.headers.get("accept", "")


async def _signed_in(request: Request) -> Principal | None:
    if getattr(request.state, FULL, False):
        raise Problem(Code.OVERLOADED, "Too many connections are open.", headers=RETRY_AFTER)
    principal = await visitor(request)
    if principal is not None:
        principal.must_have(VIEW_JOBS)
        request.app.state.rates.take(principal)
        setattr(request.state, VISITOR, principal)
    return principal


def _seen_by(principal: Principal, *, of_all: bool) -> str | None:
    return None if of_all and MANAGE_PLATFORM in principal.permissions else principal.sees


def _to_sign_in(request: Request) -> Response:
    if not _is_a_page(request):
        return Problem(Code.TOKEN_MISSING, "Sign in again.").response()
    return RedirectResponse(f"/sign-in?next={quote(_address(request), safe='')}", 303)


def _address(request: Request) -> str:
    """The address within this server that is asked for."""
    return f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path
