"""Who calls: a bearer token becomes a Principal, and routes say which permission they require."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Annotated, Any, NamedTuple, Protocol

import jwt
from fastapi import Query, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationError
from starlette.requests import HTTPConnection

from api.given import OfRequest
from api.keys import KeysUnavailable, PublicKeySet
from api.permissions import MANAGE_PLATFORM, MANAGE_SCHEDULES, TRACK_JOBS, VIEW_ALL
from api.problems import Code, Problem
from api.schemas.fields import ALL, ELSEWHERE, EVERYWHERE_TOO, Name, OneName
from api.secrets import former_secret, signing_secret
from tracking.errors import ConfigurationError, InvalidValue
from tracking.models import EVERYWHERE, Owner, Scope
from tracking.origins import OPERATOR
from tracking.settings import Settings
from tracking.values import check_text
from tracking.webhooks import DELIVERING

ORGANIZATION = "organization"  # the parameter of a query
REACHING = "reaching"  # of a request's state: somebody asks elsewhere
SEES = "sees"  # likewise: whose rows the database shows it; what only operators do is done in all organizations

LONGEST_NAME = 255  # characters
MOST_VERIFIED = 4096  # tokens that a process remembers
LEEWAY = 30  # seconds that the clock of whoever makes tokens may differ from ours
# What a token may say that it is: others of the same issuer, for a log-out say, are made for something else (RFC 8725
# §3.11; RFC 9068 §2.1). One that says nothing is taken.
TYPES = ("jwt", "at+jwt", "application/at+jwt")
NO_TIME = "A time that it says is no number of seconds: its `exp`, `iat` or `nbf`."
# Of each kind before those that it is one of.
SAID: Mapping[type[jwt.PyJWTError], str] = {
    jwt.InvalidAudienceError: "It was made for another service: its `aud` is not the one of this API.",
    jwt.InvalidIssuerError: "Somebody else has made it: its `iss` is not the one that this API trusts.",
    jwt.InvalidAlgorithmError: "It is signed in a way that this API does not take.",
    jwt.InvalidSignatureError: "It was not signed with the key of this API, or it was changed since.",
    jwt.ImmatureSignatureError: "It is not valid yet: the clock of whoever made it, or of this server, is wrong.",
    jwt.InvalidIssuedAtError: NO_TIME,
    jwt.DecodeError: "It is no JWT: three parts with dots between them, of which none may be cut off.",
}
REQUIRED_CLAIMS = ("sub", "org", "permissions", "exp", "iat", "iss", "aud")


@dataclass(frozen=True, slots=True)
class Proof:
    """What somebody has shown: the `jti` (None: it has none) and `iat` of a token, and the digest of a session."""

    token_id: str | None = None
    issued: float = math.inf  # seconds since the epoch
    session: bytes | None = None


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls, and what they may do until `expires`, in seconds since the epoch.

    Of an operator who asks elsewhere, `organization` is the one that they ask about, and `elsewhere` is true;
    `everywhere`: all of them.
    """

    organization: str
    user: str
    permissions: frozenset[str]
    expires: float = math.inf
    everywhere: bool = False
    elsewhere: bool = False
    proof: Proof = Proof()

    @property
    def actor(self) -> str:
        """The name under which an organization sees what they do: one of another organization does not show there."""
        return OPERATOR if self.elsewhere else self.user

    @property
    def scope(self) -> Scope:
        """The jobs that they see: their own, or with `jobs.view_all` their organization's."""
        if self.everywhere:
            return EVERYWHERE
        return Scope(self.organization, None if VIEW_ALL in self.permissions else self.user)

    @property
    def reporting_scope(self) -> Scope:
        """The jobs on which they may report: their own, or with `jobs.track_jobs` their organization's."""
        return Scope(self.organization, None if TRACK_JOBS in self.permissions else self.user)

    @property
    def schedule_scope(self) -> Scope:
        """The schedules that they see: their own, or those of the organization, as its jobs or to manage them."""
        is_wide = not self.permissions.isdisjoint((VIEW_ALL, MANAGE_SCHEDULES))
        return Scope(self.organization, None if is_wide else self.user)

    @property
    def sees(self) -> str | None:
        """The organization whose rows the database shows them; None: all of them."""
        return None if self.everywhere else self.organization

    @property
    def owner(self) -> Owner:
        """Whose the jobs are that they create."""
        return Owner(self.organization, self.actor)

    def must_have(self, permission: str | None, *others: str) -> None:
        """Raise the 403 problem unless the caller has this permission, or one of others; None needs no permission."""
        if permission is not None and self.permissions.isdisjoint((permission, *others)):
            instead = f", or one of {', '.join(others)}" if others else ""
            raise Problem(Code.PERMISSION_MISSING, f"The permission {permission} is needed{instead}.")


class Verifier(Protocol):
    """Checks tokens."""

    async def principal(self, token: str) -> Principal:
        """Whom the token names. Raises Problem."""


