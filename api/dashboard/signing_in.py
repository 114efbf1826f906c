"""Signing in at the dashboard, and out: with a token, a link that works once, or an OpenID Connect provider."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from api.dashboard.site import form_of, render
from api.oidc import Begun, Provider, SignInFailed
from api.problems import Problem
from api.visitors import (
    keep_begun,
    kept_begun,
    remember,
    require_own_page,
    require_safe,
    sign_in_with_link,
    sign_in_with_rights,
    sign_in_with_token,
    sign_out,
    visitor,
)

CALLBACK = "/sign-in/oidc/callback"  # to be entered at the provider, behind the address of this server


async def sign_in_page(request: Request) -> Response:
    """What there is to sign in with."""
    ticket, back = request.query_params.get("ticket", ""), request.query_params.get("next", "/")
    if not ticket and await visitor(request) is not None:
        return RedirectResponse(_own(back), 303)
    return _show(request, ticket=ticket, back=back)


async def sign_in(request: Request) -> Response:
    """With what was pasted, or with the link."""
    require_own_page(request)
    form = await form_of(request)
    ticket, token = form.get("ticket", ""), form.get("token", "").strip().removeprefix("Bearer ")
    back = form.get("next", "/")
    try:
        _, secret = await (sign_in_with_link(request, ticket) if ticket else sign_in_with_token(request, token))
    except Problem as refused:
        return _show(request, back=back, why_not=refused.detail, status=refused.status_code)
    return _signed_in(request, secret, back)


async def go_to_provider(request: Request) -> Response:
    """Send the browser to the provider; what has to come back with it is kept in a cookie until then."""
    require_safe(request)
    back = _own(request.query_params.get("next", "/"))
    provider: Provider | None = request.app.state.oidc
    if provider is None:
        return RedirectResponse("/sign-in", 303)
    try:
        address, begun = await provider.begin(_callback(request), back)
    except SignInFailed as failed:
        return _show(request, back=back, why_not=str(failed), status=503)
    response = RedirectResponse(address, 303)
    keep_begun(request, response, begun.packed())
    return response


async def come_back(request: Request) -> Response:
    """The browser is back from the provider: who it is, by what both have said."""
    provider: Provider | None = request.app.state.oidc
    begun = Begun.unpacked(kept_begun(request))
    if provider is None or begun is None:
        return _show(request, back="/", why_not="Nobody has begun to sign in here, or it took too long.", status=401)
    try:
        rights = await provider.finish(begun, request.query_params, _callback(request))
        response = _signed_in(request, await sign_in_with_rights(request, rights), begun.next)
    except SignInFailed as failed:
        response = _show(request, back=begun.next, why_not=str(failed), status=503 if failed.is_away else 401)
    except Problem as refused:
        response = _show(request, back=begun.next, why_not=refused.detail, status=refused.status_code)
    keep_begun(request, response, None)
    return response


async def sign_out_here(request: Request) -> Response:
    """End the session; that with the provider is the provider's."""
    require_own_page(request)
    await sign_out(request)
    response = RedirectResponse("/sign-in", 303)
    remember(request, response, None)
    return response


def _signed_in(request: Request, secret: str, back: str) -> Response:
    response = RedirectResponse(_own(back), 303)
    remember(request, response, secret)
    return response


def _show(request: Request, *, back: str, ticket: str = "", why_not: str | None = None, status: int = 200) -> Response:
    provider: Provider | None = request.app.state.oidc
    name = provider and provider.name
    return render(request, "sign_in.html", status, ticket=ticket, next=back, why_not=why_not, provider=name)


def _callback(request: Request) -> str:
    return str(request.base_url).rstrip("/") + CALLBACK


def _own(address: str) -> str:
    """An address of this server; the start for any other one."""
    is_ours = address.startswith("/") and not address.startswith(("//", "/\\")) and "\\" not in address
    return address if is_ours and address.isprintable() else "/"