class Guard(Protocol):
    """Knows which tokens are taken no more."""

    async def require(self, principal: Principal) -> Principal:
        """Whoever it is, unless what they have shown is denied. Raises Problem."""


def verifier(settings: Settings) -> Verifier:
    """What checks tokens under these settings. Raises ConfigurationError for a weak secret, or two kinds of keys."""
    if not settings.jwks_url.get_secret_value():
        return SharedSecret(signing_secret(settings), settings)
    if settings.jwt_secret.get_secret_value() or settings.jwt_former_secret.get_secret_value():
        raise ConfigurationError("CELERIAC_JWKS_URL and CELERIAC_JWT_SECRET exclude each other: set one")
    return PublicKeys(settings)


async def authenticate(request: Request) -> Principal:
    """Whom the request's bearer token names. Raises the 401 problem, or 503 when that cannot be known now."""
    tokens: Verifier = request.app.state.verifier
    return await tokens.principal(bearer(request))


def bearer(connection: HTTPConnection) -> str:
    """The token of a request. Raises the 401 problem when there is none."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise unauthorized(Code.TOKEN_MISSING, "Send the header `Authorization: Bearer <token>`.")
    return token.strip()


class Reach(Enum):
    """Where an operator may ask for what a route does, by `?organization=`."""

    OWN = "their own organization"
    ONE = "one other organization"
    ALL = "all organizations as well"


def requires(permission: str | None, *others: str, reach: Reach = Reach.OWN) -> OfRequest:
    """In the annotation of a route's parameter: its caller, who must have this permission, or one of `others`.

    None: no permission.
    """

    def caller(request: Request) -> Principal:
        principal: Principal = request.state.principal  # StrictRoute has authenticated it, before reading the body
        principal.must_have(permission, *others)
        asked = principal if reach is Reach.OWN else _reaching(request, principal, reach)
        setattr(request.state, SEES, None if permission == MANAGE_PLATFORM else asked.sees)
        return asked

    described = f"{ELSEWHERE} {EVERYWHERE_TOO}" if reach is Reach.ALL else ELSEWHERE
    name = Name if reach is Reach.ALL else OneName
    asks = {} if reach is Reach.OWN else {ORGANIZATION: Annotated[name | None, Query(description=described)]}
    return OfRequest(caller, asks, () if permission is None else (permission, *others))


def asked_about(request: Request) -> str | None:
    """The organization that a request names; None: none. What cannot be kept is cut off, and refused later."""
    wanted = request.query_params.get(ORGANIZATION)
    return None if wanted is None else wanted[:LONGEST_NAME]


def _reaching(request: Request, principal: Principal, reach: Reach) -> Principal:
    """The caller, where they ask. Raises the 403 problem when that is elsewhere and they are no operator."""
    wanted = asked_about(request)
    if wanted in (None, principal.organization):
        return principal
    setattr(request.state, REACHING, True)  # whoever is denied it is in the audit
    principal.must_have(MANAGE_PLATFORM)
    if wanted == ALL and reach is not Reach.ALL:
        raise Problem(Code.INVALID_REQUEST, f"{ORGANIZATION}: this is done in one organization at a time")
    everything = principal.permissions | {VIEW_ALL}
    if wanted == ALL:
        return replace(principal, everywhere=True, elsewhere=True, permissions=everything)
    return replace(principal, organization=wanted, elsewhere=True, permissions=everything)


class SharedSecret:
    """Tokens signed with one secret (HS256), or with the one that it replaces."""

    def __init__(self, secret: str, settings: Settings) -> None:
        former = former_secret(settings)
        self._secrets = (secret,) if former is None else (secret, former)
        self._verified = _Verified(["HS256"], settings)

    async def principal(self, token: str) -> Principal:
        return self._verified.principal(token, *self._secrets)


class PublicKeys:
    """Tokens signed with one of the keys that an address lists (RS256, ES256)."""

    def __init__(self, settings: Settings) -> None:
        self._verified = _Verified(["RS256", "ES256"], settings)
        self._keys = PublicKeySet(settings.jwks_url.get_secret_value())

    async def principal(self, token: str) -> Principal:
        try:
            key_id = jwt.get_unverified_header(token).get("kid")
            key = await self._keys.find(key_id) if key_id else None
        except KeysUnavailable:
            raise Problem(Code.KEYS_UNAVAILABLE, "Try again in a moment.", headers={"Retry-After": "5"}) from None
        except (jwt.PyJWTError, ValueError):
            key = None
        if key is None:
            raise unauthorized(Code.TOKEN_INVALID, "No known key has signed this token.")
        return self._verified.principal(token, key)


def unauthorized(code: Code, detail: str) -> Problem:
    """A 401 problem."""
    error = "" if code is Code.TOKEN_MISSING else ', error="invalid_token"'  # RFC 6750 §3.1
    return Problem(code, detail, headers={"WWW-Authenticate": f'Bearer realm="celeriac"{error}'})


def _said_of(error: jwt.PyJWTError) -> str:
    """What is wrong with a token, for people."""
    return next((said for kind, said in SAID.items() if isinstance(error, kind)), "It is no token that can be checked.")


def _text(value: str) -> str:
    try:
        return check_text(value, "it")
    except InvalidValue as error:
        raise ValueError(str(error)) from None


def _organization(value: str) -> str:
    if value == ALL:
        raise ValueError("that stands for all organizations")
    if value.startswith(DELIVERING):
        raise ValueError("an organization that only delivers has no users")
    return value


_Name = Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(_text)]


class Whose(BaseModel):
    """A user of an organization, as whoever vouches for them says it."""

    model_config = ConfigDict(strict=True)

    sub: _Name
    org: Annotated[_Name, AfterValidator(_organization)]


class _Claims(Whose):
    permissions: list[str]
    exp: int | float
    iat: int | float
    jti: Annotated[str, StringConstraints(max_length=1000), AfterValidator(_text)] | None = None


class _Known(NamedTuple):
    key: Any
    principal: Principal


class _Verified:
    """Tokens that were checked, with their principals: the caller who polls sends the same one each time.

    A token is checked anew when it expires, and when its key is another object: keys were fetched since.
    """

    def __init__(self, algorithms: list[str], settings: Settings) -> None:
        self._algorithms = algorithms
        self._settings = settings
        self._known: dict[str, _Known] = {}

    def principal(self, token: str, *keys: Any) -> Principal:
        """Whom a token names that one of these keys has signed. Raises the 401 problem."""
        known = self._known.pop(token, None)
        is_ours = known is not None and any(known.key is key for key in keys)
        if known is not None and is_ours and time.time() < known.principal.expires + LEEWAY:
            self._known[token] = known  # the last to be forgotten
            return known.principal
        key, claims = self._signed(token, keys)
        expires = int(claims.exp)  # as PyJWT reads it
        proof = Proof(claims.jti, claims.iat)
        principal = Principal(claims.org, claims.sub, frozenset(claims.permissions), expires, proof=proof)
        if len(self._known) >= MOST_VERIFIED:
            del self._known[next(iter(self._known))]  # the one used longest ago
        self._known[token] = _Known(key, principal)
        return principal

    def _signed(self, token: str, keys: Sequence[Any]) -> tuple[Any, _Claims]:
        """Which of the keys has signed it, and what it says."""
        key = next((key for key in keys[:-1] if _has_signed(key, token, self._algorithms)), keys[-1])
        return key, _claims(token, key, self._algorithms, self._settings)


# Whether the key is the right one; the claims are looked at afterwards.
_SIGNATURE_ONLY: Any = {
    "verify_signature": True,
    **{f"verify_{claim}": False for claim in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")},
}


def _has_signed(key: Any, token: str, algorithms: list[str]) -> bool:
    try:
        jwt.decode(token, key, algorithms=algorithms, options=_SIGNATURE_ONLY)
    except jwt.PyJWTError:
        return False
    return True


def _claims(token: str, key: Any, algorithms: list[str], settings: Settings) -> _Claims:
    try:
        decoded = jwt.decode_complete(
            token,
            key,
            algorithms=algorithms,
            audience=settings.jwt_audience,
            issuer=settings.jwt_issuer,
            leeway=LEEWAY,
            options={"require": list(REQUIRED_CLAIMS), "enforce_minimum_key_length": True},
        )
        claims = _Claims.model_validate(decoded["payload"])
    except jwt.ExpiredSignatureError:
        raise unauthorized(Code.TOKEN_EXPIRED, "Get a new token.") from None
    except jwt.MissingRequiredClaimError as error:
        raise unauthorized(Code.TOKEN_INVALID, f"The claim {error.claim} is missing.") from None
    except jwt.PyJWTError as error:
        # PyJWT calls a token that cannot be read and one with such a time by one name.
        is_read = isinstance(error, jwt.DecodeError) and _has_signed(key, token, algorithms)
        raise unauthorized(Code.TOKEN_INVALID, NO_TIME if is_read else _said_of(error)) from None
    except ValidationError as error:
        raise unauthorized(Code.TOKEN_INVALID, f"The claim {error.errors()[0]['loc'][0]} is not valid.") from None
    kind = decoded["header"].get("typ", TYPES[0])
    if not isinstance(kind, str) or kind.lower() not in TYPES:
        raise unauthorized(Code.TOKEN_INVALID, "Its `typ` says that it is made for something else.")
    if claims.exp - claims.iat > settings.token_life:
        detail = f"It is made for longer than {settings.token_life} seconds, from `iat` to `exp`."
        raise unauthorized(Code.TOKEN_INVALID, detail)
    return claims
